"""Reference codes -> what a voice is to this model: a speaker vector, and a sequence to attend to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.layers import (
    ConvBlock,
    DepthwiseConv,
    Linear,
    RMSNorm,
    read_blocks,
    run_whole,
    sum_of_codes,
)
from sopro_np.ops.quant import QTensor
from sopro_np.weights import Weights


@dataclass(frozen=True)
class SpeakerEncoder:
    """Codes -> unit vector: mix, two convolutions, attentive statistics, projection. Upstream's Token2SV."""

    table: QTensor  # (Q*V, E)
    code_weights: np.ndarray  # (Q,)
    code_values: int
    convs: tuple[DepthwiseConv, DepthwiseConv]
    pool_hidden: Linear  # act "tanh"
    pool_score: Linear
    out: Linear

    @staticmethod
    def read(w: Weights, config: SoproConfig) -> SpeakerEncoder:
        table = w.table("embed.weight", config.codebooks * config.code_values, None)
        width = table.shape[1]
        return SpeakerEncoder(
            table,
            w.vector("code_weights", config.codebooks),
            config.code_values,
            (DepthwiseConv.read(w.scope("conv.0"), width), DepthwiseConv.read(w.scope("conv.1"), width)),
            Linear.read(w.scope("pool.hidden"), width, width, act="tanh"),
            Linear.read(w.scope("pool.score"), 1, width),
            Linear.read(w.scope("out"), config.speaker_width, 2 * width),
        )

    def mix(self, codes: np.ndarray) -> np.ndarray:
        """codes (R, Q) -> (R, E)."""
        return sum_of_codes(codes, self.table, self.code_weights, self.code_values)

    def encode(self, mixed: np.ndarray) -> np.ndarray:
        """(R, E) -> (R, E)."""
        for conv in self.convs:
            mixed = ops.gelu(conv(mixed, conv.new_state()))
        return mixed

    def pool(self, x: np.ndarray) -> np.ndarray:
        """Weighted mean and deviation over time, the weights by attention. (R, E) -> (2E,)."""
        scores = self.pool_score(self.pool_hidden(x))
        weights = ops.softmax(scores[:, 0])[:, None]
        mean = (weights * x).sum(axis=0)
        variance = (weights * (x - mean) ** 2).sum(axis=0)
        return np.concatenate([mean, np.sqrt(np.maximum(variance, np.float32(1e-6)))])

    def project(self, pooled: np.ndarray) -> np.ndarray:
        """(2E,) -> unit vector (speaker_width,)."""
        e = self.out(pooled[None])[0]
        return e / max(np.sqrt((e * e).sum()), np.float32(1e-6))

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """codes (R, Q) -> (speaker_width,)."""
        return self.project(self.pool(self.encode(self.mix(codes))))


@dataclass(frozen=True)
class ReferenceEncoder:
    """Codes -> sequence that the conditioning attends to."""

    table: QTensor  # (Q*V + 1, D): the model's code embedding
    code_weights: np.ndarray  # (Q,)
    code_values: int
    blocks: tuple[ConvBlock, ...]
    norm: RMSNorm

    @staticmethod
    def read(w: Weights, config: SoproConfig, table: QTensor) -> ReferenceEncoder:
        return ReferenceEncoder(
            table,
            w.vector("code_weights", config.codebooks),
            config.code_values,
            read_blocks(w.scope("blocks"), config.width, [1] * config.voice_layers, causal=False),
            RMSNorm.read(w.scope("norm"), config.width),
        )

    def mix(self, codes: np.ndarray) -> np.ndarray:
        """codes (R, Q) -> (R, D)."""
        return sum_of_codes(codes, self.table, self.code_weights, self.code_values)

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """codes (R, Q) -> (R, D)."""
        return self.norm(run_whole(self.blocks, self.mix(codes)))
