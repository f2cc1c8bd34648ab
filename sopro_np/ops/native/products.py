"""linear and conv on kernels: weights in panels, rows quantised where the weights are integers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from sopro_np.errors import OpsError
from sopro_np.ops.abi import ACTS, PRE
from sopro_np.ops.native.arena import Block
from sopro_np.ops.native.desk import DESK, Recorded, threads
from sopro_np.ops.quant import QTensor

# scheme -> kernel that packs it, inputs of one step, bytes of one step of one panel
LAYOUTS = {
    "int8": ("pack_int8", 4, 64),
    "int4": ("pack_int4", 32, 320),
    "fp32": ("pack_int32", 1, 64),
    "fp16": ("pack_int16", 1, 32),
    "bf16": ("pack_int16", 1, 32),
}
_BYTE = ctypes.c_char
PIECE = 60_000  # multiply-accumulates of int8 below which a piece of work is not worth handing over (about 0.3 us)


@dataclass(frozen=True)
class Packed:
    """A weight matrix (N, taps*inputs) in panels of 16 outputs; with `paired`, value and gate panels alternate."""

    scheme: str
    shape: tuple[int, int]
    taps: int
    memory: Block
    vectors: int
    vector_bytes: int
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
    vectors = -(-n // 16)
    block = Block(halves * vectors * panel)
    data = np.ascontiguousarray(w.data)
    desk = DESK
    for half in range(halves):
        place = block.address + half * panel
        desk.call(
            kernel, vectors, data.ctypes.data, address(w.scale), n, half * n, w.taps, w.inputs, place,
            halves * panel,
        )  # fmt: skip
    desk.go()
    if w.drop:
        w.drop()
    scale = None if w.scheme != "int8" or w.scale is None else np.ascontiguousarray(w.scale[:, 0])
    return Packed(w.scheme, w.shape, w.taps, block, halves * vectors, panel, scale, act == "glu")


_passing: dict[tuple[int, str | None], tuple[QTensor, Packed]] = {}


def release() -> None:
    """Forget the panels of weights that were not packed when they were loaded, and memory nobody uses now."""
    _passing.clear()
    DESK.arena.trim()


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


def address(x: np.ndarray | None) -> int:
    """Where an array's numbers lie; 0 for no array."""
    if x is None:
        return 0
    try:
        return ctypes.addressof(_BYTE.from_buffer(x))  # type: ignore[arg-type]  # four times as fast as asking the array
    except (TypeError, ValueError, BufferError):  # read-only (a mapped file), or empty
        return int(x.__array_interface__["data"][0])


def plain(x: np.ndarray) -> np.ndarray:
    """Float32, row after row without gaps: what kernels take."""
    if x.dtype == np.float32 and x.flags.c_contiguous:
        return x
    if isinstance(x, Recorded):
        raise OpsError("in a recorded step the copy of an input that is not in rows would be lost: give whole rows")
    return np.ascontiguousarray(x, np.float32)


def expect(fits: bool, what: str, *arrays: np.ndarray | None) -> None:
    """Kernels trust their addresses: shapes that do not fit stop here, as they would in NumPy."""
    if not fits:
        shapes = ", ".join(str(None if a is None else a.shape) for a in arrays)
        raise ValueError(f"{what}: shapes {shapes} do not fit")


def row_pieces(rows: int, cost: int) -> tuple[int, int]:
    """(pieces, rows of a piece) for `rows` rows of that many simple steps each."""
    if threads() == 1:
        return 1, rows
    pieces = max(1, min(4 * threads(), rows, rows * cost // PIECE))
    block = -(-rows // pieces)
    return -(-rows // block) if block else 1, max(block, 1)


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
    desk, c, taps = DESK, w.inputs, w.taps
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
    y, y_at = desk.empty(rows, width)
    if not rows:
        return y
    _, per_step, size = LAYOUTS[w.scheme]
    steps = -(-c // per_step)
    held, q, row_bytes, row_scale, row_start = _prepared(x, past, pre, w.scheme, steps)
    if scale is not None:
        scale = np.full(width, scale, np.float32) if np.ndim(scale) == 0 else plain(np.asarray(scale))
        desk.hold(scale)
    strip = 16 if w.memory.size <= 1 << 18 else 128  # small weights stay in the cache anyway
    row_blocks, row_block, vector_blocks, vector_block = _pieces(rows, w.vectors, taps * steps * size // 4)
    desk.call(
        f"gemm_{w.scheme}", row_blocks * vector_blocks, row_blocks, row_block, vector_block, strip, rows, w.vectors,
        taps, steps, q, stride * row_bytes, dilation * row_bytes, row_scale, row_start, 4 * stride, 4 * dilation,
        w.memory.address, w.vector_bytes, address(w.scale), address(bias), y_at, width, ACTS.index(act),
        address(residual), address(scale),
    )  # fmt: skip
    desk.go()
    del held
    return y


def _packed(w: QTensor, act: str | None) -> Packed:
    """A weight that was left as it lies in the file, for it is seldom used: packed until `release`."""
    known = _passing.get((id(w), act))
    if known is None:
        if len(_passing) >= 256:  # nobody said that the work was done
            release()
        known = _passing[id(w), act] = w, pack(w, act)
    return known[1]


def _prepared(
    x: np.ndarray, past: np.ndarray | None, pre: str | None, scheme: str, steps: int
) -> tuple[Any, int, int, int, int]:
    """The rows as a product of that scheme takes them: int8 with scales and start values, or float.

    -> (what to keep until the calls have run, address, bytes of a row, addresses of scales and start values).
    """
    desk, c = DESK, x.shape[1]
    past_rows = 0 if past is None else len(past)
    rows = past_rows + len(x)
    if not scheme.startswith("int") and not past_rows and pre is None:
        return x, address(x), 4 * c, 0, 0
    pieces, block = row_pieces(rows, 8 * c)
    source = (pieces, block, rows, address(past), past_rows, address(x), c, PRE.index(pre))
    if not scheme.startswith("int"):
        held, at = desk.scratch(4 * rows * c)
        desk.call("collect", *source, at)
        return held, at, 4 * c, 0, 0
    groups = steps if scheme == "int4" else 0
    row_bytes = -(-c // 32) * 32
    held, at = desk.scratch(rows * (row_bytes + 4 + 4 * max(groups, 1)))
    row_scale = at + rows * row_bytes
    row_start = row_scale + 4 * rows
    desk.call("quantise", *source, at, row_bytes, groups, row_scale, row_start, desk.program.status_at)
    return held, at, row_bytes, row_scale, row_start


def _pieces(rows: int, vectors: int, cost: int) -> tuple[int, int, int, int]:
    """Cut a product into independent rectangles: (row blocks, rows, vector blocks, vectors of a block)."""
    n = threads()
    worth = PIECE if rows >= 8 else PIECE // 8  # few rows wait for memory: the same count takes longer
    wanted = 1 if n == 1 else max(1, min(4 * n, rows * vectors * cost // worth))
    if wanted == 1:
        return 1, rows, 1, vectors
    if rows >= 64 * n:
        block = -(-rows // wanted)
        block = -(-block // 16) * 16
        return -(-rows // block), block, 1, vectors
    block = -(-vectors // wanted)
    block = -(-block // 4) * 4
    return 1, rows, -(-vectors // block), block
