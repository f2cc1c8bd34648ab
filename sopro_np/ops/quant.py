"""Number formats of weights and activations: how they lie in memory, and how to get back.

A weight matrix W is (N, K*C): N outputs, K taps (1 for a linear layer), C inputs per tap.

    scheme  `data`                           `scale`                 one weight costs
    fp32    float32 (N, K*C)                 -                       4 bytes
    fp16    float16 (N, K*C)                 -                       2
    bf16    uint16  (N, K*C)                 -                       2   (upper half of a float32)
    int8    int8    (N, K*C)                 float32 (N, 1)          1   w = q * scale[n],  |q| <= 127
    int4    int32   (N, K*ceil(C/8))         float32 (N, K*G)        0.5 + 2/g,  G = ceil(C/g), g = 32, 64 or 128

int4 packs eight weights to a 32-bit word, the first one in the lowest nibble, stored as q + 8 (q = -8..7);
g neighbouring inputs share one scale, which a float16 holds (it may be negative), and groups start anew at every tap.
Only the last of the groups of 32 may be short:

      bit 31                           0
          [q7][q6][q5][q4][q3][q2][q1][q0]      4 words = 1 group of 32 = 1 scale
    row n: | tap 0: word 0 1 2 3 | 4 5 6 7 | ... | tap 1: ...

The layouts and tensor names are those of compressed-tensors `int-quantized` and `pack-quantized`;
a convolution (K > 1) is our extension, its `weight_shape` then has three entries (N, K, C).

Activations become int8 with one scale per row (= per frame). A row knows nothing of its neighbours,
so an integer product does not depend on how a stream was cut (with one scale per tensor 99.8 % of rows differ).
In both kinds a quotient is rounded half to even, and an activation of 0 is exactly 0:

    symmetric    amax = max(|x|, 1e-12)             scale = amax / 127     x = q * scale,  q = rint(x * (127 / amax))
    asymmetric   span = max(max(x, 0) - min(x, 0), 1e-12)   scale = span / 255
                 zero = rint(-min(x, 0) * (255 / span))     x = q * scale,  q = rint(x * (255 / span))
                 held to -zero..255-zero, so q + zero - 128 fits a byte
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sopro_np.errors import FormatError
from sopro_np.files import drop_pages

GROUP = 32  # the smallest
SMALLEST = 2.0**-20  # of a matrix's largest scale: a float16 below it keeps less than four bits
LARGEST_SPLIT = 127 * 257  # of 16 bits, so that the high byte, rounded, is at most 127
NO_NUMBER = "an activation is NaN or infinite: the weights or the input are broken"
SCHEMES = ("fp32", "fp16", "bf16", "int8", "int4")


@dataclass(frozen=True)
class Format:
    """A scheme and details. group: inputs that share an int4 scale; asymmetric: rows of inputs have a zero point."""

    scheme: str
    group: int = GROUP
    asymmetric: bool = False


FORMATS = {
    **{scheme: Format(scheme) for scheme in SCHEMES},
    "int8-asymmetric": Format("int8", asymmetric=True),
    "int4-64": Format("int4", 64),
    "int4-128": Format("int4", 128),
}  # what a recipe may say


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
    group: int = GROUP  # of int4
    asymmetric: bool = False  # rows that an int8 matrix multiplies have a zero point

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


def quantize(w: np.ndarray, name: str, taps: int = 1) -> QTensor:
    """Encode w (N, K*C) float32 in one of FORMATS, to the nearest numbers -> QTensor.

    Rows are independent, so a matrix may be encoded in row blocks. FormatError: a weight is not finite or exceeds the
    format, or C does not divide into its groups.
    """
    form, w = FORMATS[name], np.ascontiguousarray(w, np.float32)
    if not np.isfinite(w).all():
        raise FormatError("a weight is NaN or infinite: refusing to quantise it")
    if form.scheme == "int4":
        return encoded_int4(*_nearest_int4(w, taps, form.group), taps, form.group)
    data, scale = _ENCODE[form.scheme](w)
    return QTensor(form.scheme, (w.shape[0], w.shape[1]), data, scale, taps, asymmetric=form.asymmetric)


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-frame int8 activations. x (T, C) -> q (T, C) int8, scale (T,) float32. Non-finite input is an error."""
    amax = np.maximum(np.abs(x).max(axis=1), np.float32(1e-12)) if x.shape[1] else np.ones(len(x), np.float32)
    if not np.isfinite(amax).all():
        raise FormatError(NO_NUMBER)
    q = np.rint(x * (np.float32(127) / amax)[:, None]).astype(np.int8)
    return q, (amax / np.float32(127)).astype(np.float32)


