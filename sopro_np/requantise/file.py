"""A model file -> another one in other formats: the same model, so saved voices still fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import sopro_np.ops as operations
from sopro_np.convert.convert import Learn, Report, check_speaks, recipe_metadata, slim, store_tables
from sopro_np.convert.plan import Matrix, Part
from sopro_np.convert.recipe import Recipe
from sopro_np.convert.rounding import ROUNDINGS, Rounding
from sopro_np.convert.writer import write_file
from sopro_np.errors import ConvertError, RecipeError
from sopro_np.modelfile import read_parts
from sopro_np.ops.quant import FORMATS, QTensor
from sopro_np.tensorfile import TensorFile
from sopro_np.weights import Weights

PARTS = ("sopro", "mimi", "tokenizer")
OF_RECIPE = ("activations", "rounding")  # metadata that a recipe may leave out


class Noting(Weights):
    """Weights that note every matrix, and leave all of them in the file."""

    def __init__(self, file: TensorFile) -> None:
        super().__init__(file, packs=False)
        self.matrices: dict[str, QTensor] = {}

    def table(self, name: str, rows: int | None, inputs: int | None, taps: int | None = 1) -> QTensor:
        weight = super().table(name, rows, inputs, taps)
        self.matrices[self.prefix + name] = weight
        return weight


@dataclass(frozen=True)
class Kept(Rounding):
    """What is in the format already stays as it is, bit by bit; everything else is rounded by `other`."""

    matrices: Mapping[str, QTensor]
    other: Rounding

    @property
    def said(self) -> str:  # type: ignore[override]
        return self.other.said

    def __call__(self, name: str, w: np.ndarray, form: str, taps: int = 1, first: int = 0) -> QTensor:
        t, wanted = self.matrices[name], FORMATS[form]
        if not same(t, form):
            return self.other(name, w, form, taps, first)
        rows = slice(first, first + len(w))
        scale = None if t.scale is None else t.scale[rows]
        return QTensor(t.scheme, (len(w), w.shape[1]), t.data[rows], scale, t.taps, t.group, wanted.asymmetric)

    def judges(self, name: str) -> np.ndarray | None:
        return self.other.judges(name)


def requantise(source: Path, output: Path, recipe: Recipe, learn: Learn | None = None, tell: Any = None) -> Report:
    """Write the model of `source` under another recipe. `learn` is given `source` and answers with the rounding.

    Sources, fingerprints, tokenizer and pace are carried over. What was rounded to integers before is told by `tell`:
    its loss stays. Errors: FormatError if it is no model file, ConvertError, RecipeError.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise ConvertError(f"{output}: is the source of this conversion; name another output")
    file = TensorFile(source)
    noting = Noting(file)
    with operations.using("numpy"):
        read_parts(file, noting)
    recipe = as_file_is(file, recipe)
    parts = planned(file, noting.matrices)
    for part in parts:
        store_tables(part, recipe)
    if learn is not None:
        check_speaks(parts, source)
    rough = [n for n, t in noting.matrices.items() if t.scheme in ("int8", "int4") and not same(t, recipe.scheme(n))]
    if rough and tell is not None:
        tell(
            f"{source}: {len(rough)} matrices are integers already (recipe {file.json('recipe').get('name')}): what "
            "that lost stays lost; convert from the checkpoint, or from a file in fp32 or fp16, if you can"
        )
    rounding = Kept(noting.matrices, ROUNDINGS[recipe.rounding] if learn is None else learn(source))
    old = {key: value for key, value in file.metadata.items() if key not in OF_RECIPE}
    slim(parts, replace(recipe, vocabulary=None))
    metadata = old | recipe_metadata(parts, recipe) | {"rounding": rounding.said}
    tensors = write_file(output, parts, recipe, metadata, rounding)
    passed_over = file.json("passed_over") if "passed_over" in old else {}
    return Report(
        output, recipe.name, source.stat().st_size, output.stat().st_size, tensors, file.json("dropped"), passed_over,
        file.json("filled") if "filled" in old else [], file.json("sources"),
    )  # fmt: skip


def as_file_is(file: TensorFile, recipe: Recipe) -> Recipe:
    """A recipe that leaves out what the file lacks already. RecipeError for a vocabulary: that needs checkpoints."""
    lacks, vocabulary = file.metadata.get("speak_only") == "true", file.metadata.get("vocabulary")
    if recipe.vocabulary and recipe.vocabulary != vocabulary:
        raise RecipeError(
            f"{file.path}: the vocabulary {recipe.vocabulary} needs the checkpoints: give --sopro, --mimi and "
            "--tokenizer instead of --from"
        )
    return replace(recipe, speak_only=recipe.speak_only or lacks, vocabulary=vocabulary)


def same(t: QTensor, form: str) -> bool:
    """Is a matrix in this format already?"""
    wanted = FORMATS[form]
    if t.scheme != "int4" or wanted.scheme != "int4":
        return t.scheme == wanted.scheme
    assert t.scale is not None
    stored = t.scale.astype(np.float16)  # those of version 1 are float32
    return t.group == wanted.group and np.array_equal(stored, t.scale)


def planned(file: TensorFile, matrices: Mapping[str, QTensor]) -> list[Part]:
    """The parts of a model file as a converter plans them; numbers stay in the file until they are written."""
    stored = {f"{name}{end}" for name in matrices for end in ("", "_packed", "_scale", "_shape")}
    parts = []
    for prefix in PARTS:
        arrays = {n: file[n] for n in file.header if n.startswith(f"{prefix}.") and n not in stored}
        own = [matrix(name, t) for name, t in matrices.items() if name.startswith(f"{prefix}.")]
        if arrays or own:
            parts.append(Part(prefix, Path(file.path), [Path(file.path)], matrices=own, arrays=arrays))
    return parts


def matrix(name: str, t: QTensor) -> Matrix:
    return Matrix(name, t.shape[0], t.inputs, t.taps, lambda a, b: t.rows(slice(a, b)), name)
