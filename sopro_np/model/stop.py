"""When is the sentence over? Three answers behind one face.

A rule is asked three things: how many steps may be taken (`steps`), which codes may be drawn (`mask_logits`),
and after each code whether it `is_end` (then it is no frame) or the utterance `ends_after` it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.layers import Linear
from sopro_np.ops.quant import QTensor
from sopro_np.options import DEFAULTS, Options
from sopro_np.weights import Weights


@dataclass
class Stop:
    """Never: only max_frames ends the utterance."""

    def steps(self, max_frames: int) -> int:
        return max_frames

    def mask_logits(self, logits: np.ndarray, frame: int) -> np.ndarray:
        return logits

    def is_end(self, code: int) -> bool:
        return False

    def ends_after(self, frame: int, code: int, row: np.ndarray) -> bool:
        """row (D,): the frame's conditioning."""
        return False


@dataclass
class EndCode(Stop):
    """One code value more than the codebook has says "the end".

    As upstream, it may come one step after max_frames, so an utterance has at most max_frames + 1 frames.
    `min_frames`: the end code cannot be drawn before; 0, upstream's behaviour: the first one ends.
    """

    code: int
    min_frames: int

    def steps(self, max_frames: int) -> int:
        return max_frames + 1

    def mask_logits(self, logits: np.ndarray, frame: int) -> np.ndarray:
        if frame >= self.min_frames:
            return logits
        masked = logits.copy()
        masked[self.code] = -np.inf
        return masked

    def is_end(self, code: int) -> bool:
        return code == self.code


@dataclass
class StopHead(Stop):
    """A probability per frame; `patience` frames in a row above `threshold` end the utterance (and are kept)."""

    head: Linear
    table: QTensor
    threshold: float
    patience: int
    min_frames: int
    streak: int = 0

    def probability(self, code: int, row: np.ndarray) -> float:
        """sigmoid(head(conditioning + code embedding))."""
        x = row[None] + ops.embed(np.array([code]), self.table)
        return float(ops.sigmoid(self.head(x))[0, 0])

    def ends_after(self, frame: int, code: int, row: np.ndarray) -> bool:
        late = frame + 1 >= self.min_frames
        self.streak = self.streak + 1 if late and self.probability(code, row) > self.threshold else 0
        return self.streak >= self.patience


@dataclass(frozen=True)
class StopRule:
    """The model's way to stop, from which every utterance gets its own `Stop`."""

    config: SoproConfig
    table: QTensor
    head: Linear | None

    @staticmethod
    def read(w: Weights, config: SoproConfig, table: QTensor) -> StopRule:
        return StopRule(config, table, Linear.read(w, 1, config.width) if config.stop == "head" else None)

    def new_state(self, options: Options = DEFAULTS) -> Stop:
        """Where an option is None, the model's own value stands (for an end code: no least number of frames)."""
        c, o = self.config, options
        if c.stop == "code":
            return EndCode(c.code_values, o.min_gen_frames or 0)
        if self.head is None:
            return Stop()
        return StopHead(
            self.head,
            self.table,
            c.stop_threshold if o.stop_threshold is None else o.stop_threshold,
            c.stop_patience if o.stop_patience is None else o.stop_patience,
            c.min_gen_frames if o.min_gen_frames is None else o.min_gen_frames,
        )
