"""A safetensors file read strictly, through a memory map.

The header is checked by the safetensors library (sizes, overlaps, holes, UTF-8); this file maps the data.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from sopro_np.errors import FormatError
from sopro_np.files import file_name

NUMPY_TYPES = {
    "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "BOOL": "|b1",
    "I8": "|i1", "U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8",
}  # fmt: skip


RECORDINGS = (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3", b".snd", b"caff")  # first bytes


def read_header(path: str | Path, any_dtype: bool = False) -> tuple[dict[str, dict[str, Any]], dict[str, str], int]:
    """Header of a safetensors file -> (name -> {dtype, shape, data_offsets}, metadata, offset of the data).

    `any_dtype`: also types that cannot be read here, as somebody else's file may hold beside what is wanted.
    """
    path = file_name(path, "path")
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise FormatError(f"{path}: no such file")
    try:
        with safetensors.safe_open(str(path), framework="numpy"):
            pass
        with path.open("rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(size), object_pairs_hook=_no_duplicates)
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError, struct.error) as error:
        if _is_recording(path):
            raise FormatError(
                f"{path}: a recording, not a model or voice file: it is given with --ref (ref=)"
            ) from None
        raise FormatError(f"{path}: not a sound safetensors file ({error}); copy or download it again") from None
    metadata = header.pop("__metadata__", {})
    for name, entry in header.items():
        if not any_dtype and entry["dtype"] not in NUMPY_TYPES:
            raise FormatError(f"{path}: tensor {name} has the unsupported dtype {entry['dtype']}")
    return header, metadata, 8 + size


def _is_recording(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            return f.read(12).startswith(RECORDINGS)
    except OSError:
        return False


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate name {next(n for n in names if names.count(n) > 1)!r}")
    return result


class TensorFile:
    """A safetensors file as a mapping name -> read-only memory-mapped array (BF16 as its uint16 bits)."""

    def __init__(self, path: str | Path) -> None:
        self.path = file_name(path, "path")
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

    def json(self, key: str) -> Any:
        """A metadata entry that holds JSON."""
        try:
            return json.loads(self.metadata[key])
        except KeyError:
            raise FormatError(f"{self.path}: metadata {key!r} is missing: not a sopro_np file") from None
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{self.path}: metadata {key!r} is not valid JSON ({error})") from None
