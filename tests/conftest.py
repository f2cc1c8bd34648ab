"""Shared by all tests: hypothesis profiles, import paths, one thread, tiny random models, one comparison.

What a supported system must have and has not (kernels, packs) is a failure, not a skip: else a broken build would pass.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
for folder in (HERE, ROOT):  # `import tiny`, `import tools`
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import tiny as models  # noqa: E402
from hub_standin import Hub  # noqa: E402
from hub_worker import Worker  # noqa: E402

from sopro_np import ops  # noqa: E402
from sopro_np.engine import Sopro  # noqa: E402
from sopro_np.kernels import build  # noqa: E402
from sopro_np.ops import native  # noqa: E402
from sopro_np.ops.blas import blas_threads  # noqa: E402
from sopro_np.ops.native import cpu  # noqa: E402
from sopro_np.ops.native import packs as packs  # noqa: E402
from sopro_np.voice import Voice  # noqa: E402

# `ci`: the same examples every time. `deep`: more, and others every time (SOPRO_NP_HYPOTHESIS=deep). `few`: for
# emulated CPUs.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]  # a slow machine is no failure
settings.register_profile("ci", max_examples=25, derandomize=True, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("few", max_examples=3, derandomize=True, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("deep", max_examples=400, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("SOPRO_NP_HYPOTHESIS", "ci"))

# Under nohup, or in the background of a script, they are ignored, and would be by processes that tests start.
for name, usual in (("SIGHUP", signal.SIG_DFL), ("SIGINT", signal.default_int_handler)):
    if signal.getsignal(number := getattr(signal, name)) is signal.SIG_IGN:
        signal.signal(number, usual)

ARCHS = ("v1", "v1.5")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests share the machine: one BLAS thread, and one of torch's where a test imports it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    with blas_threads(1):
        yield


# ---------------------------------------------------------------- implementations


@pytest.fixture(scope="session")
def kernels() -> packs.Kernels:
    """The native kernels. Where there should be some and are none, the error says what to do."""
    if not cpu.supported():
        pytest.skip("this system has no native kernels")
    return native.kernels()


on_kernels = pytest.mark.usefixtures("kernels")


@pytest.fixture(scope="module", params=sorted(ops.TABLES))
def implementation(request: pytest.FixtureRequest) -> str:
    """A test that uses this runs once under each table of operations."""
    if request.param == "native":
        request.getfixturevalue("kernels")
    return request.param


by_each = pytest.mark.usefixtures("implementation")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    name = getattr(item, "funcargs", {}).get("implementation")
    with ops.using(name) if name else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def own_packs() -> list[Path]:
    """The packs that this CPU can run, the best first. Skips only where they cannot be made."""
    if not cpu.supported():
        pytest.skip("this system has no native kernels")
    paths = [packs.PACKS / packs.pack_name(cpu.machine(), name) for name in cpu.fitting()]
    if absent := [path.name for path in paths if not path.exists()]:
        try:
            build.linker(cpu.machine())
        except build.ToolMissing as error:
            pytest.skip(str(error))
        pytest.fail(f"no {', '.join(absent)}: {packs.remedy()}")
    return paths


def python(*arguments: object, cwd: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    """Another Python, with those environment variables besides ours."""
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, **settings}
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- models


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
    """(arch, recipe) -> a ready model of the implementation in use; each one is made once."""

    def make(arch: str, recipe: str = "fp32") -> Tiny:
        path = models.model_file(arch, recipe, seed=5)
        return Tiny(arch, recipe, path, models.model(arch, recipe, seed=5), models.voice(arch, recipe, seed=5))

    return make


# ---------------------------------------------------------------- numbers


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


# ---------------------------------------------------------------- a hub in this process


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    """A stand-in for the hub that models are downloaded from, still empty."""
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def process(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A process that downloads from there."""
    worker = Worker(tmp_path_factory.mktemp("worker"), server.url)
    yield worker
    worker.kill()
