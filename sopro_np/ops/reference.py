"""Every operation of the models in plain NumPy: the textbook page, and the fallback where no kernel fits.

Arrays are (T, C) float32, rows are frames, no batch axis. A name here is a name of the ops table;
a native implementation has the same signature. Weights are QTensor (see quant.py) wherever a product
is taken, plain float32 arrays elsewhere. What surrounds a product in the models is part of it (an activation
before or after, a scale, the sum with what came in), so that a kernel can do it while the rows are in the cache.
No argument is changed, but for those that `push_history`, `write_rows` and `argmax_rows` are there to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from sopro_np.errors import FormatError
from sopro_np.ops.activations import ACTIVATIONS, softmax
from sopro_np.ops.arrays import NONE, Arrays
from sopro_np.ops.matmul import PRODUCTS
from sopro_np.ops.quant import NO_NUMBER, QTensor


def pack(w: QTensor, act: str | None = None) -> QTensor:
    """Bring a weight into the form `linear` and `conv` like best: here, 16-bit floats are widened once.

    `act`: the activation that `linear` will be asked for with this weight; a hint, not used here.
    """
    if w.scheme in ("fp16", "bf16"):
        wide = QTensor("fp32", w.shape, w.dequantize(), None, w.taps)
        w.drop()
        return wide
    return w


_temporary: ContextVar[dict[int, QTensor] | None] = ContextVar("sopro_np_temporary_numpy", default=None)


@contextmanager
def temporary_packing() -> Iterator[None]:
    """For work that is done once (a voice is made): what it reads of the file is given back at the end of the block.

    An implementation may pack weights for the length of it that were left as they lie in the file.
    """
    token = _temporary.set({})
    try:
        yield
    finally:
        used = _temporary.get() or {}
        _temporary.reset(token)
        for w in used.values():
            w.drop()


def _note(w: QTensor) -> None:
    if (used := _temporary.get()) is not None:
        used[id(w)] = w


# ---------------------------------------------------------------- products


def linear(
    x: np.ndarray,
    w: QTensor,
    bias: np.ndarray | None = None,
    act: str | None = None,
    scale: np.ndarray | np.float32 | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """y = residual + scale * act(x W^T + b); what is None is left out.

    x (T, C), w (N, C), bias (N,), act "gelu", "tanh" or "glu", scale a number or (N',), residual (T, N')
    -> (T, N'). N' = N, but for "glu", which halves it.
    """
    y = conv(x, w, bias)
    if act is not None:
        y = ACTIVATIONS[act](y)
    if scale is not None:
        y *= scale
    return y if residual is None else np.add(y, residual, out=y)


def conv(
    x: np.ndarray,
    w: QTensor,
    bias: np.ndarray | None = None,
    stride: int = 1,
    dilation: int = 1,
    past: np.ndarray | None = None,
    pre: str | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """y[t] = residual[t] + b + sum_k W_k f(r[t*stride + k*dilation]), r = [past; x], f = `pre`.

    x (R, C), w (N, K*C) tap-major, bias (N,), past (P, C), pre "elu" or None, residual (T, N) -> (T, N),
    T = (P + R - (K-1)*dilation - 1) // stride + 1. No padding.
    A convolution is K products, one per tap, added in tap order; the rows of a tap are r seen with a
    stride, so nothing is copied. A transposed convolution with kernel K*s is this op with s*N outputs.
    """
    _note(w)
    rows = _joined(past, x)
    if pre is not None:
        rows = ACTIVATIONS[pre](rows)
    reach = (w.taps - 1) * dilation
    frames = (len(rows) - reach - 1) // stride + 1
    product = PRODUCTS[w.scheme](rows, w)
    y: np.ndarray | None = None
    for k in range(w.taps):
        first = k * dilation
        part = product(slice(first, first + max(0, (frames - 1) * stride + 1), stride), k)
        y = part if y is None else np.add(y, part, out=y)
    assert y is not None
    if bias is not None:
        y += bias
    return y if residual is None else np.add(y, residual, out=y)


def _joined(past: np.ndarray | None, x: np.ndarray, future: int = 0) -> np.ndarray:
    """[past; x; `future` rows of zeros]; x itself if there is nothing to join."""
    parts = [x] if past is None or len(past) == 0 else [past, x]
    if future:
        parts.append(np.zeros((future, x.shape[1]), np.float32))
    return x if len(parts) == 1 else np.concatenate(parts)


def depthwise_conv(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None = None,
    dilation: int = 1,
    past: np.ndarray | None = None,
    future: int = 0,
    residual: np.ndarray | None = None,
    phases: int = 1,
) -> np.ndarray:
    """Every channel by itself: y[t, c] = residual[t, c] + b[c] + sum_k w[k, c] r[t + k*dilation, c].

    r = [past; x; `future` rows of zeros]. x (R, C), w (K, C), bias (C,), past (P, C), residual (T, C) -> (T, C),
    T = P + R + future - (K-1)*dilation. No other padding.
    With `phases` (a transposed convolution): w (K, phases*C), a filter for each phase; the rows of all phases of t
    lie one below the other, so y and residual are (phases*T, C).
    """
    rows, taps = _joined(past, x, future), len(w)
    frames = len(rows) - (taps - 1) * dilation
    filters = w.reshape(taps, phases, w.shape[1] // phases)
    y = rows[:frames, None] * filters[0]
    for k in range(1, taps):
        y += rows[k * dilation : k * dilation + frames, None] * filters[k]
    if bias is not None:
        y += bias
    y = y.reshape(frames * phases, filters.shape[2])
    return y if residual is None else np.add(y, residual, out=y)


def push_history(past: np.ndarray, x: np.ndarray) -> None:
    """In place: past becomes the last P rows of [past; x].   past (P, C), x (T, C), both may be empty."""
    p, t = len(past), len(x)
    if t < p:
        past[: p - t] = past[t:]
    past[max(0, p - t) :] = x[max(0, t - p) :]


def write_rows(target: np.ndarray, x: np.ndarray, first: int) -> None:
    """In place: rows first..first+T-1 of target (N, C) become those of x (T, C)."""
    target[first : first + len(x)] = x


def embed(ids: np.ndarray, table: QTensor, residual: np.ndarray | None = None) -> np.ndarray:
    """residual + rows of a table. ids (T,), residual (T, D) -> (T, D). Only these rows are read from the file."""
    _note(table)
    y = table.rows(ids)
    return y if residual is None else np.add(y, residual, out=y)


def embed_sum(ids: np.ndarray, table: QTensor, weights: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
    """Weighted sum of rows: y[t] = residual[t] + sum_n weights[n] table[ids[t, n]].

    ids (T, n), weights (n,), residual (T, D) -> (T, D).
    """
    _note(table)
    y = np.zeros((len(ids), table.shape[1]), np.float32)
    for n in range(ids.shape[1]):
        y += weights[n] * table.rows(ids[:, n])
    return y if residual is None else np.add(y, residual, out=y)


def argmax_rows(logits: np.ndarray, ids: np.ndarray, first: int, offsets: np.ndarray) -> None:
    """In place: ids[t, first + h] = offsets[h] + the likeliest value of head h in row t.

    logits (T, H*V), ids (T, n), offsets (H,) of the heads in the table that the ids are for. FormatError if a logit
    is no number.
    """
    if not np.isfinite(logits).all():
        raise FormatError(NO_NUMBER)
    heads = len(offsets)
    each = logits.reshape(len(logits), heads, logits.shape[1] // heads)
    ids[:, first : first + heads] = each.argmax(axis=2) + offsets


# ---------------------------------------------------------------- norms


def rms_norm(
    x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-6, shift: np.ndarray | None = None
) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * weight + shift, per row. x (T, C), weight and shift (C,) or None -> (T, C)."""
    y = x / np.sqrt(_mean_square(x) + np.float32(eps))
    if weight is not None:
        y *= weight
    return y if shift is None else np.add(y, shift, out=y)


def _mean_square(x: np.ndarray) -> np.ndarray:
    """Per row, (T, 1). The ufunc's own reduce: np.mean spends more time in Python than on one row."""
    return np.add.reduce(x * x, axis=1, keepdims=True) * np.float32(1 / x.shape[1])


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """(x - mean) / sqrt(var + eps) * weight + bias, per row, biased variance. (T, C) -> (T, C)."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(_mean_square(centred) + np.float32(eps)) * weight + bias


def match_rms(x: np.ndarray, a: np.ndarray, clamp: float | None = None) -> np.ndarray:
    """a, made as loud as x: a * rms_ratio(x, a, clamp), per row. x and a (T, C) -> (T, C)."""
    return a * rms_ratio(x, a, clamp)


def rms_ratio(x: np.ndarray, a: np.ndarray, clamp: float | None = None) -> np.ndarray:
    """How much louder x is than a, per row: sqrt(mean(x^2) + 1e-6) / sqrt(mean(a^2) + 1e-6) -> (T, 1).

    `clamp` bounds it to 0..clamp.
    """
    tiny = np.float32(1e-6)
    ratio = np.sqrt(_mean_square(x) + tiny) / np.sqrt(_mean_square(a) + tiny)
    return ratio if clamp is None else np.clip(ratio, 0, np.float32(clamp))


# ---------------------------------------------------------------- attention


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, first: int | None = None, keys: int | None = None
) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) v, per head; head h owns channels [h*d, (h+1)*d).

    q (T, H*d), k (S, H*d), v (S, H*d) -> (T, H*d). `first`: causal, row i sees keys 0..first+i. `keys`: only the first
    so many rows of k and v are there yet.
    """
    k, v = k[:keys], v[:keys]
    d = q.shape[1] // heads
    qh = q.reshape(len(q), heads, d).transpose(1, 0, 2)
    kh = k.reshape(len(k), heads, d).transpose(1, 2, 0)
    vh = v.reshape(len(v), heads, d).transpose(1, 0, 2)
    scores = (qh @ kh) * np.float32(d**-0.5)
    if first is not None:
        hidden = np.arange(len(k)) > first + np.arange(len(q))[:, None]
        scores[:, hidden] = -np.inf
    return (softmax(scores) @ vh).transpose(1, 0, 2).reshape(len(q), heads * d)


def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int, first: int = 0) -> np.ndarray:
    """Rotary position embedding, half-split form: [x1 | x2] -> [x1 cos - x2 sin | x2 cos + x1 sin].

    x (T, H*d), cos and sin (P, d/2) of all positions; row i of x is at position first + i -> (T, H*d).
    """
    xh = x.reshape(len(x), heads, 2, -1)
    x1, x2 = xh[:, :, 0], xh[:, :, 1]
    c, s = (table[first : first + len(x), None] for table in (cos, sin))
    return np.stack([x1 * c - x2 * s, x2 * c + x1 * s], axis=2).reshape(x.shape)


# ---------------------------------------------------------------- choices


def nearest_row(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Index of the closest row: argmin_j ||x[t] - table[j]||.   x (T, C), table (V, C) -> (T,).

    ||x||^2 is the same for all j and left out.
    """
    return np.argmin((table * table).sum(axis=1) - 2 * (x @ table.T), axis=1)


# ---------------------------------------------------------------- rows, repetition


def concat(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Rows below one another: (T1, C), (T2, C), ... -> (T1 + T2 + ..., C)."""
    return np.concatenate(parts)


def replay(
    owner: Any,
    name: str,
    function: Callable[..., np.ndarray],
    inputs: Sequence[np.ndarray],
    state: Arrays = NONE,
    numbers: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """function(*inputs, *numbers), as a step that is repeated: an implementation may keep its calls and replay them.

    `owner` (whose weights it uses) and `name` say which step it is. inputs: arrays of any contents, of the shapes that
    they have; state: all arrays that the step changes in place, or reads and finds others in for another stream;
    numbers: (value, the most it may be). Everything computed must go through ops; what else `function` closes over
    must be the owner's. With NumPy it is just called.
    """
    return function(*inputs, *(value for value, _ in numbers))
