"""Every operation of the models in plain NumPy: the textbook page, and the fallback where no kernel fits.

Arrays are (T, C) float32, rows are frames, no batch axis. A name here is a name of the ops table;
a native implementation has the same signature. Weights are QTensor (see quant.py) wherever a product
is taken, plain float32 arrays elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sopro_np.ops.quant import GROUP, QTensor, quantize_rows, unpack_int4

Tap = Callable[[slice, int], np.ndarray]  # (rows of x, tap) -> product of these rows with the weights of one tap
WIDENED_ROWS = 2048
EXACT_TERMS = 1024  # 1024 * 127 * 127 < 2**24: float32 adds this many int8 products without rounding


def pack(w: QTensor) -> QTensor:
    """Bring a weight into the form `linear` and `conv` like best: here, 16-bit floats are widened once."""
    if w.scheme in ("fp16", "bf16"):
        return QTensor("fp32", w.shape, w.dequantize(), None, w.taps)
    return w


# ---------------------------------------------------------------- products


def linear(x: np.ndarray, w: QTensor, bias: np.ndarray | None = None) -> np.ndarray:
    """y = x W^T + b.   x (T, C), w (N, C), bias (N,) -> (T, N)."""
    return conv(x, w, bias)


def conv(x: np.ndarray, w: QTensor, bias: np.ndarray | None = None, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """y[t] = b + sum_k W_k x[t*stride + k*dilation], no padding.

    x (P, C), w (N, K*C) tap-major, bias (N,) -> (T, N), T = (P - (K-1)*dilation - 1) // stride + 1.
    A convolution is K products, one per tap, added in tap order; the rows of a tap are x seen with a
    stride, so nothing is copied. A transposed convolution with kernel K*s is this op with s*N outputs.
    """
    reach = (w.taps - 1) * dilation
    frames = (len(x) - reach - 1) // stride + 1
    product = _PRODUCTS[w.scheme](x, w)
    y: np.ndarray | None = None
    for k in range(w.taps):
        first = k * dilation
        part = product(slice(first, first + (frames - 1) * stride + 1, stride), k)
        y = part if y is None else np.add(y, part, out=y)
    assert y is not None
    return y if bias is None else np.add(y, bias, out=y)


def _product_fp32(x: np.ndarray, w: QTensor) -> Tap:
    def tap(rows: slice, k: int) -> np.ndarray:
        return x[rows] @ w.data[:, k * w.inputs : (k + 1) * w.inputs].T

    return tap


def _product_int8(x: np.ndarray, w: QTensor) -> Tap:
    """Integer dot products, exact: float32 sums of <= 1024 terms, added as int32; then the two scales."""
    assert w.scale is not None
    weight_scale = w.scale
    q, scale = quantize_rows(x)

    def tap(rows: slice, k: int) -> np.ndarray:
        frames = q[rows].astype(np.float32)
        y = np.empty((len(frames), w.shape[0]), np.float32)
        for n in range(0, w.shape[0], WIDENED_ROWS):  # a block of weights at a time is widened to float32
            total = np.zeros((), np.int32)
            for a in range(0, w.inputs, EXACT_TERMS):
                b = min(a + EXACT_TERMS, w.inputs)
                block = w.data[n : n + WIDENED_ROWS, k * w.inputs + a : k * w.inputs + b]
                total = total + (frames[:, a:b] @ block.astype(np.float32).T).astype(np.int32)
            y[:, n : n + WIDENED_ROWS] = total
        y *= scale[rows, None]
        y *= weight_scale[:, 0]
        return y

    return tap


def _product_int4(x: np.ndarray, w: QTensor) -> Tap:
    """As int8, but every group of 32 inputs has its own weight scale: one exact product per group."""
    assert w.scale is not None
    weight_scale = w.scale
    q, scale = quantize_rows(x)
    per_tap = weight_scale.shape[1] // w.taps
    weights = unpack_int4(w.data.reshape(w.shape[0], w.taps, -1), w.inputs)

    def tap(rows: slice, k: int) -> np.ndarray:
        total = np.zeros((len(q[rows]), w.shape[0]), np.float32)
        for g in range(per_tap):
            a, b = g * GROUP, min((g + 1) * GROUP, w.inputs)
            part = q[rows, a:b].astype(np.float32) @ weights[:, k, a:b].astype(np.float32).T
            total += part * weight_scale[:, k * per_tap + g]
        return total * scale[rows, None]

    return tap


def _product_widened(x: np.ndarray, w: QTensor) -> Tap:
    return _product_fp32(x, QTensor("fp32", w.shape, w.dequantize(), None, w.taps))


_PRODUCTS = {
    "fp32": _product_fp32,
    "fp16": _product_widened,
    "bf16": _product_widened,
    "int8": _product_int8,
    "int4": _product_int4,
}


def depthwise_conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None, dilation: int = 1) -> np.ndarray:
    """Every channel by itself: y[t, c] = b[c] + sum_k w[c, k] x[t + k*dilation, c], no padding.

    x (T + (K-1)*dilation, C), w (C, K), bias (C,) -> (T, C).
    """
    taps = w.shape[1]
    frames = len(x) - (taps - 1) * dilation
    y = x[:frames] * w[:, 0]
    for k in range(1, taps):
        y += x[k * dilation : k * dilation + frames] * w[:, k]
    return y if bias is None else np.add(y, bias, out=y)


def embed(ids: np.ndarray, table: QTensor) -> np.ndarray:
    """Rows of a table. ids (T,) -> (T, D). Only these rows are read from the file."""
    return table.rows(ids)


def embed_sum(ids: np.ndarray, table: QTensor, weights: np.ndarray) -> np.ndarray:
    """Weighted sum of rows: y[t] = sum_n weights[n] table[ids[t, n]].   ids (T, n), weights (n,) -> (T, D)."""
    y = np.zeros((len(ids), table.shape[1]), np.float32)
    for n in range(ids.shape[1]):
        y += weights[n] * table.rows(ids[:, n])
    return y


# ---------------------------------------------------------------- norms


def rms_norm(x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-6) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * weight, per row. x (T, C), weight (C,) or None -> (T, C)."""
    y = x / np.sqrt(_mean_square(x) + np.float32(eps))
    return y if weight is None else np.multiply(y, weight, out=y)


