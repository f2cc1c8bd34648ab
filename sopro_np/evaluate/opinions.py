"""Estimates of a mean opinion score, 1 to 5, by networks that listeners' scores were taught to. For comparisons only.

`distillmos` (Stahl and Gamper 2025, arXiv 2502.05356; MIT) needs torch; `dnsmos` (Reddy et al. 2022, arXiv 2110.01763;
package speechmos, MIT) onnxruntime, and is its overall score. The weights come inside the packages.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from sopro_np.evaluate.libraries import MissingLibrary, library, remedy
from sopro_np.evaluate.recogniser import RATE, Facts, released, surrounded

SECONDS = 9.01  # that DNSMOS hears; what is shorter is repeated
OVERALL = (-0.06766283, 1.11546468, 0.04602535)  # DNSMOS's own polynomial, from its output to a score


class Opinion(Protocol):
    """A network with an opinion. `facts`: what it is, for the record."""

    facts: Facts

    def __call__(self, wav: np.ndarray, rate: int) -> float:
        """wav (n,) in [-1, 1] -> score; nan for silence."""
        ...


class DistillMos:
    """The student of a large network; loads once."""

    def __init__(self) -> None:
        with _stand_in("torchaudio"):  # which reads files for it: nobody asks that here
            package = library("distillmos", "a MOS estimate")
        self._torch: Any = library("torch", "a MOS estimate")
        self.facts = _facts("distillmos", _weights("distillmos", _folder(package) / "weights", "*.pt"))
        with redirect_stdout(io.StringIO()):  # it says what it loads, where JSON may go
            self._model = package.ConvTransformerSQAModel().eval()

    def __call__(self, wav: np.ndarray, rate: int) -> float:
        sound = surrounded(wav, rate)
        if sound is None:
            return float("nan")
        with self._torch.inference_mode():
            return float(self._model(self._torch.from_numpy(sound)[None]))


class DnsMos:
    """Made to judge noise suppressors; loads once."""

    def __init__(self) -> None:
        onnxruntime: Any = library("onnxruntime", "the MOS estimate DNSMOS")
        folder = _folder(library("speechmos", "the MOS estimate DNSMOS")) / "dnsmos_models"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = _weights("speechmos", folder, "sig_bak_ovr.onnx")
        self._session = onnxruntime.InferenceSession(str(path), options)
        self.facts = _facts("speechmos", path)

    def __call__(self, wav: np.ndarray, rate: int) -> float:
        sound = surrounded(wav, rate)
        if sound is None:
            return float("nan")
        heard = np.resize(sound, int(SECONDS * RATE)).astype(np.float32)
        overall = self._session.run(None, {self._session.get_inputs()[0].name: heard[None]})[0][0, 2]
        return float(np.polyval(OVERALL, overall))


OPINIONS: dict[str, Callable[[], Opinion]] = {"distillmos": DistillMos, "dnsmos": DnsMos}


def _folder(package: ModuleType) -> Path:
    assert package.__file__ is not None
    return Path(package.__file__).parent


def _weights(package: str, folder: Path, pattern: str) -> Path:
    """The file of a package's weights; MissingLibrary where it has none."""
    path = next(iter(sorted(folder.glob(pattern))), None)
    if path is None:
        raise MissingLibrary(f"{package} has no weights in {folder}: {remedy(package)}")
    return path


def _facts(package: str, path: Path) -> Facts:
    """Name, file of the weights, its digest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"network": released(package), "weights": path.name, "sha256": digest}


@contextmanager
def _stand_in(name: str) -> Iterator[None]:
    """An empty module of that name for as long as something is imported that names it and does without."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]
