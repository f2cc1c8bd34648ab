"""The other operations on kernels: a row, or a stretch of rows, at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopro_np.ops import reference
from sopro_np.ops.abi import ATTENTION_ROWS, MAPS, TABLES
from sopro_np.ops.blas import blas_threads
from sopro_np.ops.native.arguments import address, expect, plain, real, row_pieces
from sopro_np.ops.native.capture import most_of
from sopro_np.ops.native.launcher import LAUNCHER
from sopro_np.ops.native.matmul import note_table
from sopro_np.ops.quant import QTensor


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
    y, at = LAUNCHER.empty(rows, width)
    pieces, block = row_pieces(rows, 4 * width)
    LAUNCHER.call(
        kernel, pieces, row_block=block, rows=rows, x=address(x), width=width, weight=address(weight),
        shift=address(shift), eps=real(eps), y=at,
    )  # fmt: skip
    LAUNCHER.flush()
    return y


def match_rms(x: np.ndarray, a: np.ndarray, clamp: float | None = None) -> np.ndarray:
    """a, as loud as x."""
    x, a = plain(x), plain(a)
    rows, width = a.shape
    expect(x.shape == a.shape, "match_rms", x, a)
    y, at = LAUNCHER.empty(rows, width)
    pieces, block = row_pieces(rows, 4 * width)
    limit = real(-1.0 if clamp is None else clamp)
    LAUNCHER.call(
        "match_rms", pieces, row_block=block, rows=rows, x=address(x), a=address(a), width=width, clamp=limit, y=at
    )
    LAUNCHER.flush()
    return y


def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int, first: int = 0) -> np.ndarray:
    """Rotary position embedding; row i of x is at position first + i."""
    x, cos, sin = plain(x), plain(cos), plain(sin)
    rows, width = x.shape
    half = cos.shape[1]
    expect(cos.shape == sin.shape and most_of(first) + rows <= len(cos) and width == 2 * half * heads, "rope", x, cos)
    y, at = LAUNCHER.empty(rows, width)
    pieces, block = row_pieces(rows, 4 * width)
    LAUNCHER.call(
        "rope", pieces, row_block=block, rows=rows, x=address(x), heads=heads, half=half,
        cos=first * (4 * half) + address(cos), sin=first * (4 * half) + address(sin), y=at,
    )  # fmt: skip
    LAUNCHER.flush()
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
    y, at = LAUNCHER.empty(*x.shape)
    rows = x.size // width if width else 0
    pieces, block = row_pieces(rows, 16 * width)
    LAUNCHER.call(kernel, pieces, row_block=block, rows=rows, x=address(x), width=width, function=function, y=at)
    LAUNCHER.flush()
    return y


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
    """Every channel by itself; rows = past, x, `future` zero rows; `phases` rows of y for each."""
    x = plain(x)
    taps, width = len(w), w.shape[1] // phases
    past_rows = 0 if past is None else len(past)
    rows = phases * (past_rows + len(x) + future - (taps - 1) * dilation)
    expect(
        rows >= 0
        and w.shape[1] == width * phases
        and x.shape[1] == width
        and (past is None or past.shape[1] == width)
        and (residual is None or residual.shape == (rows, width)),
        "depthwise_conv", x, w, past, residual,
    )  # fmt: skip
    y, at = LAUNCHER.empty(rows, width)
    if not rows:
        return y
    pieces, block = row_pieces(rows, 4 * taps * width)
    LAUNCHER.call(
        "depthwise", pieces, row_block=block, rows=rows, past=address(past), past_rows=past_rows, x=address(x),
        x_rows=len(x), width=width, taps=taps, dilation=dilation, phases=phases, w=address(plain(w)),
        bias=address(bias), residual=address(residual), y=at,
    )  # fmt: skip
    LAUNCHER.flush()
    return y


def push_history(past: np.ndarray, x: np.ndarray) -> None:
    """In place: past = the last rows of [past; x]."""
    expect(past.shape[1] == x.shape[1], "push_history", past, x)
    if past.size and len(x):
        x = plain(x)
        LAUNCHER.call(
            "push_history", 1, past=address(past), past_rows=len(past), x=address(x), x_rows=len(x), width=past.shape[1]
        )
        LAUNCHER.flush()


def write_rows(target: np.ndarray, x: np.ndarray, first: int) -> None:
    """In place: rows first.. of target become those of x."""
    x = plain(x)
    rows, width = x.shape
    expect(target.shape[1] == width and target.flags.c_contiguous and most_of(first) + rows <= len(target),
           "write_rows", target, x)  # fmt: skip
    if rows:
        _copy_rows(x, first * (4 * width) + address(target))
        LAUNCHER.flush()


def concat(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Rows below one another."""
    parts = [plain(part) for part in parts]
    width = parts[0].shape[1]
    expect(all(part.shape[1] == width for part in parts), "concat", *parts)
    rows = sum(map(len, parts))
    y, at = LAUNCHER.empty(rows, width)
    for part in parts:
        if len(part):
            _copy_rows(part, at)
        at += part.nbytes
    if rows:
        LAUNCHER.flush()
    return y


