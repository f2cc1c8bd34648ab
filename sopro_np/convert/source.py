"""Reading somebody else's checkpoint: block by block, widened to float32, with an account of what was used.

A safetensors file is read with `seek` and `read`, not through a memory map, so that pages already seen do not
stay in the process: converting a gigabyte takes a few tens of MB. A checkpoint may be cut into several such files
(shards), which an index names.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.errors import ConvertError, FormatError
from sopro_np.ops.quant import from_bf16
from sopro_np.tensorfile import NUMPY_TYPES, read_header

FLOATS = ("F32", "F16", "BF16", "F64")
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"[A-Za-z0-9][\w.-]*\.safetensors", re.ASCII)  # a name, never a path
MAX_SHARDS = 1000


class Source(ABC):
    """Tensors by name; `rows` reads some rows, `whole` all of them; `rest` tells what nobody asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, [path]
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def sha256(self) -> str:
        """Hex digest of all that was read."""
        return sha256_of(*self.files)

    @abstractmethod
    def _rows(self, name: str, first: int, last: int) -> np.ndarray:
        """Rows of a tensor that exists, widened to float32."""

    def shape(self, name: str, *expected: int | None) -> tuple[int, ...]:
        """Shape of a tensor that must be there; None in `expected` stands for any size."""
        if name not in self.shapes:
            raise ConvertError(f"{self.path}: tensor {name} is missing; is this the right checkpoint?")
        self._used.add(name)
        shape = self.shapes[name]
        if expected and (
            len(shape) != len(expected) or any(e not in (None, s) for s, e in zip(shape, expected, strict=True))
        ):
            raise ConvertError(f"{self.path}: tensor {name} has shape {shape}, expected {expected}")
        if 0 in shape:
            raise ConvertError(f"{self.path}: tensor {name} is empty, its shape is {shape}")
        return shape

    def rows(self, name: str, first: int, last: int) -> np.ndarray:
        """Rows first..last-1 along the first axis, float32."""
        self.shape(name)
        block = self._rows(name, first, last)
        if not np.isfinite(block).all():
            raise ConvertError(f"{self.path}: tensor {name} holds NaN or infinity")
        return block

    def whole(self, name: str, *expected: int | None) -> np.ndarray:
        """The tensor as float32, in its own shape."""
        shape = self.shape(name, *expected)
        return self.rows(name, 0, shape[0] if shape else 1).reshape(shape)

    def ignore(self, name: str) -> None:
        """Known and not needed."""
        self._used.add(name)

    def rest(self, drop: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Tensors that nobody asked for: those that match a pattern of `drop`, and the others."""
        unused = set(self.shapes) - self._used
        dropped = {n for n in unused if any(fnmatch.fnmatchcase(n, pattern) for pattern in drop)}
        return sorted(dropped), sorted(unused - dropped)


def sha256_of(*paths: Path) -> str:
    """Hex digest of the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as f:
            hashlib.file_digest(f, lambda: digest)
    return digest.hexdigest()


class SafetensorsSource(Source):
    """A .safetensors file, F32, F16, BF16 or F64."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._header, self.metadata, self._start = read_header(path, any_dtype=True)  # also of what is passed over
        self.shapes = {n: tuple(e["shape"]) for n, e in self._header.items()}
        self._file = path.open("rb")

    def _rows(self, name: str, first: int, last: int) -> np.ndarray:
        entry = self._header[name]
        if entry["dtype"] not in FLOATS:
            raise ConvertError(f"{self.path}: tensor {name} is {entry['dtype']}, not a float type")
        dtype = np.dtype(NUMPY_TYPES[entry["dtype"]])
        shape = self.shapes[name] or (1,)
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        self._file.seek(self._start + entry["data_offsets"][0] + first * row)
        raw = np.frombuffer(self._file.read((last - first) * row), dtype).reshape(last - first, *shape[1:])
        if entry["dtype"] == "BF16":
            return from_bf16(raw)
        with np.errstate(over="ignore"):  # `rows` refuses what becomes infinite
            return raw.astype(np.float32, copy=False)


class ShardedSource(Source):
    """The files that a model.safetensors.index.json names, beside it. Each tensor lies in the file that it says."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._shards = {name: SafetensorsSource(path.parent / name) for name in shards(path)}
        self.files += [shard.path for shard in self._shards.values()]
        for name, shard in self._shards.items():
            if twice := self.shapes.keys() & shard.shapes.keys():
                raise ConvertError(f"{path}: tensor {min(twice)} lies in {name} and in another file")
            self.shapes |= shard.shapes
        self._where = {tensor: shard for shard in self._shards.values() for tensor in shard.shapes}
        for tensor, name in read_json(path)["weight_map"].items():
            if tensor not in self._shards[name]:
                raise ConvertError(f"{path}: tensor {tensor} should lie in {name}, which does not hold it")

    def _rows(self, name: str, first: int, last: int) -> np.ndarray:
        return self._where[name]._rows(name, first, last)


def shards(index: Path) -> list[str]:
    """Names of the files that an index names, sorted; only plain names of safetensors files are taken."""
    content = read_json(index)
    where = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(where, dict) or not where:
        raise ConvertError(f"{index}: has no weight_map: not the index of a checkpoint in several files")
    names = sorted({str(name) for name in where.values()})
    if bad := [n for n in names if not SHARD.fullmatch(n)]:
        raise ConvertError(f"{index}: {bad[0]!r:.80} is not the name of a safetensors file beside it")
    if len(names) > MAX_SHARDS:
        raise ConvertError(f"{index}: names {len(names)} files, at most {MAX_SHARDS} are read")
    return names


def weight_files(path: Path) -> list[Path]:
    """The file itself, or the one of a folder that transformers would take; with an index, the files that it names."""
    first = path
    if os.path.isdir(path):
        there = [path / name for name in ("model.safetensors", INDEX, "pytorch_model.bin")]
        first = next((file for file in there if file.is_file()), there[0])
    if not (first.name.endswith(".index.json") and os.path.isfile(first)):
        return [first]
    return [first, *(first.parent / name for name in shards(first))]


class PickleSource(Source):
    """A .pt or .bin file, read by torch with `weights_only=True`: code hidden in the pickle does not run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import torch
        except ImportError:
            raise ConvertError(
                f"{path}: reading a pickle needs torch (pip install torch==2.13.0), or a .safetensors file"
            ) from None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds; whatever it was, nothing is converted
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConvertError(
                f"{path}: torch refuses to load it as plain weights ({reason}); "
                "such a file may run code when loaded: get a .safetensors file instead"
            ) from None
        self._tensors = self._state_dict(content)
        self.shapes = {n: tuple(t.shape) for n, t in self._tensors.items()}

    def _state_dict(self, content: Any) -> dict[str, Any]:
        """The tensors themselves, or those under `state_dict` / `model`, with `cfg` beside them."""
        import torch

        if not isinstance(content, dict):
            raise ConvertError(f"{self.path}: holds a {type(content).__name__}, not a state dict")
        if isinstance(cfg := content.get("cfg"), dict | str):
            self.metadata["cfg"] = cfg if isinstance(cfg, str) else json.dumps(cfg)
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
        tensors = {n: t for n, t in content.items() if isinstance(t, torch.Tensor)}
        for name, tensor in tensors.items():
            if not isinstance(name, str) or tensor.layout != torch.strided or tensor.device.type != "cpu":
                raise ConvertError(f"{self.path}: {name!r} is not a named, dense tensor")
        return tensors

    def _rows(self, name: str, first: int, last: int) -> np.ndarray:
        tensor = self._tensors[name]
        if not tensor.is_floating_point():
            raise ConvertError(f"{self.path}: tensor {name} is {tensor.dtype}, not a float type")
        rows = tensor[first:last] if tensor.ndim else tensor.reshape(1)
        return rows.detach().float().numpy()


def open_source(path: Path) -> Source:
    """By the ending: .safetensors, the index of several, or .pt / .bin / .pth through torch."""
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise ConvertError(f"{path}: no such file")
    kind = PickleSource if path.suffix in (".pt", ".bin", ".pth") else SafetensorsSource
    try:
        return ShardedSource(path) if path.name.endswith(".index.json") else kind(path)
    except FormatError as error:
        raise ConvertError(str(error)) from None


def read_json(path: Path) -> Any:
    """A JSON file, with errors that name it."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path}: not valid JSON ({error})") from None
