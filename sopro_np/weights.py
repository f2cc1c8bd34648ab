"""Reading a safetensors file strictly, through a memory map, and handing its tensors to the layers.

The header is checked by the safetensors library (sizes, overlaps, holes, UTF-8); this file maps the data and
keeps account: a tensor that is missing, misshapen, of the wrong type or never used is an error.
"""

from __future__ import annotations

import copy
import json
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors

from sopro_np import ops
from sopro_np.errors import FormatError, SoproError
from sopro_np.ops import quant
from sopro_np.ops.quant import QTensor

NUMPY_TYPES = {
    "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "BOOL": "|b1",
    "I8": "|i1", "U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8",
}  # fmt: skip


def read_header(path: str | Path, any_dtype: bool = False) -> tuple[dict[str, dict[str, Any]], dict[str, str], int]:
    """Header of a safetensors file -> (name -> {dtype, shape, data_offsets}, metadata, offset of the data).

    `any_dtype`: also types that cannot be read here, as somebody else's file may hold beside what is wanted.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise FormatError(f"{path}: no such file")
    try:
        with safetensors.safe_open(str(path), framework="numpy"):
            pass
        with path.open("rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(size), object_pairs_hook=_no_duplicates)
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError, struct.error) as error:
        raise FormatError(f"{path}: not a sound safetensors file ({error}); copy or download it again") from None
    metadata = header.pop("__metadata__", {})
    for name, entry in header.items():
        if not any_dtype and entry["dtype"] not in NUMPY_TYPES:
            raise FormatError(f"{path}: tensor {name} has the unsupported dtype {entry['dtype']}")
    return header, metadata, 8 + size


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate name {next(n for n in names if names.count(n) > 1)!r}")
    return result


@contextmanager
def replacing(path: str | Path, error: type[SoproError]) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place if all went well and vanishes otherwise."""
    part = None
    if "\0" in str(path):
        raise error(f"{str(path)!r}: not a file name")
    try:
        real = Path(os.path.realpath(path))  # replace what a link points to, not the link
        if real.exists() and not real.is_file():
            raise error(f"{path}: not an ordinary file; name another one")
        descriptor, part = tempfile.mkstemp(prefix=".sopro-", dir=real.parent)
        with os.fdopen(descriptor, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, real)
    except OSError as problem:
        place = problem.filename if isinstance(problem.filename, str) else path
        raise error(f"{path}: cannot be written ({place}: {problem.strerror})") from None
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


