"""Number formats of weights and activations: how they lie in memory, and how to get back.

A weight matrix W is (N, K*C): N outputs, K taps (1 for a linear layer), C inputs per tap.

    scheme  `data`                           `scale`                 one weight costs
    fp32    float32 (N, K*C)                 -                       4 bytes
    fp16    float16 (N, K*C)                 -                       2
    bf16    uint16  (N, K*C)                 -                       2   (upper half of a float32)
    int8    int8    (N, K*C)                 float32 (N, 1)          1   w = q * scale[n],  |q| <= 127
    int4    int32   (N, K*ceil(C/8))         float32 (N, K*G)        0.5 + 4/32,  G = ceil(C/32)

int4 packs eight weights to a 32-bit word, the first one in the lowest nibble, stored as q + 8
(q = -7..7, so nibbles 1..15); 32 neighbouring inputs share one scale and groups start anew at every tap:

      bit 31                           0
          [q7][q6][q5][q4][q3][q2][q1][q0]      4 words = 1 group = 1 scale
    row n: | tap 0: word 0 1 2 3 | 4 5 6 7 | ... | tap 1: ...

The layouts and tensor names are those of compressed-tensors `int-quantized` and `pack-quantized`;
a convolution (K > 1) is our extension, its `weight_shape` then has three entries (N, K, C).

Activations become int8 with one scale per row (= per frame): amax = max(|x|, 1e-12),
q = rint(x * (127 / amax)) (half to even), scale = amax / 127. A row knows nothing of its neighbours,
so an integer product does not depend on how a stream was cut (with one scale per tensor 99.8 % of rows differ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sopro_np.errors import FormatError
from sopro_np.files import drop_pages

GROUP = 32
NO_NUMBER = "an activation is NaN or infinite: the weights or the input are broken"
SCHEMES = ("fp32", "fp16", "bf16", "int8", "int4")


@dataclass(frozen=True)
class QTensor:
    """A weight matrix in one of the formats above.

    shape = (N, K*C) counts weights, not bytes. `taps` is K. Arrays may be read-only views of a mapped file.
    """

    scheme: str
    shape: tuple[int, int]
    data: np.ndarray
    scale: np.ndarray | None = None
    taps: int = 1

    @property
    def inputs(self) -> int:
        """C, inputs per tap."""
        return self.shape[1] // self.taps

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def rows(self, index: np.ndarray | slice) -> np.ndarray:
        """Float32 copy of the chosen rows, (len(index), K*C). Only these rows of the file are touched."""
        return _DECODE[self.scheme](self, index)

    def drop(self) -> None:
        """What was read of it is not needed any more: if it lies in a mapped file, its pages go back."""
        for array in (self.data, self.scale):
            if array is not None:
                drop_pages(array)

    def dequantize(self) -> np.ndarray:
        """All of W as float32 (N, K*C)."""
        return self.rows(slice(None))


def quantize(w: np.ndarray, scheme: str, taps: int = 1) -> QTensor:
    """Encode w (N, K*C) float32 -> QTensor. Rows are independent, so a matrix may be encoded in row blocks."""
    w = np.ascontiguousarray(w, np.float32)
    if not np.isfinite(w).all():
        raise FormatError("a weight is NaN or infinite: refusing to quantise it")
    data, scale = _ENCODE[scheme](w, taps)
    return QTensor(scheme, (w.shape[0], w.shape[1]), data, scale, taps)


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-frame int8 activations. x (T, C) -> q (T, C) int8, scale (T,) float32. Non-finite input is an error."""
    amax = np.maximum(np.abs(x).max(axis=1), np.float32(1e-12)) if x.shape[1] else np.ones(len(x), np.float32)
    if not np.isfinite(amax).all():
        raise FormatError(NO_NUMBER)
    q = np.rint(x * (np.float32(127) / amax)[:, None]).astype(np.int8)
    return q, (amax / np.float32(127)).astype(np.float32)


