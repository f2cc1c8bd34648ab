"""The convolutional halves of the codec: waveform -> 25 Hz features, and back (SEANet, arXiv 2009.02095).

A causal convolution is a linear layer with a memory of its last inputs. A transposed convolution with
stride s is the same thing with s outputs per row, laid end to end:

    out[t*s + j] = b + sum_m W[j + m*s] x[t - m],   j = 0..s-1

so its memory, too, is its last inputs, and the samples that upstream trims at the end never come to be. Where an ELU
comes first, the memory holds what went into the ELU; silence is zero on both sides of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sopro_np import ops
from sopro_np.config import MimiConfig
from sopro_np.errors import FormatError
from sopro_np.ops.quant import QTensor
from sopro_np.state import Tail
from sopro_np.weights import Weights

PIECE_BYTES = 1 << 19  # of one layer's rows in the decoder: half a second-level cache of a small board's core


class Layer(Protocol):
    """What a SEANet is a list of."""

    def new_state(self) -> list[Tail]: ...
    def __call__(self, x: np.ndarray, tails: list[Tail]) -> np.ndarray: ...


@dataclass(frozen=True)
class CausalConv:
    """Convolution that sees (K-1)*dilation + 1 - stride frames of the past; `pre`: activation of its input."""

    weight: QTensor  # (N, K*C)
    bias: np.ndarray | None
    stride: int = 1
    dilation: int = 1
    pre: str | None = None  # or "elu"

    @staticmethod
    def read(w: Weights, inputs: int, stride: int = 1, dilation: int = 1, pre: str | None = None) -> CausalConv:
        weight = w.matrix("weight", None, inputs, taps=None)
        conv = CausalConv(weight, w.vector("bias", weight.shape[0]), stride, dilation, pre)
        if conv.past < 0:
            raise FormatError(f"{w.prefix}weight: {weight.taps} taps cannot cover a stride of {stride}")
        return conv

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def past(self) -> int:
        return (self.weight.taps - 1) * self.dilation + 1 - self.stride

    def new_state(self) -> list[Tail]:
        return [Tail.zeros(self.past, self.weight.inputs)]

    def __call__(self, x: np.ndarray, tails: list[Tail], residual: np.ndarray | None = None) -> np.ndarray:
        """x (T, C) -> (ceil(T/stride), N), plus `residual`.

        A T that is no multiple of the stride ends the stream (zeros follow).
        """
        if rest := -len(x) % self.stride:
            x = np.concatenate([x, np.zeros((rest, x.shape[1]), np.float32)])
        past = tails[0]
        y = ops.conv(x, self.weight, self.bias, self.stride, self.dilation, past.rows, self.pre, residual)
        past.push(x)
        return y


@dataclass(frozen=True)
class Upsample:
    """ELU, then a transposed convolution: `stride` frames out for one in."""

    weight: QTensor  # (stride*N, m*C)
    bias: np.ndarray  # (stride*N,)
    stride: int

    @staticmethod
    def read(w: Weights, inputs: int, stride: int) -> Upsample:
        weight = w.matrix("weight", None, inputs, taps=None)
        if weight.shape[0] % stride:
            raise FormatError(f"{w.prefix}weight: {weight.shape[0]} rows are no multiple of the stride {stride}")
        bias = w.vector("bias", weight.shape[0] // stride)
        return Upsample(weight, np.tile(bias, stride), stride)

    @property
    def outputs(self) -> int:
        return self.weight.shape[0] // self.stride

    def new_state(self) -> list[Tail]:
        return [Tail.zeros(self.weight.taps - 1, self.weight.inputs)]

    def __call__(self, x: np.ndarray, tails: list[Tail]) -> np.ndarray:
        """x (T, C) -> (T*stride, N)."""
        y = ops.conv(x, self.weight, self.bias, past=tails[0].rows, pre="elu")
        tails[0].push(x)
        return y.reshape(len(x) * self.stride, self.outputs)


@dataclass(frozen=True)
class Residual:
    """x + conv(ELU(conv(ELU(x)))), the second one of one tap."""

    convs: tuple[CausalConv, CausalConv]
    shortcut: CausalConv | None

    @staticmethod
    def read(w: Weights, width: int, dilation: int) -> Residual:
        first = CausalConv.read(w.scope("conv.0"), width, dilation=dilation, pre="elu")
        second = CausalConv.read(w.scope("conv.1"), first.outputs, pre="elu")
        has_shortcut = w.scope("shortcut").has("weight")
        return Residual((first, second), CausalConv.read(w.scope("shortcut"), width) if has_shortcut else None)

    def new_state(self) -> list[Tail]:
        """One tail per convolution, the shortcut's last."""
        convs = (*self.convs, self.shortcut) if self.shortcut else self.convs
        return [tail for conv in convs for tail in conv.new_state()]

    def __call__(self, x: np.ndarray, tails: list[Tail]) -> np.ndarray:
        """(T, C) -> (T, C)."""
        residual = self.shortcut(x, tails[2:]) if self.shortcut else x
        return self.convs[1](self.convs[0](x, tails[:1]), tails[1:2], residual)


