"""Residual vector quantisation: a vector as a list of codes, each one correcting what the ones before left over.

Two quantizers stand side by side: the semantic one (codebook 0) and the acoustic one (the others); both look
at the same vector, and what they decode is added (arXiv 2410.00037, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import MimiConfig
from sopro_np.errors import FormatError
from sopro_np.layers import Linear
from sopro_np.ops.quant import QTensor
from sopro_np.weights import Weights


@dataclass(frozen=True)
class ResidualQuantizer:
    """input projection -> codebooks in a row -> output projection; no projections where the widths agree."""

    input: Linear | None  # None, too, in a file that only speaks: it is for encoding
    output: Linear | None
    codebooks: tuple[QTensor, ...]  # (V, C) each

    @staticmethod
    def read(w: Weights, config: MimiConfig, codebooks: int, hears: bool) -> ResidualQuantizer:
        projected = w.scope("output").has("weight")
        if not projected and config.code_width != config.width:
            raise FormatError(f"tensor {w.prefix}output.weight is missing: codes are {config.code_width} wide")
        return ResidualQuantizer(
            Linear.read(w.scope("input"), config.code_width, config.width, bias=False) if projected and hears else None,
            Linear.read(w.scope("output"), config.width, config.code_width, bias=False) if projected else None,
            tuple(w.table(f"codebook.{j}", config.code_values, config.code_width) for j in range(codebooks)),
        )

    def project(self, x: np.ndarray) -> np.ndarray:
        """(T, H) -> (T, C)."""
        return x if self.input is None else self.input(x)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """x (T, H) -> codes (T, n): the nearest row, subtract it, the nearest to the rest, ..."""
        rest = self.project(x)
        codes = np.empty((len(x), len(self.codebooks)), np.int64)
        for j, table in enumerate(self.codebooks):
            codes[:, j] = ops.nearest_row(rest, table.dequantize())
            rest = rest - ops.embed(codes[:, j], table)
            table.drop()  # read once, one after the other: together they are 33 MB
        return codes

    def decode(self, codes: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
        """residual + the sum of the codes' rows, projected. codes (T, n), 1 <= n <= number of codebooks -> (T, H)."""
        total: np.ndarray | None = None
        for j, table in enumerate(self.codebooks[: codes.shape[1]]):
            total = ops.embed(codes[:, j], table, total)
        assert total is not None
        if self.output is not None:
            return self.output(total, residual=residual)
        if residual is None:
            return total
        return ops.depthwise_conv(total, np.ones((1, total.shape[1]), np.float32), residual=residual)  # their sum


@dataclass(frozen=True)
class SplitQuantizer:
    """The semantic and the acoustic quantizer together."""

    semantic: ResidualQuantizer
    acoustic: ResidualQuantizer

    @staticmethod
    def read(w: Weights, config: MimiConfig, hears: bool) -> SplitQuantizer:
        n = config.semantic_codebooks
        return SplitQuantizer(
            ResidualQuantizer.read(w.scope("semantic"), config, n, hears),
            ResidualQuantizer.read(w.scope("acoustic"), config, config.codebooks - n, hears),
        )

    def encode(self, x: np.ndarray) -> np.ndarray:
        """x (T, H) -> codes (T, Q)."""
        return np.concatenate([self.semantic.encode(x), self.acoustic.encode(x)], axis=1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """codes (T, q) of the leading q codebooks -> (T, H)."""
        n = len(self.semantic.codebooks)
        y = self.semantic.decode(codes[:, :n])
        return y if codes.shape[1] <= n else self.acoustic.decode(codes[:, n:], residual=y)

    def drop(self) -> None:
        """Give the pages of all codebooks back: few rows are read of each, but long speech would touch all of them."""
        for table in (*self.semantic.codebooks, *self.acoustic.codebooks):
            table.drop()