class TensorFile:
    """A safetensors file as a mapping name -> read-only memory-mapped array (BF16 as its uint16 bits)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header, self.metadata, start = read_header(self.path)
        with self.path.open("rb") as f:
            self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._start = start

    def __contains__(self, name: str) -> bool:
        return name in self.header

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.header[name]
        a, b = entry["data_offsets"]
        raw = self._bytes[self._start + a : self._start + b]
        return raw.view(NUMPY_TYPES[entry["dtype"]]).reshape(entry["shape"])

    def forget(self, prefix: str) -> None:
        """Give the pages below a prefix back to the system; they are read again if they are needed again."""
        for name in self.header:
            if name.startswith(prefix):
                self.drop(name)

    def drop(self, name: str) -> None:
        """Give the pages of one tensor back."""
        a, b = (self._start + offset for offset in self.header[name]["data_offsets"])
        first = a // mmap.PAGESIZE * mmap.PAGESIZE
        last = min(-(-b // mmap.PAGESIZE) * mmap.PAGESIZE, len(self._map))
        if b > a and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def json(self, key: str) -> Any:
        """A metadata entry that holds JSON."""
        try:
            return json.loads(self.metadata[key])
        except KeyError:
            raise FormatError(f"{self.path}: metadata {key!r} is missing: not a sopro_np file") from None
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{self.path}: metadata {key!r} is not valid JSON ({error})") from None


class Weights:
    """A view of the tensors below one prefix, which remembers what was asked for.

    `matrix` returns a packed QTensor for the ops, `vector` a float32 array. Shapes are checked where given;
    None stands for "whatever the file says".
    """

    def __init__(self, file: TensorFile, prefix: str = "", used: set[str] | None = None, packs: bool = True) -> None:
        self.file, self.prefix, self._packs = file, prefix, packs
        self.used: set[str] = set() if used is None else used

    def scope(self, name: str | int, packs: bool = True) -> Weights:
        """The tensors below `prefix.name`. `packs` False: leave them as they lie in the file (rarely used ones)."""
        below = copy.copy(self)
        below.prefix, below._packs = f"{self.prefix}{name}.", self._packs and packs
        return below

    def has(self, name: str) -> bool:
        """Is there a matrix or vector of this name?"""
        full = self.prefix + name
        return full in self.file or f"{full}_packed" in self.file

    def vector(self, name: str, *shape: int | None) -> np.ndarray:
        """A small float32 tensor, copied (so that it is aligned and stays when the file is closed)."""
        array = self._take(name, shape)
        self._expect_type(name, "F32")
        if not np.isfinite(array).all():
            raise FormatError(f"{self.file.path}: tensor {self.prefix}{name} holds NaN or infinity")
        return np.array(array, np.float32)

    def mapped(self, name: str, *shape: int | None) -> np.ndarray:
        """A large float32 tensor of which few rows are used: left in the file."""
        array = self._take(name, shape)
        self._expect_type(name, "F32")
        return array

    def matrix(
        self, name: str, rows: int | None, inputs: int | None, taps: int | None = 1, act: str | None = None
    ) -> QTensor:
        """A weight in the form the current ops want: (rows, taps*inputs). `act`: the activation behind it."""
        weight = self.table(name, rows, inputs, taps)
        return ops.pack(weight, act) if self._packs else weight

    def table(self, name: str, rows: int | None, inputs: int | None, taps: int | None = 1) -> QTensor:
        """A weight as it lies in the file: for embeddings, whose rows are read one by one."""
        full = self.prefix + name
        if f"{full}_packed" in self.file:
            return self._packed(name, rows, inputs, taps)
        data = self._take(name, (rows, None))
        columns = data.shape[1]
        if taps is None:
            taps = columns // inputs if inputs else 1
        if inputs is not None and columns != taps * inputs:
            raise FormatError(f"{full}: {columns} columns where {taps} x {inputs} were expected")
        dtype = self.file.header[full]["dtype"]
        shape, drop = (data.shape[0], columns), partial(self.file.drop, full)
        if dtype == "I8":
            scale = self.vector(f"{name}_scale", shape[0], 1)
            return QTensor("int8", shape, data, scale, taps, drop)
        scheme = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}.get(dtype)
        if scheme is None:
            raise FormatError(f"{full}: dtype {dtype} is none of F32, F16, BF16, I8")
        return QTensor(scheme, shape, data, None, taps, drop)

    def _packed(self, name: str, rows: int | None, inputs: int | None, taps: int | None) -> QTensor:
        full = self.prefix + name
        self._expect_type(f"{name}_shape", "I64")
        shape = [int(n) for n in self._take(f"{name}_shape", (None,))]
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise FormatError(f"{full}_shape: {shape} is not (rows, inputs) or (rows, taps, inputs)")
        n, k, c = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
        if n != (rows or n) or c != (inputs or c) or k != (taps or k):
            raise FormatError(f"{full}: shape {shape} where {(rows, taps, inputs)} was expected")
        self._expect_type(f"{name}_packed", "I32")
        data = self._take(f"{name}_packed", (n, k * quant.packed_words(c)))
        scale = self.vector(f"{name}_scale", n, k * quant.groups(c))
        return QTensor("int4", (n, k * c), data, scale, k, partial(self.file.drop, f"{full}_packed"))

    def _take(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        full = self.prefix + name
        if full not in self.file:
            raise FormatError(f"{self.file.path}: tensor {full} is missing")
        array = self.file[full]
        if len(array.shape) != len(shape) or any(
            want not in (None, got) for got, want in zip(array.shape, shape, strict=True)
        ):
            raise FormatError(f"{self.file.path}: tensor {full} has shape {array.shape}, expected {shape}")
        if array.size == 0:
            raise FormatError(f"{self.file.path}: tensor {full} is empty, its shape is {array.shape}")
        self.used.add(full)
        return array

    def _expect_type(self, name: str, dtype: str) -> None:
        full = self.prefix + name
        if full not in self.file:
            raise FormatError(f"{self.file.path}: tensor {full} is missing")
        if self.file.header[full]["dtype"] != dtype:
            raise FormatError(f"{full}: dtype {self.file.header[full]['dtype']}, expected {dtype}")

    def assert_all_used(self) -> None:
        """Every tensor below this prefix was asked for, or the file is not what its header says."""
        unused = [n for n in self.file.header if n.startswith(self.prefix) and n not in self.used]
        if unused:
            raise FormatError(f"{self.file.path}: unexpected tensors: {', '.join(sorted(unused)[:8])}")
