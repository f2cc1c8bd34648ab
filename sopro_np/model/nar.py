"""The other codebooks, a stage at a time: codebook 0 -> 1..3 -> 4..7 -> ... for a stretch of frames at once.

One class serves both ways of padding. Causal blocks look only back: with their tails the result is exact
for any cut. "Same" blocks also look ahead: then the caller hands over some frames more than it takes
(`keep`), which serve as future now and are computed again later. Given all frames at once, nothing is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.layers import ConvBlock, Linear, RMSNorm, read_blocks, table_rows
from sopro_np.ops.quant import QTensor
from sopro_np.state import Tail
from sopro_np.weights import Weights

Tails = Sequence[Tail] | Sequence[list[Tail]]  # per block; of one stream, or of each of several
HEAD_FRAMES = 32  # frames whose logits are in memory at a time: those of 400 frames would be 52 MB
STEP_FRAMES = 64  # so many frames are refined in one step; of more, one stage after the other


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

    def new_state(self) -> list[Tail]:
        return [block.new_state() for block in self.blocks]

    def __call__(self, x: np.ndarray, tails: Tails, keep: int) -> np.ndarray:
        """(T, D) -> (T, H)."""
        for i, block in enumerate(self.blocks):
            x = block(x, tails[i], keep)
        return self.pre(self.norm(x))


@dataclass(frozen=True)
class Stage:
    """One stage: which codebooks it fills, from which it reads, and its constants.

    Codes travel as ids, the rows q*V + code of the table of all codebooks, in columns in the order in which codebooks
    are filled: a stage reads the first ones and writes those that follow.
    """

    codebooks: tuple[int, ...]
    known_weights: np.ndarray  # (n,) of the n codebooks filled before
    mix: np.ndarray  # (2,): conditioning, known codes
    gain: np.ndarray | None  # (D,) norm weight times stage gain; None: no norm before the trunk
    shift: np.ndarray | None  # (D,)
    trunk: Trunk
    heads: Linear  # (len(codebooks) * V, H): all heads of the stage, one below the other

    @staticmethod
    def read(w: Weights, config: SoproConfig, index: int, trunk: Trunk) -> Stage:
        codebooks = config.stages[index]
        known = 1 + sum(map(len, config.stages[:index]))
        adapted = w.has("gain")
        return Stage(
            codebooks,
            w.vector("known_weights", known),
            w.vector("mix", 2),
            w.vector("gain", config.width) if adapted else None,
            w.vector("shift", config.width) if adapted else None,
            trunk,
            Linear.read(w.scope("heads"), len(codebooks) * config.code_values, trunk.pre.weight.shape[0]),
        )

    @cached_property
    def gains(self) -> tuple[np.ndarray, np.ndarray]:
        """`mix` for every channel, (1, D) each."""
        one = np.ones((1, len(self.trunk.norm.weight)), np.float32)
        return self.mix[0] * one, self.mix[1] * one

    @cached_property
    def offsets(self) -> np.ndarray:
        """Id of code 0 of every codebook of this stage, (len(codebooks),) int64."""
        return np.array(self.codebooks, np.int64) * (self.heads.weight.shape[0] // len(self.codebooks))

    @property
    def known(self) -> int:
        """How many codebooks are filled before this stage."""
        return len(self.known_weights)

    def known_sum(self, ids: np.ndarray, table: QTensor) -> np.ndarray:
        """What is known already, embedded. ids (T, known or more) -> (T, D)."""
        return ops.embed_sum(ids[:, : self.known], table, self.known_weights)

    def features(self, condition: np.ndarray, known: np.ndarray, tails: Tails, keep: int) -> np.ndarray:
        """condition, known (T, D) -> what the heads look at (T, H). (A convolution of one tap is a gain.)"""
        x = ops.depthwise_conv(condition, self.gains[0], residual=ops.depthwise_conv(known, self.gains[1]))
        if self.gain is not None:
            x = ops.rms_norm(x, self.gain, shift=self.shift)
        return self.trunk(x, tails, keep)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """features (T, H) -> (T, heads, V)."""
        return self.heads(features).reshape(len(features), len(self.codebooks), -1)

    def fill(self, condition: np.ndarray, ids: np.ndarray, table: QTensor, tails: Tails, keep: int) -> None:
        """The likeliest codes of this stage's codebooks, into the columns of ids (T, n) that are theirs."""
        features = self.features(condition, self.known_sum(ids, table), tails, keep)
        for a in range(0, len(features), HEAD_FRAMES):
            some = slice(a, a + HEAD_FRAMES)
            ops.argmax_rows(self.heads(features[some]), ids[some], self.known, self.offsets)


@dataclass
class NarState:
    """Conv tails of every stage."""

    tails: list[list[Tail]]

    @cached_property
    def arrays(self) -> ops.Arrays:
        """All of them."""
        return ops.Arrays(tail.rows for tails in self.tails for tail in tails)


