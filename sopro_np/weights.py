"""The tensors of a file, handed to the layers with an account of what was used.

A tensor that is missing, misshapen, of the wrong type or never used is an error.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sopro_np import ops
from sopro_np.errors import FormatError
from sopro_np.files import drop_pages
from sopro_np.ops import quant
from sopro_np.ops.quant import QTensor
from sopro_np.precision import MODES
from sopro_np.tensorfile import TensorFile


class Activations(NamedTuple):
    """What a file says of the rows that integers multiply. asymmetric: names of the matrices whose rows have a zero
    point; precision: one of precision.MODES, where nobody asks for another."""

    asymmetric: frozenset[str] = frozenset()
    precision: str = "fast"

    @classmethod
    def of(cls, file: TensorFile) -> Activations:
        """FormatError if the metadata is damaged."""
        noted = file.json("activations") if "activations" in file.metadata else {}
        noted = noted if isinstance(noted, dict) else {"precision": None}
        names, mode = noted.get("asymmetric", []), noted.get("precision", "fast")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or mode not in MODES:
            raise FormatError(f"{file.path}: the activations in the metadata are not understood")
        return cls(frozenset(names), mode)


class Weights:
    """A view of the tensors below one prefix, which remembers what was asked for.

    `matrix` returns a packed QTensor for the ops, `vector` a float32 array. Shapes are checked where given;
    None stands for "whatever the file says".
    """

    def __init__(self, file: TensorFile, prefix: str = "", used: set[str] | None = None, packs: bool = True) -> None:
        self.file, self.prefix, self._packs = file, prefix, packs
        self.used: set[str] = set() if used is None else used
        self._asymmetric = Activations.of(file).asymmetric

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
        copy = np.array(array, np.float32)
        drop_pages(array)
        return copy

    def _scales(self, name: str, shape: tuple[int | None, ...], *dtypes: str) -> np.ndarray:
        """Scales of a matrix as float32: left in the file if they are that there, and its pages given back."""
        array = self._take(f"{name}_scale", shape)
        self._expect_type(f"{name}_scale", *dtypes)
        if not np.isfinite(array).all():
            raise FormatError(f"{self.file.path}: tensor {self.prefix}{name}_scale holds NaN or infinity")
        scale = np.require(array, np.float32, "A")
        drop_pages(array)
        return scale

    def mapped(self, name: str, *shape: int | None, types: tuple[str, ...] = ("F32",)) -> np.ndarray:
        """A large tensor, of one of these types, of which few rows are used: left in the file."""
        array = self._take(name, shape)
        self._expect_type(name, *types)
        return array

    def matrix(
        self, name: str, rows: int | None, inputs: int | None, taps: int | None = 1, act: str | None = None
    ) -> QTensor:
        """A weight in the form the current ops want: (rows, taps*inputs). `act`: the activation behind it."""
        weight = self.table(name, rows, inputs, taps)
        if weight.scale is not None:
            scale = np.array(weight.scale)
            drop_pages(weight.scale)
            weight = replace(weight, scale=scale)
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
        shape = (data.shape[0], columns)
        if dtype == "I8":
            scale = self._scales(name, (shape[0], 1), "F32")
            return QTensor("int8", shape, data, scale, taps, asymmetric=full in self._asymmetric)
        scheme = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}.get(dtype)
        if scheme is None:
            raise FormatError(f"{full}: dtype {dtype} is none of F32, F16, BF16, I8")
        return QTensor(scheme, shape, data, None, taps)

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
        scale = self._scales(name, (n, None), "F16", "F32")
        sizes = (form.group for form in quant.FORMATS.values() if form.scheme == "int4")
        group = next((g for g in sizes if scale.shape[1] == k * quant.groups(c, g)), 0)
        if not group:
            raise FormatError(f"{full}_scale: {scale.shape[1]} scales for {k} x {c} inputs: no size of groups fits")
        return QTensor("int4", (n, k * c), data, scale, k, group)

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

    def _expect_type(self, name: str, *dtypes: str) -> None:
        full = self.prefix + name
        if full not in self.file:
            raise FormatError(f"{self.file.path}: tensor {full} is missing")
        if (dtype := self.file.header[full]["dtype"]) not in dtypes:
            raise FormatError(f"{full}: dtype {dtype}, expected {' or '.join(dtypes)}")

    def assert_all_used(self) -> None:
        """Every tensor below this prefix was asked for, or the file is not what its header says."""
        unused = [n for n in self.file.header if n.startswith(self.prefix) and n not in self.used]
        if unused:
            raise FormatError(f"{self.file.path}: unexpected tensors: {', '.join(sorted(unused)[:8])}")
