"""Shared by all tests: hypothesis profiles, import paths, one thread, tiny random models, one comparison."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
for folder in (HERE, ROOT):  # `import torch_oracle`, `import tools.trace`
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import tiny as models  # noqa: E402

from sopro_np.engine import Sopro  # noqa: E402
from sopro_np.ops.threads import blas_threads  # noqa: E402
from sopro_np.voice import Voice  # noqa: E402

# `ci`: the same examples every time. `deep`: more, and others every time (SOPRO_NP_HYPOTHESIS=deep). `few`: for
# emulated CPUs.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]  # a slow machine is no failure
settings.register_profile("ci", max_examples=25, derandomize=True, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("few", max_examples=3, derandomize=True, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("deep", max_examples=400, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("SOPRO_NP_HYPOTHESIS", "ci"))

ARCHS = ("v1", "v1.5")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests share the machine: one BLAS thread, and one of torch's where a test imports it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    with blas_threads(1):
        yield


@dataclass(frozen=True)
class Tiny:
    """A random model, converted and loaded, and a voice for it."""

    arch: str
    recipe: str
    path: Path
    tts: Sopro
    voice: Voice


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Tiny]:
    """(arch, recipe) -> a ready model; each one is made once."""

    def make(arch: str, recipe: str = "fp32") -> Tiny:
        path = models.model_file(arch, recipe, seed=5)
        return Tiny(arch, recipe, path, models.model(arch, recipe, seed=5), models.voice(arch, recipe, seed=5))

    return make


def assert_close(name: str, actual: np.ndarray, expected: np.ndarray, tolerance: float = 5e-5, floor: float = 1.0):
    """Integers equal; floats within tolerance * max(floor, max|expected|)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape} instead of {expected.shape}"
    if expected.dtype.kind in "iub":
        assert actual.dtype.kind in "iub", f"{name}: {actual.dtype} where whole numbers belong"
        assert np.array_equal(actual, expected), f"{name}: {(actual != expected).sum()} values differ"
    elif expected.size:
        error = np.abs(actual.astype(np.float64) - expected).max()
        limit = tolerance * max(floor, float(np.abs(expected).max()))
        assert error <= limit, f"{name}: error {error:.3g} > {limit:.3g}"  # NaN fails, too


def within(actual: np.ndarray, expected: np.ndarray, limit: np.ndarray | float) -> None:
    """float32 of the expected shape, and |actual - expected| <= limit everywhere; NaN fails."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    excess = np.abs(actual.astype(np.float64) - expected) - limit
    assert (excess <= 0).all(), f"{(~(excess <= 0)).sum()} values off, the worst by {np.nanmax(excess):.3g}"


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Float32 numbers of that standard deviation."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
