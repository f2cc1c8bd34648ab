"""A model file, read as if it had been converted with another recipe: same quantiser, no file in between."""

from __future__ import annotations

from pathlib import Path

import sopro_np.ops as operations
from sopro_np.convert.recipe import Recipe
from sopro_np.convert.rounding import Fitted, Rounding
from sopro_np.engine import Sopro
from sopro_np.errors import UsageError
from sopro_np.ops.quant import QTensor
from sopro_np.tensorfile import TensorFile
from sopro_np.weights import Weights


class Requantised(Weights):
    """Weights whose matrices are quantised when they are read, by the function that the converter calls.

    `recipe` chooses the format by the matrix's name (None: as it is in the file); `names` collects name -> (rows,
    columns).
    """

    def __init__(self, file: TensorFile, recipe: Recipe | None, rounding: Rounding | None = None) -> None:
        super().__init__(file)
        self.recipe, self.rounding = recipe, rounding or Fitted()
        self.names: dict[str, tuple[int, int]] = {}

    def table(self, name: str, rows: int | None, inputs: int | None, taps: int | None = 1) -> QTensor:
        full, weight = self.prefix + name, super().table(name, rows, inputs, taps)
        self.names[full] = weight.shape
        if self.recipe is None:
            return self.made(full, weight, weight)
        if weight.scheme != "fp32":
            raise UsageError(f"{self.file.path}: {full} is stored as {weight.scheme}; the study needs a file in fp32")
        form = self.recipe.scheme(full)
        changed = weight if form == "fp32" else self.rounding(full, weight.data, form, weight.taps, 0)
        return self.made(full, changed, weight)

    def made(self, name: str, weight: QTensor, original: QTensor) -> QTensor:
        """A matrix as the model gets it, and as it was."""
        return weight


def load_as(
    path: Path, recipe: Recipe, ops: str | None = None, threads: int | None = None, rounding: Rounding | None = None
) -> Sopro:
    """The model of an fp32 file under a recipe."""
    with operations.using(ops or operations.current()):
        return Sopro(path, threads, lambda file: Requantised(file, recipe, rounding))


def matrices(path: Path) -> dict[str, tuple[int, int]]:
    """Names and shapes of all matrices of an fp32 file, in the order in which the model reads them."""
    seen: list[Requantised] = []

    def read(file: TensorFile) -> Requantised:
        seen.append(Requantised(file, Recipe("fp32", (("*", "fp32"),))))
        return seen[-1]

    with operations.using("numpy"):
        Sopro(path, read=read)
    return seen[0].names