def quantize_rows_asymmetric(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-frame activations less their zero points. x (T, C) -> q (T, C) int16 in -255..255, scale (T,) float32."""
    low, high = x.min(axis=1, initial=0), x.max(axis=1, initial=0)
    span = np.maximum(high - low, np.float32(1e-12))
    if not np.isfinite(span).all():
        raise FormatError(NO_NUMBER)
    inverse = np.float32(255) / span
    zero = np.rint(-low * inverse)[:, None]
    q = np.clip(np.rint(x * inverse[:, None]), -zero, 255 - zero)
    return q.astype(np.int16), (span / np.float32(255)).astype(np.float32)


def split_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 16 bits, x = (256 high + low) * scale. x (T, C), finite -> high, low (T, C) int16 in -128..127, (T,)."""
    amax = np.maximum(np.abs(x).max(axis=1), np.float32(1e-12))
    whole = np.rint(x * (np.float32(LARGEST_SPLIT) / amax)[:, None]).astype(np.int32)
    high = (whole + 128) >> 8
    return high.astype(np.int16), (whole - 256 * high).astype(np.int16), (amax / np.float32(LARGEST_SPLIT))


def to_bf16(w: np.ndarray) -> np.ndarray:
    """float32 -> the upper 16 bits, rounded half to even, as uint16."""
    bits = np.ascontiguousarray(w, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns -> float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def groups(inputs: int, group: int = GROUP) -> int:
    """Number of int4 scales per tap for C inputs."""
    return -(-inputs // group)


def packed_words(inputs: int) -> int:
    """Number of 32-bit words per tap for C int4 inputs."""
    return -(-inputs // 8)


def unpack_int4(words: np.ndarray, inputs: int) -> np.ndarray:
    """Nibbles -> int8. words (..., ceil(C/8)) int32 -> (..., C) in -8..7."""
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    nibbles = (words.astype(np.uint32)[..., None] >> shifts) & 15
    return (nibbles.reshape(*words.shape[:-1], 8 * words.shape[-1])[..., :inputs].astype(np.int8)) - np.int8(8)


def grouped(w: np.ndarray, taps: int, group: int) -> np.ndarray:
    """w (N, K*C) -> (N, K, G, g), zeros behind a short last group. FormatError where it may not be short."""
    n, inputs = w.shape[0], w.shape[1] // taps
    if group > GROUP and inputs % group:
        raise FormatError(f"{inputs} inputs do not divide into groups of {group}: choose int4, with groups of 32")
    whole = groups(inputs, group) * group
    padded = np.zeros((n, taps, whole), w.dtype)
    padded[:, :, :inputs] = w.reshape(n, taps, inputs)
    return padded.reshape(n, taps, whole // group, group)


def as_fp16(scale: np.ndarray) -> np.ndarray:
    """Scales of groups, as they are stored. FormatError where they are too large or, all of them, too small."""
    with np.errstate(over="ignore"):
        stored = scale.astype(np.float16)
    if not np.isfinite(stored).all():
        raise FormatError("a weight exceeds the range of int4, whose scales are fp16: choose int8 for this tensor")
    if scale.any() and np.abs(stored).max() < SMALLEST:
        raise FormatError("the weights are too small for int4, whose scales are fp16: choose int8 for this tensor")
    return stored


def encoded_int4(q: np.ndarray, scale: np.ndarray, inputs: int, taps: int, group: int) -> QTensor:
    """Integers q (N, K, G, g) in -8..7 and scales (N, K, G), float16 -> QTensor."""
    n, words = len(q), packed_words(inputs)
    nibbles = (q.reshape(n, taps, -1)[:, :, : words * 8].astype(np.int32) + 8).astype(np.uint32)
    nibbles = nibbles.reshape(n, taps, words, 8)
    packed = np.zeros((n, taps, words), np.uint32)
    for i in range(8):
        packed |= nibbles[..., i] << np.uint32(4 * i)
    data = packed.view(np.int32).reshape(n, taps * words)
    scale = scale.astype(np.float32).reshape(n, -1)
    return QTensor("int4", (n, taps * inputs), data, scale, taps, group)


def _encode_int8(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = (np.abs(w).max(axis=1, keepdims=True) / np.float32(127)).astype(np.float32)
    divisor = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(w / divisor), -127, 127).astype(np.int8), scale


def _nearest_int4(w: np.ndarray, taps: int, group: int) -> tuple[np.ndarray, np.ndarray, int]:
    """-> integers (N, K, G, g) and scales (N, K, G): the largest weight of a group is 7; and C."""
    parts = grouped(w, taps, group)
    scale = as_fp16(np.abs(parts).max(axis=3) / np.float32(7))
    divisor = np.where(scale > 0, scale.astype(np.float32), np.float32(1))[..., None]
    return np.clip(np.rint(parts / divisor), -7, 7).astype(np.int8), scale, w.shape[1] // taps


def _decode_int4(t: QTensor, index: np.ndarray | slice) -> np.ndarray:
    assert t.scale is not None
    words, scale = t.data[index], t.scale[index]
    n = words.shape[0]
    q = unpack_int4(words.reshape(n, t.taps, packed_words(t.inputs)), t.inputs)
    per_weight = np.repeat(scale.reshape(n, t.taps, groups(t.inputs, t.group)), t.group, axis=2)[:, :, : t.inputs]
    return (q * per_weight).reshape(n, t.shape[1])


def _decode_int8(t: QTensor, index: np.ndarray | slice) -> np.ndarray:
    assert t.scale is not None
    return t.data[index] * t.scale[index]


_ENCODE: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]] = {
    "fp32": lambda w: (w, None),
    "fp16": lambda w: (_checked_fp16(w), None),
    "bf16": lambda w: (_checked_bf16(w), None),
    "int8": _encode_int8,
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
