"""The codec's transformers: causal, rotary positions, one on each side of the quantizer.

Every position attends to all earlier ones. The original's config names a `sliding_window`, but its code
never applies it offline (measured: setting it to a million changes nothing; applying it costs 11-17 dB),
so it is read by the converter and not used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import MimiConfig
from sopro_np.errors import ModelError
from sopro_np.layers import LayerNorm, Linear, apart
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

    def __call__(self, x: np.ndarray, kvs: Sequence[KV], rope: Rope, firsts: Sequence[int]) -> np.ndarray:
        """x (T, H) -> (T, H); its rows are positions first, first + 1, ..., all earlier ones are in the KV.

        With several KVs: equally many rows of each stream, one stream below the other.
        """
        h = self.norm1(x)
        q, k, v = self.query(h), self.key(h), self.value(h)

        def attend(rows: slice, stream: tuple[KV, int]) -> np.ndarray:
            kv, first = stream
            kv.append(ops.rope(k[rows], rope.cos, rope.sin, self.heads, first), v[rows], first)
            turned = ops.rope(q[rows], rope.cos, rope.sin, self.heads, first)
            keys = first + (rows.stop - rows.start)
            return ops.attention(turned, kv.keys, kv.values, self.heads, first=first, keys=keys)

        streams = list(zip(kvs, firsts, strict=True))
        a = attend(slice(0, len(x)), streams[0]) if len(streams) == 1 else apart(x, streams, attend)
        x = self.out(a, scale=self.scale1, residual=x)
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

    def new_state(self, positions: int) -> list[KV]:
        """Memory for that many positions."""
        return [KV.zeros(positions, layer.key.weight.shape[0]) for layer in self.layers]

    def check(self, kvs: list[KV], last: int) -> None:
        """Is there room, and are there angles, for the positions before `last`?"""
        if last > len(self.rope.cos):
            raise ModelError(
                f"position {last} lies beyond the codec's {len(self.rope.cos)}: the audio is too long in one piece"
            )
        if any(last > len(kv.keys) for kv in kvs):
            raise ModelError(f"the stream is longer than the {len(kvs[0].keys)} positions reserved for it")

    def __call__(self, x: np.ndarray, states: Sequence[list[KV]], firsts: Sequence[int]) -> np.ndarray:
        """x (T, H), positions first, first + 1, ... of one stream or of several, one below the other -> (T, H)."""
        for layer, kvs in zip(self.layers, zip(*states, strict=True), strict=True):
            x = layer(x, kvs, self.rope, firsts)
        return x