@dataclass(frozen=True)
class Seanet:
    """A list of layers with the numbers they have in the original's module list."""

    layers: tuple[Layer, ...]
    numbers: tuple[int, ...]
    grows: bool = False  # every layer gives as many rows as it takes, or more: the decoder

    def new_state(self) -> list[list[Tail]]:
        return [layer.new_state() for layer in self.layers]

    def __call__(self, x: np.ndarray, tails: list[list[Tail]], first: int = 0) -> np.ndarray:
        """x through the layers from `first` on. Where the rows have become too many for the cache, the remaining
        layers take them in pieces, one after the other."""
        for i in range(first, len(self.layers)):
            if self.grows and x.nbytes > PIECE_BYTES and len(x) > 1:
                step = max(1, len(x) * PIECE_BYTES // x.nbytes)
                return ops.concat([self(x[a : a + step], tails, i) for a in range(0, len(x), step)])
            x = self.layers[i](x, tails[i])
        return x


def read_encoder(w: Weights, config: MimiConfig) -> Seanet:
    """conv, then per ratio (decoder's order reversed) residual block(s) and a strided convolution, then conv."""
    build = _Builder(w, 1)
    build.conv(None)
    for ratio in reversed(config.ratios):
        build.residuals(config)
        build.number += 1  # the ELU
        build.conv("elu", stride=ratio)
    build.number += 1
    build.conv("elu")
    return build.done(config.width)


def read_decoder(w: Weights, config: MimiConfig) -> Seanet:
    """conv, then per ratio a transposed convolution and residual block(s), then conv to one channel."""
    build = _Builder(w, config.width)
    build.conv(None)
    for ratio in config.ratios:
        build.number += 1
        build.upsample(ratio)
        build.residuals(config)
    build.number += 1
    build.conv("elu")
    return build.done(1, grows=True)


class _Builder:
    """Reads layer after layer, keeping the channel count and the original's numbering."""

    def __init__(self, w: Weights, channels: int) -> None:
        self.w, self.channels, self.number = w, channels, 0
        self.layers: list[Layer] = []
        self.numbers: list[int] = []

    def _add(self, layer: Layer) -> None:
        self.layers.append(layer)
        self.numbers.append(self.number)
        self.number += 1

    def conv(self, pre: str | None, stride: int = 1) -> None:
        layer = CausalConv.read(self.w.scope(self.number), self.channels, stride, pre=pre)
        self._add(layer)
        self.channels = layer.outputs

    def upsample(self, stride: int) -> None:
        layer = Upsample.read(self.w.scope(self.number), self.channels, stride)
        self._add(layer)
        self.channels = layer.outputs

    def residuals(self, config: MimiConfig) -> None:
        for j in range(config.residual_layers):
            self._add(Residual.read(self.w.scope(self.number), self.channels, config.dilation_growth**j))

    def done(self, channels: int, grows: bool = False) -> Seanet:
        if self.channels != channels:
            raise FormatError(f"{self.w.prefix}: ends in {self.channels} channels, {channels} were expected")
        return Seanet(tuple(self.layers), tuple(self.numbers), grows)