def _mean_square(x: np.ndarray) -> np.ndarray:
    """Per row, (T, 1). The ufunc's own reduce: np.mean spends more time in Python than on one row."""
    return np.add.reduce(x * x, axis=1, keepdims=True) * np.float32(1 / x.shape[1])


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """(x - mean) / sqrt(var + eps) * weight + bias, per row, biased variance. (T, C) -> (T, C)."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(_mean_square(centred) + np.float32(eps)) * weight + bias


def rms_ratio(x: np.ndarray, a: np.ndarray, clamp: float | None = None) -> np.ndarray:
    """How much louder x is than a, per row: sqrt(mean(x^2) + 1e-6) / sqrt(mean(a^2) + 1e-6) -> (T, 1).

    `clamp` bounds it to 0..clamp.
    """
    tiny = np.float32(1e-6)
    ratio = np.sqrt(_mean_square(x) + tiny) / np.sqrt(_mean_square(a) + tiny)
    return ratio if clamp is None else np.clip(ratio, 0, np.float32(clamp))


# ---------------------------------------------------------------- activations


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), element-wise. The clip keeps e^-x inside float32; beyond it the result is 0 or 1 anyway."""
    return 1 / (1 + np.exp(-np.clip(x, -88, 88)))


def glu(x: np.ndarray) -> np.ndarray:
    """Gated linear unit: x = [a | b], a * sigmoid(b).   (T, 2C) -> (T, C)."""
    half = x.shape[1] // 2
    return x[:, :half] * sigmoid(x[:, half:])


# erf(x) = x P(x^2) / Q(x^2) on |x| <= 3.92 (beyond, it is 1 in float32): a rational fitted to math.erf at
# Chebyshev nodes by reweighted least squares. Largest relative error in float32: 3.5e-7.
_ERF_LIMIT = np.float32(3.92)
_ERF_P = (1.128379146604086, 0.19037607118139457, 0.05274475983362787, 0.003764335229108016,
          0.0002848575239030305, 2.0503616624883496e-06)  # fmt: skip
_ERF_Q = (1.0, 0.502049147284621, 0.11409659948998035, 0.014966639533461563,
          0.0011622320474850279, 3.8093258233612685e-05)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """Error function, element-wise (NumPy has none)."""
    y = np.clip(x, -_ERF_LIMIT, _ERF_LIMIT)
    u = y * y
    return y * _horner(_ERF_P, u) / _horner(_ERF_Q, u)


def _horner(coefficients: tuple[float, ...], u: np.ndarray) -> np.ndarray:
    total = np.full_like(u, coefficients[-1])
    for c in coefficients[-2::-1]:
        total *= u
        total += np.float32(c)
    return total


def gelu(x: np.ndarray) -> np.ndarray:
    """0.5 x (1 + erf(x / sqrt 2)), the exact form (the tanh form differs in the third digit)."""
    return np.float32(0.5) * x * (1 + erf(x * np.float32(0.7071067811865476)))


def elu(x: np.ndarray) -> np.ndarray:
    """x for x > 0, e^x - 1 below. One array, three passes."""
    y = np.minimum(x, 0)
    np.expm1(y, out=y)
    return np.maximum(x, y, out=y)


def tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


# ---------------------------------------------------------------- attention


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis, after subtracting the largest entry."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, first: int | None = None) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) v, per head; head h owns channels [h*d, (h+1)*d).

    q (T, H*d), k (S, H*d), v (S, H*d) -> (T, H*d). `first`: causal, row i sees keys 0..first+i.
    """
    d = q.shape[1] // heads
    qh = q.reshape(len(q), heads, d).transpose(1, 0, 2)
    kh = k.reshape(len(k), heads, d).transpose(1, 2, 0)
    vh = v.reshape(len(v), heads, d).transpose(1, 0, 2)
    scores = (qh @ kh) * np.float32(d**-0.5)
    if first is not None:
        hidden = np.arange(len(k)) > first + np.arange(len(q))[:, None]
        scores[:, hidden] = -np.inf
    return (softmax(scores) @ vh).transpose(1, 0, 2).reshape(len(q), heads * d)


def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int) -> np.ndarray:
    """Rotary position embedding, half-split form: [x1 | x2] -> [x1 cos - x2 sin | x2 cos + x1 sin].

    x (T, H*d), cos and sin (T, d/2) of the rows' absolute positions -> (T, H*d).
    """
    xh = x.reshape(len(x), heads, 2, -1)
    x1, x2 = xh[:, :, 0], xh[:, :, 1]
    c, s = cos[:, None], sin[:, None]
    return np.stack([x1 * c - x2 * s, x2 * c + x1 * s], axis=2).reshape(x.shape)


# ---------------------------------------------------------------- choices


def nearest(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Index of the closest row: argmin_j ||x[t] - table[j]||.   x (T, C), table (V, C) -> (T,).

    ||x||^2 is the same for all j and left out.
    """
    return np.argmin((table * table).sum(axis=1) - 2 * (x @ table.T), axis=1)