@dataclass(frozen=True)
class Refiner:
    """All stages in order. Upstream's nar_refine."""

    table: QTensor  # (Q*V + 1, D)
    stages: tuple[Stage, ...]
    codebooks: int
    code_values: int
    looks_ahead: bool
    order: tuple[int, ...]  # codebooks in the order in which they are filled

    @staticmethod
    def read(w: Weights, config: SoproConfig, table: QTensor) -> Refiner:
        shared = Trunk.read(w.scope("trunk"), config) if config.nar_trunk == "shared" else None
        stages = []
        for i in range(len(config.stages)):
            stage = w.scope(i)
            stages.append(Stage.read(stage, config, i, shared or Trunk.read(stage.scope("trunk"), config)))
        order = (0, *(q for stage in config.stages for q in stage))
        return Refiner(table, tuple(stages), config.codebooks, config.code_values, config.nar_padding == "same", order)

    def new_state(self) -> NarState:
        return NarState([stage.trunk.new_state() for stage in self.stages])

    def __call__(
        self, condition: np.ndarray, first: np.ndarray, state: NarState, keep: int | None = None
    ) -> np.ndarray:
        """Finished codes. condition (T, D), first (T,): codebook 0 -> (keep, Q). Uncovered codebooks stay 0."""
        *_, codes = self.refine(condition, first, state, keep)
        assert codes is not None
        return codes

    def refine(
        self, condition: np.ndarray, first: np.ndarray, state: NarState, keep: int | None = None
    ) -> Iterator[np.ndarray | None]:
        """The same in bounded pieces of work: None after each but the last, which gives the codes."""
        keep = len(first) if keep is None else keep
        if len(first) <= STEP_FRAMES:
            yield self.refine_together(condition, first, [state], keep)[0]
            return
        ids = self._ids(first)
        for i, (stage, tails) in enumerate(zip(self.stages, state.tails, strict=True)):
            if i:
                yield None
            ids = self._filled(stage, condition, ids, tails, keep)
            self.table.drop()  # 25 MB, of which every code touches a row
        yield self._codes(ids[:keep])

    def _filled(self, stage: Stage, condition: np.ndarray, ids: np.ndarray, tails: list[Tail], keep: int) -> np.ndarray:
        """`ids` with the codes of one stage."""

        def fill(condition: np.ndarray, ids: np.ndarray) -> np.ndarray:
            stage.fill(condition, ids, self.table, tails, keep)
            return ids

        arrays = ops.Arrays(tail.rows for tail in tails)
        return ops.replay(stage, f"fill {keep} frames", fill, (condition, ids), arrays)

    def refine_together(
        self, condition: np.ndarray, first: np.ndarray, states: Sequence[NarState], keep: int
    ) -> list[np.ndarray]:
        """Blocks of several streams, T frames each, with the weights read once.

        condition (B*T, D), first (B*T,), stream below stream -> per stream (keep, Q).
        """

        def fill(condition: np.ndarray, ids: np.ndarray) -> np.ndarray:
            for i, stage in enumerate(self.stages):
                tails: Tails = states[0].tails[i]
                if len(states) > 1:
                    tails = [list(own) for own in zip(*(state.tails[i] for state in states), strict=True)]
                stage.fill(condition, ids, self.table, tails, keep)
            return ids

        arrays = ops.Arrays.joined([state.arrays for state in states])
        name = f"refine {keep} frames of {len(states)}"
        ids = ops.replay(self, name, fill, (condition, self._ids(first)), arrays)
        self.table.drop()
        frames = len(first) // len(states)
        return [self._codes(ids[a : a + keep]) for a in range(0, len(first), frames)]

    def _ids(self, first: np.ndarray) -> np.ndarray:
        """Room for all ids, of which those of codebook 0 are known: its codes. (T,) -> (T, len(order))."""
        ids = np.zeros((len(first), len(self.order)), np.int64)
        ids[:, 0] = first
        return ids

    def _codes(self, ids: np.ndarray) -> np.ndarray:
        """(T, len(order)) -> (T, Q); codebooks that nobody fills stay 0."""
        codes = np.zeros((len(ids), self.codebooks), np.int64)
        codes[:, self.order] = ids - np.array(self.order) * self.code_values
        return codes

    def forced_logits(self, condition: np.ndarray, codes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Every stage fed with the codes given, whatever it would have chosen itself.

        condition (T, D), codes (T, Q) -> per stage: what it knew (T, D), its logits (T, heads, V).
        """
        ids = table_rows(codes[:, self.order], self.order, self.code_values)
        for stage, tails in zip(self.stages, self.new_state().tails, strict=True):
            known = stage.known_sum(ids, self.table)
            yield known, stage.logits(stage.features(condition, known, tails, len(codes)))
