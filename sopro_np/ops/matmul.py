"""x W^T for every number format, as NumPy does it: integer products exactly, in float32.

`PRODUCTS[scheme](x, w)` prepares x (R, C) and answers with a function: (rows of x, tap k) -> x[rows] W_k^T.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sopro_np.ops.quant import QTensor, quantize_rows, quantize_rows_asymmetric, split_rows, unpack_int4
from sopro_np.precision import limit

Tap = Callable[[slice, int], np.ndarray]  # (rows of x, tap) -> product of these rows with the weights of one tap
WIDENED_ROWS = 2048
EXACT_TERMS = 512  # 512 * 255 * 127 < 2**24: float32 adds this many integer products without rounding


def _product_fp32(x: np.ndarray, w: QTensor) -> Tap:
    def tap(rows: slice, k: int) -> np.ndarray:
        return x[rows] @ w.data[:, k * w.inputs : (k + 1) * w.inputs].T

    return tap


def _product_int8(x: np.ndarray, w: QTensor) -> Tap:
    """Integer dot products, exact: float32 sums of few terms, added as int32; then the two scales."""
    assert w.scale is not None
    weight_scale = w.scale

    def sums(frames: np.ndarray, k: int) -> np.ndarray:
        y = np.empty((len(frames), w.shape[0]), np.float32)
        for n in range(0, w.shape[0], WIDENED_ROWS):  # a block of weights at a time is widened to float32
            total = np.zeros((), np.int32)
            for a in range(0, w.inputs, EXACT_TERMS):
                b = min(a + EXACT_TERMS, w.inputs)
                block = w.data[n : n + WIDENED_ROWS, k * w.inputs + a : k * w.inputs + b]
                total = total + (frames[:, a:b] @ block.astype(np.float32).T).astype(np.int32)
            y[:, n : n + WIDENED_ROWS] = total
        return y

    parts = integer_rows(x, w)

    def tap(rows: slice, k: int) -> np.ndarray:
        y = sum(sums(q[rows].astype(np.float32), k) * scale[rows, None] for q, scale in parts)
        return np.asarray(y * weight_scale[:, 0])

    return tap


def _product_int4(x: np.ndarray, w: QTensor) -> Tap:
    """As int8, but every group of inputs has its own weight scale: one exact product per group."""
    assert w.scale is not None
    weight_scale = w.scale
    per_tap = weight_scale.shape[1] // w.taps
    weights = unpack_int4(w.data.reshape(w.shape[0], w.taps, -1), w.inputs)

    def sums(frames: np.ndarray, k: int) -> np.ndarray:
        total = np.zeros((len(frames), w.shape[0]), np.float32)
        for g in range(per_tap):
            a, b = g * w.group, min((g + 1) * w.group, w.inputs)
            part = frames[:, a:b] @ weights[:, k, a:b].astype(np.float32).T
            total += part * weight_scale[:, k * per_tap + g]
        return total

    parts = integer_rows(x, w)

    def tap(rows: slice, k: int) -> np.ndarray:
        y = sum(sums(q[rows].astype(np.float32), k) * scale[rows, None] for q, scale in parts)
        return np.asarray(y)

    return tap


def integer_rows(x: np.ndarray, w: QTensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """x (T, C) as integers for a product with w -> what is to be multiplied and added: (T, C), scales (T,).

    Rows that eight bits say badly (precision.py) are two, of high and low bytes: 256 high + low is a number of 16 bits.
    """
    q, scale = quantize_rows_asymmetric(x) if w.asymmetric else quantize_rows(x)
    squares = np.square(q.astype(np.int64)).sum(axis=1)
    split = (squares > 0) & (squares < limit(x.shape[1], w.asymmetric))
    if not split.any():
        return [(q, scale)]
    high, low, fine = split_rows(x[split])
    q, low_q, low_scale = q.astype(np.int16), np.zeros(x.shape, np.int16), np.zeros(len(x), np.float32)
    q[split], scale[split] = high, fine * np.float32(256)
    low_q[split], low_scale[split] = low, fine
    return [(q, scale), (low_q, low_scale)]


def _product_widened(x: np.ndarray, w: QTensor) -> Tap:
    return _product_fp32(x, QTensor("fp32", w.shape, w.dequantize(), None, w.taps))


PRODUCTS: dict[str, Callable[[np.ndarray, QTensor], Tap]] = {
    "fp32": _product_fp32,
    "fp16": _product_widened,
    "bf16": _product_widened,
    "int8": _product_int8,
    "int4": _product_int4,
}
