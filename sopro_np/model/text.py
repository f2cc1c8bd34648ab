"""Text ids -> what the rest of the model attends to, and one vector that says what the sentence is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.errors import FormatError, UsageError
from sopro_np.layers import ConvBlock, RMSNorm, read_blocks, run_whole
from sopro_np.ops.quant import QTensor
from sopro_np.weights import Weights


@dataclass(frozen=True)
class TextEncoder:
    """Embedding + position, non-causal blocks, norm."""

    table: QTensor  # (rows, D), read from the file one by one
    rows: np.ndarray | None  # (vocabulary,) row of every id, -1: it has none; None: id and row are the same
    positions: np.ndarray  # (S_max, D), float32 or float16
    blocks: tuple[ConvBlock, ...]
    norm: RMSNorm

    @staticmethod
    def read(w: Weights, config: SoproConfig) -> TextEncoder:
        d = config.width
        return TextEncoder(
            w.table("embed.weight", None, d),
            w.mapped("rows", None, types=("I32",)) if w.has("rows") else None,
            w.mapped("positions", None, d, types=("F32", "F16")),
            read_blocks(w.scope("blocks"), d, [1] * config.text_layers, causal=False),
            RMSNorm.read(w.scope("norm"), d),
        )

    @property
    def vocabulary(self) -> int:
        return self.table.shape[0] if self.rows is None else len(self.rows)

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """ids (S,) -> (S, D), the sinusoid of the position added."""
        if len(ids) == 0:
            raise UsageError("the text is empty: there is nothing to say")
        if len(ids) > len(self.positions):
            raise UsageError(f"the text has {len(ids)} tokens, the model takes at most {len(self.positions)}: split it")
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            raise UsageError(f"a text id lies outside 0..{self.vocabulary - 1}: tokenizer and model disagree")
        x = ops.embed(self._rows(ids), self.table) + self.positions[: len(ids)]
        self.table.drop()  # large, and few of its rows were read
        return x

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Where the ids (S,) lie in the table."""
        if self.rows is None:
            return ids
        rows = self.rows[ids]
        if rows.min() < 0:
            raise UsageError(f"text id {ids[rows.argmin()]} is not in this file's limited vocabulary")
        if rows.max() >= self.table.shape[0]:
            raise FormatError("sopro.text.rows: a row lies outside sopro.text.embed.weight")
        return rows

    def __call__(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids (S,) -> sequence (S, D), pooled (D,)."""
        sequence = self.norm(run_whole(self.blocks, self.embed(ids)))
        return sequence, pool(sequence)


def pool(sequence: np.ndarray) -> np.ndarray:
    """Mean over time, with upstream's 1e-6 in the denominator. (S, D) -> (D,)."""
    return sequence.sum(axis=0) / np.float32(len(sequence) + 1e-6)
