"""linear and conv on kernels: weights in panels, rows quantised where the weights are integers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sopro_np.ops.abi import ACTS, PRE, WIDE
from sopro_np.ops.native import arguments
from sopro_np.ops.native.arena import Block
from sopro_np.ops.native.arguments import address, expect, plain, row_pieces
from sopro_np.ops.native.launcher import LAUNCHER
from sopro_np.ops.native.threads import threads
from sopro_np.ops.quant import GROUP, QTensor, groups
from sopro_np.precision import limit

PACKING = {"int8": "pack_int8", "int4": "pack_int4", "fp32": "pack_int32", "fp16": "pack_int16", "bf16": "pack_int16"}
SUMS = 64  # bytes before every tap of a panel: the sums of its 16 outputs' weights, where rows have a zero point


@dataclass(frozen=True)
class Packed:
    """A weight matrix (N, taps*inputs) in panels of 16 outputs; with `paired`, value and gate panels alternate.

    A tap is `steps` steps of `step_bytes`, each for some of its inputs: 4 of int8, a group of int4.
    """

    scheme: str
    shape: tuple[int, int]
    taps: int
    memory: Block
    panels: int
    panel_bytes: int
    scale: np.ndarray | None  # (N,)
    paired: bool
    steps: int
    step_bytes: int
    group: int
    asymmetric: bool
    summed: bool  # SUMS are there

    @property
    def inputs(self) -> int:
        return self.shape[1] // self.taps

    @property
    def nbytes(self) -> int:
        return self.memory.size + (0 if self.scale is None else self.scale.nbytes)


def pack(w: QTensor, act: str | None = None) -> Packed:
    """Copy a weight into panels; a "glu" needs the panels of its two halves side by side."""
    per_step = {"int8": 4, "int4": w.group}.get(w.scheme, 1)
    size = {"int8": 64, "int4": 64 + 8 * w.group, "fp32": 64}.get(w.scheme, 32)
    steps, summed = -(-w.inputs // per_step), w.asymmetric and LAUNCHER.kernels.target not in WIDE
    halves = 2 if act == "glu" else 1
    n = w.shape[0] // halves
    panel = w.taps * (steps * size + SUMS * summed)
    panels = -(-n // 16)
    block = Block(halves * panels * panel)
    data = np.ascontiguousarray(w.data)
    for half in range(halves):
        LAUNCHER.call(
            PACKING[w.scheme], panels, w=data.ctypes.data, scale=address(w.scale), rows=n, first=half * n, taps=w.taps,
            inputs=w.inputs, group=w.group, sums=int(summed), panels=block.address + half * panel,
            panel_bytes=halves * panel,
        )  # fmt: skip
    LAUNCHER.flush()
    w.drop()
    scale = None if w.scheme != "int8" or w.scale is None else np.ascontiguousarray(w.scale[:, 0])
    return Packed(
        w.scheme, w.shape, w.taps, block, halves * panels, panel, scale, act == "glu", steps, size, w.group,
        w.asymmetric, summed,
    )  # fmt: skip


@dataclass
class _Scope:
    """What a `temporary_packing` will give back: panels, and tables of which rows were read."""

    panels: dict[tuple[int, str | None], tuple[QTensor, Packed]]
    tables: dict[int, QTensor]


_scope: ContextVar[_Scope | None] = ContextVar("sopro_np_temporary", default=None)


@contextmanager
def temporary_packing() -> Iterator[None]:
    """Weights that were left as they lie in the file are packed once inside this block, and given back at its end."""
    token = _scope.set(_Scope({}, {}))
    try:
        yield
    finally:
        scope = _scope.get()
        _scope.reset(token)
        for table in scope.tables.values() if scope else ():
            table.drop()
        LAUNCHER.arena.trim()


def note_table(table: QTensor) -> None:
    """Rows of this table are read from the file: inside a `temporary_packing` its pages are given back."""
    if (scope := _scope.get()) is not None:
        scope.tables[id(table)] = table


def _packed(w: QTensor, act: str | None) -> Packed:
    """A weight that is seldom used, packed for the length of the scope around it, or for this product alone."""
    scope = _scope.get()
    if scope is None:
        return pack(w, act)
    known = scope.panels.get((id(w), act))
    if known is None:
        known = scope.panels[id(w), act] = w, pack(w, act)
    return known[1]


def linear(
    x: np.ndarray,
    w: Packed,
    bias: np.ndarray | None = None,
    act: str | None = None,
    scale: np.ndarray | np.float32 | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """residual + scale * act(x W^T + b)."""
    return _product(x, w, bias, 1, 1, None, None, residual, act, scale)


def conv(
    x: np.ndarray,
    w: Packed,
    bias: np.ndarray | None = None,
    stride: int = 1,
    dilation: int = 1,
    past: np.ndarray | None = None,
    pre: str | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """residual + b + sum_k W_k rows[t*stride + k*dilation], rows = pre([past; x])."""
    return _product(x, w, bias, stride, dilation, past, pre, residual, None, None)


def _product(
    x: np.ndarray,
    w: Packed | QTensor,
    bias: np.ndarray | None,
    stride: int,
    dilation: int,
    past: np.ndarray | None,
    pre: str | None,
    residual: np.ndarray | None,
    act: str | None,
    scale: np.ndarray | np.float32 | None,
) -> np.ndarray:
    """`linear` and `conv` in one: prepare the rows, then the product with all that follows it."""
    w = w if isinstance(w, Packed) else _packed(w, act)
    c, taps = w.inputs, w.taps
    x = plain(x)
    past, bias, residual = (None if a is None else plain(a) for a in (past, bias, residual))
    rows_in = len(x) + (0 if past is None else len(past))
    rows = max((rows_in - (taps - 1) * dilation - 1) // stride + 1, 0)
    width = w.shape[0] // 2 if w.paired else w.shape[0]
    expect(
        x.shape[1] == c
        and (past is None or past.shape[1] == c)
        and (bias is None or len(bias) == w.shape[0])
        and (residual is None or residual.shape == (rows, width))
        and w.paired == (act == "glu"),
        "product", x, past, bias, residual,
    )  # fmt: skip
    y, y_at = LAUNCHER.empty(rows, width)
    if not rows:
        return y
    rows_of_x = _prepared(x, past, pre, w)
    row_bytes = rows_of_x.row_bytes
    if scale is not None:
        scale = np.full(width, scale, np.float32) if np.ndim(scale) == 0 else plain(np.asarray(scale))
    strip = 16 if w.memory.size <= 1 << 18 else 128  # small weights stay in the cache anyway
    row_blocks, row_block, panel_blocks, panel_block = _pieces(rows, w.panels, taps * w.steps * w.step_bytes // 4)
    LAUNCHER.call(
        f"gemm_{w.scheme}", row_blocks * panel_blocks, row_blocks=row_blocks, row_block=row_block,
        panel_block=panel_block, strip=strip, rows=rows, panels=w.panels, taps=taps, steps=w.steps,
        group=w.group // GROUP, x=rows_of_x.at, x_stride=stride * row_bytes, tap_stride=dilation * row_bytes,
        row_scale=rows_of_x.scale, row_start=rows_of_x.start, row_zero=rows_of_x.zero if w.summed else 0,
        scale_stride=4 * stride, scale_tap=4 * dilation, low=rows_of_x.low, low_scale=rows_of_x.low_scale,
        low_start=rows_of_x.low_start, w=w.memory.address, panel_bytes=w.panel_bytes,
        w_scale=address(w.scale), bias=address(bias), y=y_at, width=width, act=ACTS.index(act),
        residual=address(residual), scale=address(scale),
    )  # fmt: skip
    LAUNCHER.flush()
    del rows_of_x
    return y


class Rows(NamedTuple):
    """Rows as a product takes them: where they lie, and what holds the memory. low, low_scale, low_start: how far the
    low bytes, their scales and starts are behind the others; 0 where no row has any."""

    held: Any
    at: int
    row_bytes: int
    scale: int = 0
    start: int = 0
    zero: int = 0
    low: int = 0
    low_scale: int = 0
    low_start: int = 0


def _prepared(x: np.ndarray, past: np.ndarray | None, pre: str | None, w: Packed) -> Rows:
    """The rows of past and x, through `pre`: int8 with scales and start values, or float, as w's scheme wants them."""
    c = x.shape[1]
    past_rows = 0 if past is None else len(past)
    rows = past_rows + len(x)
    if not w.scheme.startswith("int") and not past_rows and pre is None:
        return Rows(x, address(x), 4 * c)
    pieces, block = row_pieces(rows, 8 * c)
    source = {
        "row_block": block, "rows": rows, "past": address(past), "past_rows": past_rows, "x": address(x), "width": c,
        "pre": PRE.index(pre),
    }  # fmt: skip
    if not w.scheme.startswith("int"):
        held, at = LAUNCHER.scratch(4 * rows * c)
        LAUNCHER.call("concat_rows", pieces, **source, y=at)
        return Rows(held, at, 4 * c)
    sums = groups(c, w.group) if w.scheme == "int4" else 0
    row_bytes = -(-c // 32) * 32
    if w.scheme == "int8" and LAUNCHER.kernels.target in WIDE:
        row_bytes *= 2
    split = limit(c, w.asymmetric)
    bytes_, scales, starts = rows * row_bytes, 4 * rows, 4 * rows * max(sums, 1)
    held, at = LAUNCHER.scratch((bytes_ + scales + starts) * (2 if split else 1) + scales)
    # The same once more for the low bytes, one kind behind the other.
    both = 2 if split else 1
    scale, start, zero = at + both * bytes_, at + both * (bytes_ + scales), at + both * (bytes_ + scales + starts)
    low = {"low": at + bytes_, "low_scale": scale + scales, "low_start": start + starts} if split else {}
    LAUNCHER.call(
        "quantise", pieces, **source, q=at, q_stride=row_bytes, groups=sums, group=w.group, scale=scale, start=start,
        asymmetric=int(w.asymmetric), zero=zero, limit=split, status=LAUNCHER.commands.status_at,
        **{"low": 0, "low_scale": 0, "low_start": 0} | low,
    )  # fmt: skip
    found = Rows(held, at, row_bytes, scale, start, zero)
    return found._replace(low=bytes_, low_scale=scales, low_start=starts) if split else found


def _pieces(rows: int, panels: int, cost: int) -> tuple[int, int, int, int]:
    """Cut a product into independent rectangles: (row blocks, rows, panel blocks, panels of a block)."""
    n = threads()
    # Few rows wait for memory: the same count takes longer.
    worth = arguments.PIECE if rows >= 8 else arguments.PIECE // 8
    wanted = 1 if n == 1 else max(1, min(4 * n, rows * panels * cost // worth))
    if wanted == 1:
        return 1, rows, 1, panels
    if rows >= 64 * n:
        block = -(-rows // wanted)
        block = -(-block // 16) * 16
        return -(-rows // block), block, 1, panels
    block = -(-panels // wanted)
    block = -(-block // 4) * 4
    return 1, rows, -(-panels // block), block
