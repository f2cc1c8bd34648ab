"""The other codebooks, a stage at a time: codebook 0 -> 1..3 -> 4..7 -> ... for a stretch of frames at once.

One class serves both ways of padding. Causal blocks look only back: with their tails the result is exact
for any cut. "Same" blocks also look ahead: then the caller hands over some frames more than it takes
(`keep`), which serve as future now and are computed again later. Given all frames at once, nothing is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.layers import ConvBlock, Linear, RMSNorm, read_blocks, sum_of_codes
from sopro_np.ops.quant import QTensor
from sopro_np.state import Tail
from sopro_np.weights import Weights

HEAD_FRAMES = 32  # frames whose logits are in memory at a time


@dataclass(frozen=True)
class Trunk:
    """Blocks, norm and the narrow layer before the heads."""

    blocks: tuple[ConvBlock, ...]
    norm: RMSNorm
    pre: Linear

    @staticmethod
    def read(w: Weights, config: SoproConfig) -> Trunk:
        d = config.width
        return Trunk(
            read_blocks(w.scope("blocks"), d, config.nar_dilations, causal=config.nar_padding == "causal"),
            RMSNorm.read(w.scope("norm"), d),
            Linear.read(w.scope("pre"), None, d),
        )

    def fresh(self) -> list[Tail]:
        return [block.fresh() for block in self.blocks]

    def __call__(self, x: np.ndarray, tails: list[Tail], keep: int) -> np.ndarray:
        """(T, D) -> (T, H)."""
        for block, tail in zip(self.blocks, tails, strict=True):
            x = block(x, tail, keep)
        return self.pre(self.norm(x))


@dataclass(frozen=True)
class Stage:
    """One stage: which codebooks it fills, from which it reads, and its constants."""

    codebooks: tuple[int, ...]
    known: tuple[int, ...]
    known_weights: np.ndarray  # (len(known),)
    mix: np.ndarray  # (2,): conditioning, known codes
    gain: np.ndarray | None  # (D,) norm weight times stage gain; None: no norm before the trunk
    shift: np.ndarray | None  # (D,)
    trunk: Trunk
    heads: Linear  # (len(codebooks) * V, H): all heads of the stage, one below the other

    @staticmethod
    def read(w: Weights, config: SoproConfig, index: int, trunk: Trunk) -> Stage:
        codebooks = config.stages[index]
        known = (0, *(q for stage in config.stages[:index] for q in stage))
        adapted = w.has("gain")
        return Stage(
            codebooks,
            known,
            w.vector("known_weights", len(known)),
            w.vector("mix", 2),
            w.vector("gain", config.width) if adapted else None,
            w.vector("shift", config.width) if adapted else None,
            trunk,
            Linear.read(w.scope("heads"), len(codebooks) * config.code_values, trunk.pre.weight.shape[0]),
        )

    def known_sum(self, codes: np.ndarray, table: QTensor, code_values: int) -> np.ndarray:
        """What is known already, embedded. codes (T, Q) -> (T, D)."""
        return sum_of_codes(codes[:, self.known], self.known, table, self.known_weights, code_values)

    def features(self, condition: np.ndarray, known: np.ndarray, tails: list[Tail], keep: int) -> np.ndarray:
        """condition, known (T, D) -> what the heads look at (T, H)."""
        x = self.mix[0] * condition + self.mix[1] * known
        if self.gain is not None:
            x = ops.rms_norm(x, self.gain, shift=self.shift)
        return self.trunk(x, tails, keep)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """features (T, H) -> (T, heads, V)."""
        return self.heads(features).reshape(len(features), len(self.codebooks), -1)

    def choose(self, features: np.ndarray) -> np.ndarray:
        """The likeliest codes, some frames at a time: all logits of 400 frames would be 52 MB. -> (T, heads)."""
        starts = range(0, len(features), HEAD_FRAMES)
        return np.concatenate([self.logits(features[a : a + HEAD_FRAMES]).argmax(axis=2) for a in starts])


@dataclass
class NarState:
    """Conv tails of every stage."""

    tails: list[list[Tail]]


@dataclass(frozen=True)
class Refiner:
    """All stages in order. Upstream's nar_refine."""

    table: QTensor  # (Q*V + 1, D)
    stages: tuple[Stage, ...]
    codebooks: int
    code_values: int
    looks_ahead: bool

    @staticmethod
    def read(w: Weights, config: SoproConfig, table: QTensor) -> Refiner:
        shared = Trunk.read(w.scope("trunk"), config) if config.nar_trunk == "shared" else None
        stages = []
        for i in range(len(config.stages)):
            stage = w.scope(i)
            stages.append(Stage.read(stage, config, i, shared or Trunk.read(stage.scope("trunk"), config)))
        return Refiner(table, tuple(stages), config.codebooks, config.code_values, config.nar_padding == "same")

    def fresh(self) -> NarState:
        return NarState([stage.trunk.fresh() for stage in self.stages])

    def __call__(
        self, condition: np.ndarray, first: np.ndarray, state: NarState, keep: int | None = None
    ) -> np.ndarray:
        """Finished codes. condition (T, D), first (T,): codebook 0 -> (keep, Q). Uncovered codebooks stay 0."""
        keep = len(first) if keep is None else keep
        codes = np.zeros((len(first), self.codebooks), np.int64)
        codes[:, 0] = first
        for stage, tails in zip(self.stages, state.tails, strict=True):
            known = stage.known_sum(codes, self.table, self.code_values)
            codes[:, stage.codebooks] = stage.choose(stage.features(condition, known, tails, keep))
        return codes[:keep]