def _copy_rows(x: np.ndarray, at: int) -> None:
    rows, width = x.shape
    LAUNCHER.call(
        "concat_rows", 1, row_block=rows, rows=rows, past=0, past_rows=0, x=address(x), width=width, pre=0, y=at
    )


def embed(ids: np.ndarray, table: QTensor, residual: np.ndarray | None = None) -> np.ndarray:
    """residual + rows of a table."""
    return _embed(ids[:, None], table, None, residual)


def embed_sum(ids: np.ndarray, table: QTensor, weights: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
    """residual + weighted sum of rows of a table."""
    return _embed(ids, table, weights, residual)


def _embed(ids: np.ndarray, table: QTensor, weights: np.ndarray | None, residual: np.ndarray | None) -> np.ndarray:
    ids = _id_rows(ids)
    rows, terms = ids.shape
    width = table.shape[1]
    expect(residual is None or residual.shape == (rows, width), "embed", ids, residual)
    note_table(table)
    y, at = LAUNCHER.empty(rows, width)
    data = table.data
    groups = table.scale.shape[1] if table.scale is not None else 0
    pieces, block = row_pieces(rows, 4 * terms * width)
    LAUNCHER.call(
        "embed", pieces, row_block=block, rows=rows, ids=address(ids), ids_stride=ids.strides[0] if rows else 0,
        terms=terms, table=address(data), table_rows=len(data), row_bytes=data.strides[0],
        scheme=TABLES.index(table.scheme), scale=address(table.scale), groups=groups, group=table.group,
        weights=address(weights),
        width=width, residual=address(residual), status=LAUNCHER.commands.status_at, y=at,
    )  # fmt: skip
    LAUNCHER.flush()
    return y


def _id_rows(ids: np.ndarray) -> np.ndarray:
    """int64, the ids of a row side by side; rows may lie apart (some columns of a larger array)."""
    if ids.dtype == np.int64 and (ids.shape[1] < 2 or ids.strides[1] == 8):
        return ids
    expect(not LAUNCHER.capturing, "ids of a captured step", ids)
    return np.ascontiguousarray(ids, np.int64)


def argmax_rows(logits: np.ndarray, ids: np.ndarray, first: int, offsets: np.ndarray) -> None:
    """In place: ids[t, first + h] = offsets[h] + the place of the largest of row t's h-th share of the logits."""
    logits = plain(logits)
    rows, heads = len(logits), len(offsets)
    width = logits.shape[1] // heads
    expect(
        logits.shape[1] == heads * width and width > 0 and len(ids) == rows and ids.dtype == np.int64
        and first >= 0 and first + heads <= ids.shape[1] and (not rows or ids.strides[1] == 8)
        and offsets.dtype == np.int64,
        "argmax_rows", logits, ids, offsets,
    )  # fmt: skip
    if rows:
        pieces, block = row_pieces(rows, heads * width)
        LAUNCHER.call(
            "argmax_rows", pieces, row_block=block, rows=rows, x=address(logits), heads=heads, width=width,
            offsets=address(offsets), y=address(ids) + 8 * first, y_stride=ids.strides[0],
            status=LAUNCHER.commands.status_at,
        )  # fmt: skip
        LAUNCHER.flush()


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    heads: int,
    first: int | None = None,
    keys: int | None = None,
) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) v per head; `first`: causal, row i sees keys 0..first+i; `keys`: only so many of k."""
    q, k, v = plain(q), plain(k), plain(v)
    rows, width = q.shape
    keys = len(k) if keys is None else keys
    d, most = width // heads, most_of(keys)
    expect(k.shape == v.shape and k.shape[1] == width and d * heads == width and most <= len(k), "attention", q, k, v)
    y, at = LAUNCHER.empty(rows, width)
    pieces, block = row_pieces(rows, 2 * most * width)
    row_blocks = -(-pieces // heads)
    block = -(-rows // row_blocks)
    row_blocks = -(-rows // block)
    stride = (-(-most // 16) * 16) * 4
    piece = ATTENTION_ROWS * stride + (8 * most * d if block >= ATTENTION_ROWS else 0)
    piece = -(-piece // 64) * 64
    held, scores = LAUNCHER.scratch(heads * row_blocks * piece)
    LAUNCHER.call(
        "attention", heads * row_blocks, row_blocks=row_blocks, row_block=block, rows=rows, q=address(q), k=address(k),
        v=address(v), stride=4 * width, keys=keys, d=d, first=-1 if first is None else first, factor=real(d**-0.5),
        scores=scores, scores_stride=stride, piece_stride=piece, y=at,
    )  # fmt: skip
    LAUNCHER.flush()
    del held
    return y


def nearest_row(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """NumPy's: only when a voice is made, and dominated by one large product.

    On one thread: after a product BLAS's others would turn in circles for tens of milliseconds, on cores that the
    workers need to speak.
    """
    with blas_threads(1):
        return reference.nearest_row(x, table)
