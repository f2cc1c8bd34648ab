"""Tiny models for tests: random checkpoints of both generations, converted once per session and recipe.

Everything lies in one temporary folder that is removed when Python exits. The files are shared: copy before
you write. `Checkpoint` is a checkpoint as NumPy arrays, to be damaged and written again.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from sopro_np.convert.convert import Report, convert  # noqa: E402
from sopro_np.convert.recipe import load_recipe  # noqa: E402
from sopro_np.engine import Sopro, open_model  # noqa: E402
from sopro_np.joints import fade_curve  # noqa: E402
from sopro_np.ops import current  # noqa: E402
from sopro_np.voice import Voice  # noqa: E402

P, T = ParamSpec("P"), TypeVar("T")
ARCHS = ("v1", "v1.5")
SCHEMES = ("fp32", "fp16", "bf16", "int8", "int4")
TEXT = "Hello there."


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """functools.cache that knows that f(1) and f(x=1) with a default of 1 are one call."""
    memory: dict[tuple[object, ...], T] = {}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = tuple(bound.arguments.values())
        if key not in memory:
            memory[key] = function(*args, **kwargs)
        return memory[key]

    return call


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sopro-tiny-")


@cached
def checkpoint(arch: str, seed: int = 1) -> Path:
    """Folder with sopro/model.safetensors, mimi/, tokenizer/ and ref.wav."""
    folder = Path(_scratch().name) / f"{arch}-{seed}"
    tool = ROOT / "tools" / "make_random_checkpoint.py"
    arguments = ["--arch", arch, "--size", "tiny", "--seed", str(seed), "-o", str(folder)]
    subprocess.run([sys.executable, str(tool), *arguments], check=True, capture_output=True)
    return folder


def sopro_file(arch: str, seed: int = 1) -> Path:
    return checkpoint(arch, seed) / "sopro" / "model.safetensors"


@cached
def conversion(arch: str, recipe: str = "int8", seed: int = 1, parts: str = "smt") -> Report:
    """A converted model and its report. `parts`: s(opro), m(imi), t(okenizer)."""
    folder = checkpoint(arch, seed)
    output = Path(_scratch().name) / f"{arch}-{seed}-{recipe}-{parts}.safetensors"
    return convert(
        output,
        load_recipe(recipe),
        sopro_file(arch, seed) if "s" in parts else None,
        folder / "mimi" if "m" in parts else None,
        folder / "tokenizer" if "t" in parts else None,
    )


def model_file(arch: str, recipe: str = "int8", seed: int = 1, parts: str = "smt") -> Path:
    return conversion(arch, recipe, seed, parts).path


@cached
def _model(arch: str, recipe: str, seed: int, ops: str) -> Sopro:
    return open_model(model_file(arch, recipe, seed), threads=1, ops=ops)


def model(arch: str, recipe: str = "int8", seed: int = 1) -> Sopro:
    """A model of the implementation in use."""
    return _model(arch, recipe, seed, current())


@cached
def _voice(arch: str, recipe: str, seed: int, ops: str) -> Voice:
    return _model(arch, recipe, seed, ops).voice(checkpoint(arch, seed) / "ref.wav")


def voice(arch: str, recipe: str = "int8", seed: int = 1) -> Voice:
    """The voice of ref.wav, as the implementation in use hears it."""
    return _voice(arch, recipe, seed, current())


def header(path: Path) -> tuple[dict[str, Any], dict[str, str], bytes]:
    """Tensors, metadata and data of a safetensors file, parsed here and not by the package."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    tensors = json.loads(raw[8 : 8 + size])
    return tensors, tensors.pop("__metadata__", {}), raw[8 + size :]


def pack(tensors: dict[str, Any], metadata: dict[str, Any] | None, data: bytes) -> bytes:
    """The inverse of `header`; whatever it is given, it writes."""
    content = tensors if metadata is None else {"__metadata__": metadata, **tensors}
    text = json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


@dataclass
class Checkpoint:
    """A source checkpoint in memory."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    config: dict[str, Any] | None = field(default=None)

    def write(self, folder: Path, name: str = "model.safetensors") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: np.asarray(t) for n, t in self.tensors.items()}, folder / name, self.metadata)
        if self.config is not None:
            (folder / "config.json").write_text(json.dumps(self.config))
        return folder / name

    def cfg(self, **changes: Any) -> Checkpoint:
        """A copy with other config values (Sopro: in the metadata, Mimi: in config.json)."""
        if self.config is not None:
            return Checkpoint(self.tensors, self.metadata, {**self.config, **changes})
        text = json.dumps({**json.loads(self.metadata["cfg"]), **changes})
        return Checkpoint(self.tensors, {**self.metadata, "cfg": text})

    def replaced(self, **tensors: np.ndarray | None) -> Checkpoint:
        """A copy with other tensors; None removes one."""
        both = {**self.tensors, **tensors}
        return Checkpoint({n: t for n, t in both.items() if t is not None}, self.metadata, self.config)


@cached
def _source(arch: str, part: str) -> Checkpoint:
    folder = checkpoint(arch) / part
    with safe_open(folder / "model.safetensors", "numpy") as file:
        names = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
        metadata = dict(file.metadata())
    config = json.loads((folder / "config.json").read_text()) if part == "mimi" else None
    return Checkpoint(tensors, metadata, config)


def source(arch: str, part: str = "sopro") -> Checkpoint:
    """The checkpoint `sopro` or `mimi` as arrays."""
    return copy.copy(_source(arch, part))


def inside(job: Any) -> Any:
    """The core's job of the sentence that is on its way, of a text of one sentence."""
    return job.flight[0].job


def faded(wav: np.ndarray, sample_rate: int = 24000) -> np.ndarray:
    """What `synthesize` makes of one sentence's samples (n,): in [-1, 1], its edges a raised cosine of 16 ms."""
    ramp = fade_curve(sample_rate)
    n = len(ramp)
    out = np.clip(wav, -1, 1)
    out[:n] *= ramp[: len(out)]
    out[len(out) - min(n, len(out)) :] *= ramp[::-1][max(0, n - len(out)) :]
    return out
