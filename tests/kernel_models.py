"""Tiny models and voices for tests/kernel_hashes.py: python tests/kernel_models.py FOLDER."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import tiny

RECIPES = ("fp32", "int8", "int4", "bf16")


def make(folder: Path, recipes: tuple[str, ...] = RECIPES) -> Path:
    """`v1-int8.safetensors`, ..., `v1.voice.safetensors`, ... in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for arch in tiny.ARCHS:
        for recipe in recipes:
            shutil.copyfile(tiny.model_file(arch, recipe, seed=5), folder / f"{arch}-{recipe}.safetensors")
        tiny.voice(arch, recipes[0], seed=5).save(folder / f"{arch}.voice.safetensors")
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
