"""The other operations on kernels: a row, or a stretch of rows, at a time."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from sopro_np.ops import reference
from sopro_np.ops.abi import ATTENTION_ROWS, MAPS, TABLES
from sopro_np.ops.native.desk import DESK
from sopro_np.ops.native.products import address, expect, plain, row_pieces
from sopro_np.ops.quant import QTensor
from sopro_np.ops.threads import blas_threads


def real(value: float) -> int:
    """The bits of a float32, as an argument."""
    return int(struct.unpack("=i", struct.pack("=f", value))[0])


def rms_norm(
    x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-6, shift: np.ndarray | None = None
) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * weight + shift."""
    return _norm("rms_norm", x, weight, shift, eps)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """(x - mean) / sqrt(var + eps) * weight + bias."""
    return _norm("layer_norm", x, weight, bias, eps)


def _norm(kernel: str, x: np.ndarray, weight: np.ndarray | None, shift: np.ndarray | None, eps: float) -> np.ndarray:
    x = plain(x)
    rows, width = x.shape
    y, at = DESK.empty(rows, width)
    pieces, block = row_pieces(rows, 4 * width)
    DESK.call(kernel, pieces, block, rows, address(x), width, address(weight), address(shift), real(eps), at)
    DESK.go()
    return y


def match(x: np.ndarray, a: np.ndarray, clamp: float | None = None) -> np.ndarray:
    """a, as loud as x."""
    x, a = plain(x), plain(a)
    rows, width = a.shape
    expect(x.shape == a.shape, "match", x, a)
    y, at = DESK.empty(rows, width)
    pieces, block = row_pieces(rows, 4 * width)
    limit = real(-1.0 if clamp is None else clamp)
    DESK.call("match", pieces, block, rows, address(x), address(a), width, limit, at)
    DESK.go()
    return y


def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int) -> np.ndarray:
    """Rotary position embedding."""
    x, cos, sin = plain(x), plain(cos), plain(sin)
    rows, width = x.shape
    y, at = DESK.empty(rows, width)
    pieces, block = row_pieces(rows, 4 * width)
    half = cos.shape[1]
    DESK.call("rope", pieces, block, rows, address(x), heads, half, address(cos), address(sin), at)
    DESK.go()
    return y


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    return _rows("softmax", x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return _rows("map_rows", x, MAPS.index("sigmoid"))


def gelu(x: np.ndarray) -> np.ndarray:
    """0.5 x (1 + erf(x / sqrt 2))."""
    return _rows("map_rows", x, MAPS.index("gelu"))


def _rows(kernel: str, x: np.ndarray, function: int) -> np.ndarray:
    x = plain(x)
    width = x.shape[-1]
    y, at = DESK.empty(*x.shape)
    rows = x.size // width if width else 0
    pieces, block = row_pieces(rows, 16 * width)
    DESK.call(kernel, pieces, block, rows, address(x), width, function, at)
    DESK.go()
    return y


def depthwise_conv(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None = None,
    dilation: int = 1,
    past: np.ndarray | None = None,
    future: int = 0,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """Every channel by itself; rows = past, x, `future` zero rows."""
    x = plain(x)
    taps, width = w.shape
    past_rows = 0 if past is None else len(past)
    rows = past_rows + len(x) + future - (taps - 1) * dilation
    expect(
        rows >= 0
        and x.shape[1] == width
        and (past is None or past.shape[1] == width)
        and (residual is None or residual.shape == (rows, width)),
        "depthwise_conv", x, w, past, residual,
    )  # fmt: skip
    y, at = DESK.empty(rows, width)
    if not rows:
        return y
    pieces, block = row_pieces(rows, 4 * taps * width)
    DESK.call(
        "depthwise", pieces, block, rows, address(past), past_rows, address(x), len(x), width, taps,
        dilation, address(plain(w)), address(bias), address(residual), at,
    )  # fmt: skip
    DESK.go()
    return y


def remember(past: np.ndarray, x: np.ndarray) -> None:
    """In place: past = the last rows of [past; x]."""
    expect(past.shape[1] == x.shape[1], "remember", past, x)
    if past.size and len(x):
        x = plain(x)
        DESK.call("remember", 1, address(past), len(past), address(x), len(x), past.shape[1])
        DESK.go()


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Rows below one another."""
    parts = [plain(part) for part in parts]
    width = parts[0].shape[1]
    expect(all(part.shape[1] == width for part in parts), "join", *parts)
    rows = sum(map(len, parts))
    y, at = DESK.empty(rows, width)
    for part in parts:
        if len(part):
            DESK.call("collect", 1, len(part), len(part), 0, 0, address(part), width, 0, at)
        at += part.nbytes
    if rows:
        DESK.go()
    return y


def embed(ids: np.ndarray, table: QTensor) -> np.ndarray:
    """Rows of a table."""
    return _embed(np.ascontiguousarray(ids, np.int64)[:, None], table, None, None)


def embed_sum(ids: np.ndarray, table: QTensor, weights: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
    """residual + weighted sum of rows of a table."""
    return _embed(ids, table, weights, residual)


def _embed(ids: np.ndarray, table: QTensor, weights: np.ndarray | None, residual: np.ndarray | None) -> np.ndarray:
    if ids.dtype != np.int64 or not ids.flags.c_contiguous:
        ids = np.ascontiguousarray(ids, np.int64)
    rows, terms = ids.shape
    width = table.shape[1]
    y, at = DESK.empty(rows, width)
    data = table.data
    groups = table.scale.shape[1] if table.scale is not None else 0
    pieces, block = row_pieces(rows, 4 * terms * width)
    DESK.call(
        "embed", pieces, block, rows, address(ids), terms, address(data), len(data),
        data.strides[0], TABLES.index(table.scheme), address(table.scale), groups, address(weights), width,
        address(residual), DESK.program.status_at, at,
    )  # fmt: skip
    DESK.go()
    return y


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, first: int | None = None) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) v per head; `first`: causal, row i sees keys 0..first+i."""
    q, k, v = plain(q), plain(k), plain(v)
    rows, width = q.shape
    d, keys = width // heads, len(k)
    expect(k.shape == v.shape == (keys, width) and d * heads == width, "attention", q, k, v)
    y, at = DESK.empty(rows, width)
    pieces, block = row_pieces(rows, 2 * keys * width)
    row_blocks = -(-pieces // heads)
    block = -(-rows // row_blocks)
    row_blocks = -(-rows // block)
    stride = (-(-keys // 16) * 16) * 4
    piece = ATTENTION_ROWS * stride + (8 * keys * d if block >= ATTENTION_ROWS else 0)
    piece = -(-piece // 64) * 64
    held, scores = DESK.scratch(heads * row_blocks * piece)
    DESK.call(
        "attention", heads * row_blocks, row_blocks, block, rows, address(q), address(k), address(v),
        4 * width, keys, d, -1 if first is None else first, real(d**-0.5), scores, stride, piece, at,
    )  # fmt: skip
    DESK.go()
    del held
    return y


def nearest(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """NumPy's: only when a voice is made, and dominated by one large product.

    On one thread: after a product BLAS's others would turn in circles for tens of milliseconds, on cores that the team
    needs to speak.
    """
    with blas_threads(1):
        return reference.nearest(x, table)
