"""Writing the planned file: header first, then every tensor in row blocks, to a temporary file that is renamed.

Peak memory is one block (or one transposed weight), whatever the model's size. Tensors are laid out by the
size of their numbers, the widest first, and the data starts at a multiple of 64 bytes, so everything is
aligned when mapped.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sopro_np.convert.plan import Matrix, Part
from sopro_np.convert.recipe import Recipe
from sopro_np.convert.rounding import Fitted, Rounding
from sopro_np.errors import ConvertError, FormatError, RecipeError
from sopro_np.files import replacing
from sopro_np.ops import quant
from sopro_np.ops.quant import FORMATS, Format

MAX_HEADER = 100_000_000  # of the safetensors library
BLOCK_BYTES = 4 << 20  # of float32 source rows
CODES = {"float32": "F32", "float16": "F16", "int8": "I8", "int32": "I32", "int64": "I64",
         "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64"}  # fmt: skip
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "I32": 4, "I64": 8, "U8": 1, "U16": 2, "U32": 4, "U64": 8}


@dataclass
class TensorReport:
    """What became of one matrix. `plain_snr_db`: with the largest weight as the largest integer; `output_snr_db` and
    `plain_output_snr_db`: of what it computes from inputs that calibration set aside (None: not calibrated)."""

    name: str
    source: str
    scheme: str
    shape: tuple[int, int]
    bytes: int
    max_error: float
    snr_db: float | None  # None: no error at all
    plain_snr_db: float | None = None
    output_snr_db: float | None = None
    plain_output_snr_db: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Losses:
    """Powers of a signal and of its errors under several roundings, added up."""

    def __init__(self) -> None:
        self.signal, self.errors = 0.0, np.zeros(2)

    def add(self, signal: np.ndarray, *errors: np.ndarray) -> None:
        self.signal += float(np.vdot(signal, signal))
        self.errors[: len(errors)] += [float(np.vdot(e, e)) for e in errors]

    def snr(self, which: int) -> float | None:
        """In dB; None: no error, or no signal."""
        error = self.errors[which]
        return 10 * math.log10(self.signal / error) if error > 0 and self.signal > 0 else None


def write_file(
    path: Path, parts: list[Part], recipe: Recipe, metadata: dict[str, str], rounding: Rounding | None = None
) -> list[TensorReport]:
    """Write all parts to `path` at once; on any failure nothing is left behind.

    `rounding`: how integers are found (default: by the weights alone).
    """
    rounding = rounding or Fitted()
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    matrices: list[tuple[Matrix, str]] = []
    arrays: dict[str, np.ndarray] = {}
    for part in parts:
        for name, array in part.arrays.items():
            layout[name] = (CODES[array.dtype.name], array.shape)
            arrays[name] = array
        for m in part.matrices:
            scheme = recipe.scheme(m.name)
            _check_divides(m, scheme)
            matrices.append((m, scheme))
            layout.update(_stored(m, FORMATS[scheme]))
    offsets, header = _plan_header(layout, metadata)
    with replacing(path, ConvertError) as f:
        f.write(header)
        start = len(header)
        end = start + sum(SIZES[d] * math.prod(s) for d, s in layout.values())
        f.truncate(end)
        for name, array in arrays.items():
            _put(f, start + offsets[name], array)
        return [_write_matrix(f, m, scheme, start, offsets, rounding) for m, scheme in matrices]


def _check_divides(m: Matrix, scheme: str) -> None:
    try:
        quant.grouped(np.zeros((0, m.taps * m.inputs), np.float32), m.taps, FORMATS[scheme].group)
    except FormatError as problem:
        short = m.name.removesuffix(".weight")
        raise RecipeError(f'{m.name} as {scheme}: {problem}: a rule ["{short}", "int4"] first') from None


def _stored(m: Matrix, form: Format) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensors that one matrix becomes: name -> (dtype, shape)."""
    columns, scheme = m.taps * m.inputs, form.scheme
    if scheme == "int8":
        return {m.name: ("I8", (m.rows, columns)), f"{m.name}_scale": ("F32", (m.rows, 1))}
    if scheme == "int4":
        shape = (2,) if m.taps == 1 else (3,)
        return {
            f"{m.name}_packed": ("I32", (m.rows, m.taps * quant.packed_words(m.inputs))),
            f"{m.name}_scale": ("F16", (m.rows, m.taps * quant.groups(m.inputs, form.group))),
            f"{m.name}_shape": ("I64", shape),
        }
    return {m.name: ({"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[scheme], (m.rows, columns))}


def _plan_header(
    layout: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> tuple[dict[str, int], bytes]:
    header: dict[str, Any] = {"__metadata__": metadata}
    offsets: dict[str, int] = {}
    position = 0
    for name in sorted(layout, key=lambda n: (-SIZES[layout[n][0]], n)):
        dtype, shape = layout[name]
        size = SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        offsets[name] = position
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % 64)
    if len(text) > MAX_HEADER:
        raise ConvertError("the header would exceed 100 MB, more than readers accept: is a config file damaged?")
    return offsets, struct.pack("<Q", len(text)) + text


def _write_matrix(
    f: BinaryIO, m: Matrix, scheme: str, start: int, offsets: dict[str, int], rounding: Rounding
) -> TensorReport:
    form = FORMATS[scheme]
    stored, packed, integers = _stored(m, form), form.scheme == "int4", form.scheme in ("int8", "int4")
    data_name = f"{m.name}_packed" if packed else m.name
    widths = {n: SIZES[d] * math.prod(s[1:]) for n, (d, s) in stored.items()}
    weights, outputs, worst = Losses(), Losses(), 0.0
    judges = rounding.judges(m.name) if integers else None
    for a, rows in _blocks(m):
        try:
            q = rounding(m.name, rows, scheme, m.taps, a)
            plain = quant.quantize(rows, scheme, m.taps) if integers else q
        except FormatError as problem:
            raise ConvertError(f"{m.name}: {problem}") from None
        _put(f, start + offsets[data_name] + a * widths[data_name], q.data)
        if q.scale is not None:
            scale = q.scale.astype(np.float16) if packed else q.scale
            _put(f, start + offsets[f"{m.name}_scale"] + a * widths[f"{m.name}_scale"], scale)
        if scheme != "fp32":
            differences = [t.dequantize() - rows for t in ((q, plain) if integers else (q,))]
            if not all(np.isfinite(d).all() for d in differences):
                raise ConvertError(f"{m.name}: a weight exceeds the range of {scheme}: choose fp32 for this tensor")
            worst = max(worst, float(np.abs(differences[0]).max(initial=0)))
            weights.add(rows, *differences)
            if judges is not None:
                outputs.add(judges @ rows.T, *(judges @ d.T for d in differences))
    if packed:
        shape = (m.rows, m.inputs) if m.taps == 1 else (m.rows, m.taps, m.inputs)
        _put(f, start + offsets[f"{m.name}_shape"], np.array(shape, np.int64))
    size = sum(SIZES[d] * math.prod(s) for d, s in stored.values())
    return TensorReport(
        m.name, m.source, scheme, (m.rows, m.taps * m.inputs), size, worst, weights.snr(0),
        weights.snr(1) if integers else weights.snr(0), outputs.snr(0), outputs.snr(1),
    )  # fmt: skip


def _blocks(m: Matrix) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of a matrix, a few MB at a time. A convolution's producer may read its whole weight: one block then."""
    step = m.rows if m.taps > 1 else max(1, BLOCK_BYTES // (4 * m.inputs))
    for a in range(0, m.rows, step):
        b = min(a + step, m.rows)
        rows = m.produce(a, b)
        assert rows.shape == (b - a, m.taps * m.inputs), (m.name, rows.shape)
        yield a, rows


def _put(f: BinaryIO, position: int, array: np.ndarray) -> None:
    f.seek(position)
    f.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
