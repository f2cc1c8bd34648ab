"""The building blocks of the acoustic model: frozen objects that hold weights, called on (T, C) rows.

A layer that looks back takes its state (`layer(x, tail)`), one that does not, takes none. `read` builds a
layer from a scope of the weight file.

Rows are the frames of one stream. With a *list* of states they are equally many frames of each of so many streams,
one stream below the other: only where frames meet (the depthwise convolution, the attention) they go their own ways
(`apart`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from sopro_np import ops
from sopro_np.ops.quant import QTensor
from sopro_np.state import Tail
from sopro_np.weights import Weights

State = TypeVar("State")


class CrossKV(NamedTuple):
    """Keys and values of a CrossAttention, (S, D) each; the first `length` rows are attended to."""

    keys: np.ndarray
    values: np.ndarray
    length: int

    def with_room(self, room: int) -> CrossKV:
        """The same with zeros behind it, up to `room` positions, or twice as many, or four times: steps that attend to
        what fits into the same room are the same step."""
        while room < self.length:
            room *= 2
        spare = np.zeros((room - self.length, self.keys.shape[1]), np.float32)
        keys, values = (np.concatenate([rows[: self.length], spare]) for rows in (self.keys, self.values))
        return CrossKV(keys, values, self.length)


@dataclass(frozen=True)
class Linear:
    """y = act(x W^T + b), or without b where the model has none. (T, C) -> (T, N); act "glu" halves N."""

    weight: QTensor
    bias: np.ndarray | None
    act: str | None = None

    @staticmethod
    def read(w: Weights, outputs: int | None, inputs: int, bias: bool = True, act: str | None = None) -> Linear:
        weight = w.matrix("weight", outputs, inputs, act=act)
        return Linear(weight, w.vector("bias", weight.shape[0]) if bias else None, act)

    def __call__(
        self, x: np.ndarray, scale: np.ndarray | np.float32 | None = None, residual: np.ndarray | None = None
    ) -> np.ndarray:
        """residual + scale * y, each if given."""
        return ops.linear(x, self.weight, self.bias, act=self.act, scale=scale, residual=residual)


@dataclass(frozen=True)
class RMSNorm:
    """x / rms(x) * weight, eps 1e-6."""

    weight: np.ndarray

    @staticmethod
    def read(w: Weights, width: int) -> RMSNorm:
        return RMSNorm(w.vector("weight", width))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ops.rms_norm(x, self.weight)


@dataclass(frozen=True)
class LayerNorm:
    """Mean and variance removed per row, then weight and bias."""

    weight: np.ndarray
    bias: np.ndarray
    eps: float = 1e-5

    @staticmethod
    def read(w: Weights, width: int, eps: float = 1e-5) -> LayerNorm:
        return LayerNorm(w.vector("weight", width), w.vector("bias", width), eps)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)


@dataclass(frozen=True)
class DepthwiseConv:
    """Every channel filtered by itself; as many frames out as in.

    The reach (K-1)*dilation is split into `past` frames, taken from the tail, and `future` frames, taken
    from the rest of the chunk and zero beyond its end. Causal: future = 0.
    """

    weight: np.ndarray  # (K, C): the channels of a tap side by side
    bias: np.ndarray  # (C,)
    dilation: int
    past: int
    future: int

    @staticmethod
    def read(w: Weights, channels: int, dilation: int = 1, causal: bool = False) -> DepthwiseConv:
        weight = np.ascontiguousarray(w.vector("weight", channels, None).T)
        reach = (len(weight) - 1) * dilation
        past = reach if causal else reach // 2
        return DepthwiseConv(weight, w.vector("bias", channels), dilation, past, reach - past)

    def new_state(self) -> Tail:
        return Tail.zeros(self.past, self.weight.shape[1])

    def __call__(
        self, x: np.ndarray, tail: Tail | list[Tail], keep: int | None = None, residual: np.ndarray | None = None
    ) -> np.ndarray:
        """x (T, C) -> (T, C), plus `residual`; `keep`: how many rows become past (Tail.push)."""
        if isinstance(tail, list):
            return apart(
                x, tail, lambda rows, own: self(x[rows], own, keep, None if residual is None else residual[rows])
            )
        y = ops.depthwise_conv(
            x, self.weight, self.bias, dilation=self.dilation, past=tail.rows, future=self.future, residual=residual
        )
        tail.push(x, keep)
        return y


@dataclass(frozen=True)
class ConvBlock:
    """x += conv(GLU(W norm(x)));  x += W2 GELU(W1 norm(x)).   Upstream's SSMLiteBlock.

    The only place where frames meet is the depthwise convolution, so its tail is the block's whole state.
    """

    norm: RMSNorm
    gate: Linear  # act "glu"
    conv: DepthwiseConv
    ff_norm: RMSNorm
    ff_in: Linear  # act "gelu"
    ff_out: Linear

    @staticmethod
    def read(w: Weights, width: int, dilation: int = 1, causal: bool = False) -> ConvBlock:
        ff_in = Linear.read(w.scope("ff_in"), None, width, act="gelu")
        return ConvBlock(
            RMSNorm.read(w.scope("norm"), width),
            Linear.read(w.scope("gate"), 2 * width, width, act="glu"),
            DepthwiseConv.read(w.scope("conv"), width, dilation, causal),
            RMSNorm.read(w.scope("ff_norm"), width),
            ff_in,
            Linear.read(w.scope("ff_out"), width, ff_in.weight.shape[0]),
        )

    def new_state(self) -> Tail:
        return self.conv.new_state()

    def __call__(self, x: np.ndarray, tail: Tail | list[Tail], keep: int | None = None) -> np.ndarray:
        """x (T, D) -> (T, D)."""
        x = self.conv(self.gate(self.norm(x)), tail, keep, residual=x)
        return self.ff_out(self.ff_in(self.ff_norm(x)), residual=x)


def read_blocks(w: Weights, width: int, dilations: Iterable[int], causal: bool) -> tuple[ConvBlock, ...]:
    """Blocks `0.`, `1.`, ... below w, one per dilation."""
    return tuple(ConvBlock.read(w.scope(i), width, d, causal) for i, d in enumerate(dilations))


def run_whole(blocks: Iterable[ConvBlock], x: np.ndarray) -> np.ndarray:
    """A stack over a complete sequence: every tail starts, and ends, here."""
    for block in blocks:
        x = block(x, block.new_state())
    return x


@dataclass(frozen=True)
class CrossAttention:
    """x + gate * out(attention(query(norm(x)), keys, values)).

    Keys and values come from `cross_kv` once per voice or utterance. With `match`, the attended rows are made
    as loud as x first: "values" before the output projection, "output" after it. Upstream's TextXAttn and
    RefXAttn blocks; their tanh gates (times gmax) were folded to one scalar by the converter.
    """

    norm_query: RMSNorm
    norm_memory: RMSNorm
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    gate: np.float32
    heads: int
    match: str | None = None
    clamp: float | None = None

    @staticmethod
    def read(
        w: Weights, width: int, heads: int, bias: bool, match: str | None = None, clamp: float | None = None
    ) -> CrossAttention:
        def square(name: str) -> Linear:
            return Linear.read(w.scope(name), width, width, bias)

        return CrossAttention(
            RMSNorm.read(w.scope("norm_query"), width),
            RMSNorm.read(w.scope("norm_memory"), width),
            square("query"),
            square("key"),
            square("value"),
            square("out"),
            np.float32(w.vector("gate", 1)[0]),
            heads,
            match,
            clamp,
        )

    @cached_property
    def gains(self) -> np.ndarray:
        """The gate for every channel, (1, D)."""
        return np.full((1, self.out.weight.shape[0]), self.gate, np.float32)

    def cross_kv(self, sequence: np.ndarray) -> CrossKV:
        """Keys and values of what is attended to, (S, D)."""
        normed = self.norm_memory(sequence)
        return CrossKV(self.key(normed), self.value(normed), len(sequence))

    def __call__(self, x: np.ndarray, kv: CrossKV | list[CrossKV]) -> np.ndarray:
        """x (T, D) -> (T, D)."""
        a = self.attend(self.query(self.norm_query(x)), kv)
        if self.match == "values":
            a = ops.match_rms(x, a, self.clamp)
        if self.match == "output":  # (a convolution of one tap is a gain)
            return ops.depthwise_conv(ops.match_rms(x, self.out(a), self.clamp), self.gains, residual=x)
        return self.out(a, scale=self.gate, residual=x)

    def attend(self, q: np.ndarray, kv: CrossKV | list[CrossKV]) -> np.ndarray:
        """Queries (T, D) -> the values of the keys that they match (T, D)."""
        if isinstance(kv, list):
            return apart(q, kv, lambda rows, own: self.attend(q[rows], own))
        return ops.attention(q, kv.keys, kv.values, self.heads, keys=kv.length)


def apart(x: np.ndarray, states: Sequence[State], layer: Callable[[slice, State], np.ndarray]) -> np.ndarray:
    """Each stream's rows of x with its own state, the results below one another."""
    rows = len(x) // len(states)
    return ops.concat([layer(slice(i * rows, (i + 1) * rows), state) for i, state in enumerate(states)])


def table_rows(codes: np.ndarray, books: Sequence[int], code_values: int) -> np.ndarray:
    """Where codes lie in a table of all codebooks: row q*V + code. codes (T, n) of the codebooks `books` -> (T, n)."""
    return codes.astype(np.int64) + np.asarray(books, np.int64) * code_values


def sum_of_codes(codes: np.ndarray, table: QTensor, weights: np.ndarray, code_values: int) -> np.ndarray:
    """Weighted sum of the embeddings of all codebooks. codes (T, Q), weights (Q,) -> (T, D)."""
    return ops.embed_sum(table_rows(codes, range(codes.shape[1]), code_values), table, weights)
