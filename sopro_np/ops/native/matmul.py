"""linear and conv on kernels: weights in panels, rows quantised where the weights are integers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from sopro_np.ops.abi import ACTS, PRE, WIDE
from sopro_np.ops.native import arguments
from sopro_np.ops.native.arena import Block
from sopro_np.ops.native.arguments import address, expect, plain, row_pieces
from sopro_np.ops.native.launcher import LAUNCHER
from sopro_np.ops.native.threads import threads
from sopro_np.ops.quant import QTensor

# scheme -> kernel that packs it, inputs of one step, bytes of one step of one panel
LAYOUTS = {
    "int8": ("pack_int8", 4, 64),
    "int4": ("pack_int4", 32, 320),
    "fp32": ("pack_int32", 1, 64),
    "fp16": ("pack_int16", 1, 32),
    "bf16": ("pack_int16", 1, 32),
}


@dataclass(frozen=True)
class Packed:
    """A weight matrix (N, taps*inputs) in panels of 16 outputs; with `paired`, value and gate panels alternate."""

    scheme: str
    shape: tuple[int, int]
    taps: int
    memory: Block
    panels: int
    panel_bytes: int
    scale: np.ndarray | None  # (N,)
    paired: bool

    @property
    def inputs(self) -> int:
        return self.shape[1] // self.taps

    @property
    def nbytes(self) -> int:
        return self.memory.size + (0 if self.scale is None else self.scale.nbytes)


def pack(w: QTensor, act: str | None = None) -> Packed:
    """Copy a weight into panels; a "glu" needs the panels of its two halves side by side."""
    kernel, per_step, size = LAYOUTS[w.scheme]
    halves = 2 if act == "glu" else 1
    n = w.shape[0] // halves
    panel = w.taps * -(-w.inputs // per_step) * size
    panels = -(-n // 16)
    block = Block(halves * panels * panel)
    data = np.ascontiguousarray(w.data)
    for half in range(halves):
        LAUNCHER.call(
            kernel, panels, w=data.ctypes.data, scale=address(w.scale), rows=n, first=half * n, taps=w.taps,
            inputs=w.inputs, panels=block.address + half * panel, panel_bytes=halves * panel,
        )  # fmt: skip
    LAUNCHER.flush()
    w.drop()
    scale = None if w.scheme != "int8" or w.scale is None else np.ascontiguousarray(w.scale[:, 0])
    return Packed(w.scheme, w.shape, w.taps, block, halves * panels, panel, scale, act == "glu")


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
    _, per_step, size = LAYOUTS[w.scheme]
    steps = -(-c // per_step)
    held, q, row_bytes, row_scale, row_start = _prepared(x, past, pre, w.scheme, steps)
    if scale is not None:
        scale = np.full(width, scale, np.float32) if np.ndim(scale) == 0 else plain(np.asarray(scale))
    strip = 16 if w.memory.size <= 1 << 18 else 128  # small weights stay in the cache anyway
    row_blocks, row_block, panel_blocks, panel_block = _pieces(rows, w.panels, taps * steps * size // 4)
    LAUNCHER.call(
        f"gemm_{w.scheme}", row_blocks * panel_blocks, row_blocks=row_blocks, row_block=row_block,
        panel_block=panel_block, strip=strip, rows=rows, panels=w.panels, taps=taps, steps=steps, x=q,
        x_stride=stride * row_bytes, tap_stride=dilation * row_bytes, row_scale=row_scale, row_start=row_start,
        scale_stride=4 * stride, scale_tap=4 * dilation, w=w.memory.address, panel_bytes=w.panel_bytes,
        w_scale=address(w.scale), bias=address(bias), y=y_at, width=width, act=ACTS.index(act),
        residual=address(residual), scale=address(scale),
    )  # fmt: skip
    LAUNCHER.flush()
    del held
    return y


def _prepared(
    x: np.ndarray, past: np.ndarray | None, pre: str | None, scheme: str, steps: int
) -> tuple[Any, int, int, int, int]:
    """The rows as a product of that scheme takes them: int8 with scales and start values, or float.

    -> (what to keep until the calls have run, address, bytes of a row, addresses of scales and start values).
    """
    c = x.shape[1]
    past_rows = 0 if past is None else len(past)
    rows = past_rows + len(x)
    if not scheme.startswith("int") and not past_rows and pre is None:
        return x, address(x), 4 * c, 0, 0
    pieces, block = row_pieces(rows, 8 * c)
    source = {
        "row_block": block, "rows": rows, "past": address(past), "past_rows": past_rows, "x": address(x), "width": c,
        "pre": PRE.index(pre),
    }  # fmt: skip
    if not scheme.startswith("int"):
        held, at = LAUNCHER.scratch(4 * rows * c)
        LAUNCHER.call("concat_rows", pieces, **source, y=at)
        return held, at, 4 * c, 0, 0
    groups = steps if scheme == "int4" else 0
    row_bytes = -(-c // 32) * 32
    if scheme == "int8" and LAUNCHER.kernels.target in WIDE:
        row_bytes *= 2
    held, at = LAUNCHER.scratch(rows * (row_bytes + 4 + 4 * max(groups, 1)))
    row_scale = at + rows * row_bytes
    row_start = row_scale + 4 * rows
    LAUNCHER.call(
        "quantise", pieces, **source, q=at, q_stride=row_bytes, groups=groups, scale=row_scale, start=row_start,
        status=LAUNCHER.commands.status_at,
    )  # fmt: skip
    return held, at, row_bytes, row_scale, row_start


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