def to_bf16(w: np.ndarray) -> np.ndarray:
    """float32 -> the upper 16 bits, rounded half to even, as uint16."""
    bits = np.ascontiguousarray(w, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns -> float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def groups(inputs: int) -> int:
    """Number of int4 scales per tap for C inputs."""
    return -(-inputs // GROUP)


def packed_words(inputs: int) -> int:
    """Number of 32-bit words per tap for C int4 inputs."""
    return -(-inputs // 8)


def unpack_int4(words: np.ndarray, inputs: int) -> np.ndarray:
    """Nibbles -> int8. words (..., ceil(C/8)) int32 -> (..., C) in -8..7."""
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    nibbles = (words.astype(np.uint32)[..., None] >> shifts) & 15
    return (nibbles.reshape(*words.shape[:-1], 8 * words.shape[-1])[..., :inputs].astype(np.int8)) - np.int8(8)


def _encode_int8(w: np.ndarray, taps: int) -> tuple[np.ndarray, np.ndarray]:
    scale = (np.abs(w).max(axis=1, keepdims=True) / np.float32(127)).astype(np.float32)
    divisor = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(w / divisor), -127, 127).astype(np.int8), scale


def _encode_int4(w: np.ndarray, taps: int) -> tuple[np.ndarray, np.ndarray]:
    n, inputs = w.shape[0], w.shape[1] // taps
    g, words = groups(inputs), packed_words(inputs)
    padded = np.zeros((n, taps, g * GROUP), np.float32)
    padded[:, :, :inputs] = w.reshape(n, taps, inputs)
    grouped = padded.reshape(n, taps, g, GROUP)
    scale = (np.abs(grouped).max(axis=3) / np.float32(7)).astype(np.float32)
    divisor = np.where(scale > 0, scale, np.float32(1))[..., None]
    q = np.clip(np.rint(grouped / divisor), -7, 7).astype(np.int32).reshape(n, taps, -1)[:, :, : words * 8]
    nibbles = (q + 8).astype(np.uint32).reshape(n, taps, words, 8)
    packed = np.zeros((n, taps, words), np.uint32)
    for i in range(8):
        packed |= nibbles[..., i] << np.uint32(4 * i)
    return packed.view(np.int32).reshape(n, taps * words), scale.reshape(n, taps * g)


def _decode_int4(t: QTensor, index: np.ndarray | slice) -> np.ndarray:
    assert t.scale is not None
    words, scale = t.data[index], t.scale[index]
    n = words.shape[0]
    q = unpack_int4(words.reshape(n, t.taps, packed_words(t.inputs)), t.inputs)
    per_weight = np.repeat(scale.reshape(n, t.taps, groups(t.inputs)), GROUP, axis=2)[:, :, : t.inputs]
    return (q * per_weight).reshape(n, t.shape[1])


def _decode_int8(t: QTensor, index: np.ndarray | slice) -> np.ndarray:
    assert t.scale is not None
    return t.data[index] * t.scale[index]


_ENCODE: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray | None]]] = {
    "fp32": lambda w, taps: (w, None),
    "fp16": lambda w, taps: (_checked_fp16(w), None),
    "bf16": lambda w, taps: (_checked_bf16(w), None),
    "int8": _encode_int8,
    "int4": _encode_int4,
}
_DECODE: dict[str, Callable[[QTensor, np.ndarray | slice], np.ndarray]] = {
    "fp32": lambda t, index: np.array(t.data[index], np.float32),
    "fp16": lambda t, index: t.data[index].astype(np.float32),
    "bf16": lambda t, index: from_bf16(t.data[index]),
    "int8": _decode_int8,
    "int4": _decode_int4,
}


def _checked_fp16(w: np.ndarray) -> np.ndarray:
    if np.abs(w).max(initial=0) > 65504:
        raise FormatError("a weight exceeds the range of fp16 (65504): choose bf16 or fp32 for this tensor")
    return w.astype(np.float16)


def _checked_bf16(w: np.ndarray) -> np.ndarray:
    bits = to_bf16(w)
    if not np.isfinite(from_bf16(bits)).all():
        raise FormatError("a weight exceeds the range of bf16 (3.39e38): choose fp32 for this tensor")
    return bits
