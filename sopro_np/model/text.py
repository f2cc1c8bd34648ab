"""Text ids -> what the rest of the model attends to, and one vector that says what the sentence is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.errors import UsageError
from sopro_np.layers import ConvBlock, RMSNorm, read_blocks, run_whole
from sopro_np.ops.quant import QTensor
from sopro_np.weights import Weights


@dataclass(frozen=True)
class TextEncoder:
    """Embedding + position, non-causal blocks, norm."""

    table: QTensor  # (vocabulary, D), rows read from the file one by one
    positions: np.ndarray  # (S_max, D)
    blocks: tuple[ConvBlock, ...]
    norm: RMSNorm

    @staticmethod
    def read(w: Weights, config: SoproConfig) -> TextEncoder:
        d = config.width
        return TextEncoder(
            w.table("embed.weight", None, d),
            w.mapped("positions", None, d),
            read_blocks(w.scope("blocks"), d, [1] * config.text_layers, causal=False),
            RMSNorm.read(w.scope("norm"), d),
        )

    @property
    def vocabulary(self) -> int:
        return self.table.shape[0]

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """ids (S,) -> (S, D), the sinusoid of the position added."""
        if len(ids) == 0:
            raise UsageError("the text is empty: there is nothing to say")
        if len(ids) > len(self.positions):
            raise UsageError(f"the text has {len(ids)} tokens, the model takes at most {len(self.positions)}: split it")
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            raise UsageError(f"a text id lies outside 0..{self.vocabulary - 1}: tokenizer and model disagree")
        return ops.embed(ids, self.table) + self.positions[: len(ids)]

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids (S,) -> sequence (S, D), pooled (D,)."""
        sequence = self.norm(run_whole(self.blocks, self.embed(ids)))
        return sequence, pool(sequence)


def pool(sequence: np.ndarray) -> np.ndarray:
    """Mean over time, with upstream's 1e-6 in the denominator. (S, D) -> (D,)."""
    return sequence.sum(axis=0) / np.float32(len(sequence) + 1e-6)
