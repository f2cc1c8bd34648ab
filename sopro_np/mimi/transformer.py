"""The codec's transformers: causal, rotary positions, one on each side of the quantizer.

Every position attends to all earlier ones. The original's config names a `sliding_window`, but its code
never applies it offline (measured: setting it to a million changes nothing; applying it costs 11-17 dB),
so it is read by the converter and not used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import MimiConfig
from sopro_np.errors import ModelError
from sopro_np.layers import LayerNorm, Linear
from sopro_np.state import KV
from sopro_np.weights import Weights


@dataclass(frozen=True)
class Rope:
    """Cosine and sine of every position's angles, stored in the file (never recomputed per machine)."""

    cos: np.ndarray  # (P_max, d/2)
    sin: np.ndarray

    @staticmethod
    def read(w: Weights) -> Rope:
        cos = w.mapped("cos", None, None)
        return Rope(cos, w.mapped("sin", *cos.shape))

    def rows(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        if last > len(self.cos):
            raise ModelError(
                f"position {last} lies beyond the codec's {len(self.cos)}: the audio is too long in one piece"
            )
        return self.cos[first:last], self.sin[first:last]


@dataclass(frozen=True)
class TransformerLayer:
    """x += s1 * attention(norm(x));  x += s2 * W2 GELU(W1 norm(x))."""

    norm1: LayerNorm
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    scale1: np.ndarray
    norm2: LayerNorm
    ff_in: Linear  # act "gelu"
    ff_out: Linear
    scale2: np.ndarray
    heads: int

    @staticmethod
    def read(w: Weights, config: MimiConfig, inner: int) -> TransformerLayer:
        """`inner`: width of queries, keys and values, all heads together."""
        d = config.width
        ff_in = Linear.read(w.scope("ff_in"), None, d, bias=False, act="gelu")
        return TransformerLayer(
            LayerNorm.read(w.scope("norm1"), d, config.norm_eps),
            Linear.read(w.scope("attention.query"), inner, d, bias=False),
            Linear.read(w.scope("attention.key"), inner, d, bias=False),
            Linear.read(w.scope("attention.value"), inner, d, bias=False),
            Linear.read(w.scope("attention.out"), d, inner, bias=False),
            w.vector("scale1", d),
            LayerNorm.read(w.scope("norm2"), d, config.norm_eps),
            ff_in,
            Linear.read(w.scope("ff_out"), d, ff_in.weight.shape[0], bias=False),
            w.vector("scale2", d),
            config.heads,
        )

    def __call__(self, x: np.ndarray, kv: KV, rope: Rope) -> np.ndarray:
        """x (T, H) -> (T, H); the positions of its rows follow those in `kv`."""
        first = kv.length
        cos, sin = rope.rows(first, first + len(x))
        h = self.norm1(x)
        q = ops.rope(self.query(h), cos, sin, self.heads)
        k, v = kv.append(ops.rope(self.key(h), cos, sin, self.heads), self.value(h))
        x = self.out(ops.attention(q, k, v, self.heads, first=first), scale=self.scale1, residual=x)
        return self.ff_out(self.ff_in(self.norm2(x)), scale=self.scale2, residual=x)


@dataclass(frozen=True)
class Transformer:
    """Layers in a row; no final norm."""

    layers: tuple[TransformerLayer, ...]
    rope: Rope

    @staticmethod
    def read(w: Weights, config: MimiConfig, rope: Rope) -> Transformer:
        inner = config.heads * 2 * rope.cos.shape[1]
        return Transformer(tuple(TransformerLayer.read(w.scope(i), config, inner) for i in range(config.layers)), rope)

    def fresh(self, positions: int) -> list[KV]:
        """Memory for that many positions."""
        return [KV(positions, layer.key.weight.shape[0]) for layer in self.layers]

    def __call__(self, x: np.ndarray, kvs: list[KV]) -> np.ndarray:
        """(T, H) -> (T, H)."""
        for layer, kv in zip(self.layers, kvs, strict=True):
            x = layer(x, kv, self.rope)
        return x
