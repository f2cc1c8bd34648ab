"""When is the sentence over? Three answers behind one face.

A rule is asked three things: how many steps may be taken (`steps`), which codes may be drawn (`allow`),
and after each code whether it `is_end` (then it is no frame) or the utterance is over `after` it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.layers import Linear
from sopro_np.ops.quant import QTensor
from sopro_np.weights import Weights


@dataclass
class Stop:
    """Never: only max_frames ends the utterance."""

    def steps(self, max_frames: int) -> int:
        return max_frames

    def allow(self, logits: np.ndarray, frame: int) -> np.ndarray:
        return logits

    def is_end(self, code: int) -> bool:
        return False

    def after(self, frame: int, code: int, row: np.ndarray) -> bool:
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

    def allow(self, logits: np.ndarray, frame: int) -> np.ndarray:
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

    def after(self, frame: int, code: int, row: np.ndarray) -> bool:
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

    def fresh(self, min_frames: int | None, threshold: float | None, patience: int | None) -> Stop:
        """None: the model's own value (for an end code: 0)."""
        c = self.config
        if c.stop == "code":
            return EndCode(c.code_values, min_frames or 0)
        if self.head is None:
            return Stop()
        return StopHead(
            self.head,
            self.table,
            c.stop_threshold if threshold is None else threshold,
            c.stop_patience if patience is None else patience,
            c.min_gen_frames if min_frames is None else min_frames,
        )
