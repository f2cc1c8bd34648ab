"""Models whose every bit is known: what they say is written down in tests/data/frozen.json.

    python tests/frozen.py > tests/data/frozen.json       # only when a change of the audio is meant

Weights come from PCG64's raw bits (NumPy keeps those, its distributions it does not), and where the converter
multiplies, one factor is one-hot: so neither NumPy's version nor BLAS has a say in the files.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tiny

from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import Sopro
from sopro_np.tensorfile import read_header
from sopro_np.voice import Voice

HERE = Path(__file__).resolve().parent
RECORD = HERE / "data" / "frozen.json"
RECIPES = ("fp32", "fp16", "bf16", "int8", "int4")
TEXTS = ("Hello there.", "No.", "A longer text, which goes on for a while.")
VOICE_FRAMES = (11, 2, 11)  # of each text's voice; two are fewer than v1 looks back
OPTIONS: dict[str, Any] = {"seed": 3, "max_frames": 21, "min_gen_frames": 21}
LOOKAHEADS = {"v1": (None,), "v1.5": (None, 3)}
# Of the model inside the package, of the time when this was written.
EMBEDDED_TEXT, EMBEDDED_VOICE = "Good morning, how are you?", "ross"
EMBEDDED_OPTIONS: dict[str, Any] = {"seed": 1, "max_frames": 30}
EMBEDDED_LOOKAHEADS = (None, 16)


def sha(array: np.ndarray) -> str:
    kind = np.int64 if array.dtype.kind in "iu" else np.float32
    return hashlib.sha256(np.ascontiguousarray(array, kind).tobytes()).hexdigest()[:16]


def tensors_sha(path: Path) -> str:
    """Of every tensor's bytes in a file; what its header says besides does not count."""
    _, _, start = read_header(path)
    return hashlib.sha256(path.read_bytes()[start:]).hexdigest()


def raw_numbers(seed: int, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Uniform in -scale..scale in steps of scale / 2^23: exact in float32 where `scale` is a power of two."""
    raw = np.atleast_1d(np.random.PCG64(seed).random_raw(max(1, math.prod(shape))))[: math.prod(shape)]
    return (((raw >> 40).astype(np.int64) - 2**23) * (scale / 2**23)).astype(np.float32).reshape(shape)


def source(arch: str, part: str) -> tiny.Checkpoint:
    """The tiny random checkpoint with other numbers of about the same size."""
    checkpoint = tiny.source(arch, part)
    tensors = {}
    for i, (name, tensor) in enumerate(sorted(checkpoint.tensors.items())):
        if "codebook.initialized" in name:
            tensors[name] = tensor
            continue
        mean = float(np.round(4 * tensor.mean())) / 4
        scale = 2.0 ** round(math.log2(float(tensor.std()) * 1.7 + 1e-3))
        new = raw_numbers(i, tensor.shape, scale) + np.float32(mean)
        if "head_id_emb" in name:
            new = np.eye(*tensor.shape, dtype=np.float32) / 2
        elif "cluster_usage" in name:
            new = np.ones(tensor.shape, np.float32)
        tensors[name] = new.astype(np.float32)
    return tiny.Checkpoint(tensors, checkpoint.metadata, checkpoint.config)


@functools.cache
def _sources(arch: str, folder: str) -> tuple[Path, Path]:
    return source(arch, "sopro").write(Path(folder) / arch), source(arch, "mimi").write(Path(folder) / arch / "mimi")


def model_file(arch: str, recipe: str, folder: Path) -> Path:
    """The frozen model of one generation and recipe, made in `folder`."""
    sopro, mimi = _sources(arch, str(folder))
    tokenizer = tiny.checkpoint(arch) / "tokenizer"
    return convert(folder / f"{arch}-{recipe}.safetensors", load_recipe(recipe), sopro, mimi.parent, tokenizer).path


def voices(tts: Sopro) -> list[Voice]:
    """One for each text."""
    config = tts.model.config
    codes = np.random.PCG64(9).random_raw(max(VOICE_FRAMES) * config.codebooks) % config.code_values
    rows = codes.astype(np.int64).reshape(-1, config.codebooks)
    return [tts.voice_from_codes(rows[:frames]) for frames in VOICE_FRAMES]


def said(tts: Sopro, who: Voice, text: str, **options: Any) -> dict[str, str]:
    codes = tts.codes(text, who, **options)
    assert len(codes) > 10
    return {"codes": sha(codes), "wav": sha(tts.decode(codes))}


def record() -> dict[str, Any]:
    """Everything that tests/test_same_bits.py compares with."""
    import tempfile

    from sopro_np import engine
    from sopro_np.locate import EMBEDDED

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for arch in tiny.ARCHS:
            for recipe in RECIPES:
                path = model_file(arch, recipe, Path(folder))
                tts = engine.open_model(path, 1, "native")
                pairs = list(zip(TEXTS, voices(tts), strict=True))
                found[f"{arch}-{recipe}"] = {
                    str(n): [said(tts, who, text, lookahead=n, **OPTIONS) for text, who in pairs]
                    for n in LOOKAHEADS[arch]
                }
    tts = engine.open_model(EMBEDDED, 1, "native")
    who = tts.load_voice(EMBEDDED_VOICE)
    found["embedded"] = {
        "tensors": tensors_sha(EMBEDDED),
        **{str(n): said(tts, who, EMBEDDED_TEXT, lookahead=n, **EMBEDDED_OPTIONS) for n in EMBEDDED_LOOKAHEADS},
    }
    return found


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
    print()
