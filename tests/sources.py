"""The three sources of a conversion in memory, to be changed and then written as folders or put on the stand-in Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny


def raw(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], metadata: dict[str, str]) -> bytes:
    """A safetensors file of any dtypes, name -> (dtype, shape, data)."""
    entries, data = {}, b""
    for name, (dtype, shape, content) in sorted(tensors.items()):
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return tiny.pack(entries, metadata, data)


KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "bool": "BOOL"}


class Sources:
    """`sopro` and `mimi` are tensors (arrays, or raw ones as of `raw`) with `cfg` and `config`; `tokenizer` JSON files.

    `shards` > 0 cuts Mimi into so many files. `others` are further files of both repositories.
    """

    def __init__(self, arch: str, seed: int = 1) -> None:
        self.arch, self.seed, self.shards = arch, seed, 0
        sopro, mimi = tiny.source(arch), tiny.source(arch, "mimi")
        self.sopro: dict[str, Any] = dict(sopro.tensors)
        self.mimi: dict[str, Any] = dict(mimi.tensors)
        self.cfg: dict[str, Any] = json.loads(sopro.metadata["cfg"])
        self.config: dict[str, Any] = dict(mimi.config or {})
        folder = tiny.checkpoint(arch) / "tokenizer"
        self.tokenizer: dict[str, Any] = {path.name: json.loads(path.read_text("utf-8")) for path in folder.iterdir()}
        self.others: dict[str, bytes] = {}
        self.index: dict[str, Any] = {}  # replaces entries of Mimi's index

    def as_dtype(self, kind: str) -> None:
        """Store all weights as F16 or BF16."""
        for tensors in (self.sopro, self.mimi):
            for name, array in tensors.items():
                if array.dtype.kind == "f":
                    half = (
                        array.astype("<f2") if kind == "F16" else np.ascontiguousarray(array, "<f4").view("<u4") >> 16
                    )
                    tensors[name] = (kind, array.shape, half.astype("<u2" if kind == "BF16" else "<f2").tobytes())

    def sopro_files(self) -> dict[str, bytes]:
        """The model's repository: checkpoint and tokenizer."""
        files = {"model.safetensors": _file(self.sopro, {"cfg": json.dumps(self.cfg)})}
        return {**files, **self._json(self.tokenizer), **self.others}

    def mimi_files(self) -> dict[str, bytes]:
        """The codec's."""
        files = self._json({"config.json": self.config})
        if not self.shards:
            return {**files, "model.safetensors": _file(self.mimi, {"format": "pt"}), **self.others}
        where = {name: self._shard(i % self.shards) for i, name in enumerate(sorted(self.mimi))}
        for i in range(self.shards):
            own = {name: array for name, array in self.mimi.items() if where[name] == self._shard(i)}
            files[self._shard(i)] = _file(own, {"format": "pt"})
        index = {"metadata": {"total_size": 1}, "weight_map": where, **self.index}
        return {**files, **self._json({"model.safetensors.index.json": index}), **self.others}

    def write(self, folder: Path) -> dict[str, Path]:
        """As folders -> the arguments of `convert`."""
        for name, files in (("sopro", self.sopro_files()), ("mimi", self.mimi_files())):
            (folder / name).mkdir(parents=True)
            for file, content in files.items():
                (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / name / file).write_bytes(content)
        checkpoint = folder / "sopro" / "model.safetensors"
        return {"sopro": checkpoint, "mimi": folder / "mimi", "tokenizer": folder / "sopro"}

    def _shard(self, i: int) -> str:
        return f"model-{i + 1:05}-of-{self.shards:05}.safetensors"

    def _json(self, files: dict[str, Any]) -> dict[str, bytes]:
        return {name: json.dumps(content, ensure_ascii=False).encode() for name, content in files.items()}


def _file(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    packed = {
        name: t if isinstance(t, tuple) else (KINDS[t.dtype.name], t.shape, np.ascontiguousarray(t).tobytes())
        for name, t in tensors.items()
    }
    return raw(packed, metadata)
