"""Write a random but well-behaved Sopro model, Mimi codec, tokenizer and reference recording.

    python tools/make_random_checkpoint.py --arch v1|v1.5 --size tiny|full|published --seed N -o DIR
                                           [--dtype f32|f16] [--force]

The files have upstream's own formats, so they go through the real converter and the real torch code:
`sopro/model.safetensors` (header metadata `cfg`), `mimi/` (transformers' `save_pretrained`), `tokenizer/` and
`ref.wav`. Equal arguments give equal bytes. It needs NumPy and nothing else. `tiny` is under 3 MB in all;
`full` has the sizes of upstream's defaults, `published` those that the published models probably have (their parameters
add up to 169.0 and 135.2 million): use them for timing and memory, never for listening.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from random_checkpoint import mimi, sopro
from random_checkpoint.speech import write_reference
from random_checkpoint.tensors import Plan, parameters, write_safetensors
from random_checkpoint.tokenizer import write_tokenizer


def write_checkpoint(folder: Path, arch: str, size: str, seed: int, dtype: str) -> None:
    """Fill an empty folder; each part has its own random stream, so none depends on another's size."""
    streams = np.random.SeedSequence(seed).spawn(3)
    sopro_rng, mimi_rng, speech_rng = (np.random.Generator(np.random.PCG64(s)) for s in streams)

    (folder / "tokenizer").mkdir()
    vocabulary = write_tokenizer(folder / "tokenizer", size)

    cfg = sopro.config(arch, size)
    model = sopro.plan(arch, cfg, vocabulary)
    _write_model(folder / "sopro", model, sopro_rng, dtype, {"cfg": json.dumps(cfg)})

    codec_cfg = mimi.config(size, dtype)
    codec = mimi.plan(codec_cfg, mimi_rng)
    _write_model(folder / "mimi", codec, mimi_rng, dtype, {"format": "pt"})
    (folder / "mimi" / "config.json").write_text(json.dumps(codec_cfg, indent=2, sort_keys=True) + "\n")

    write_reference(folder / "ref.wav", speech_rng)
    _say(f"Sopro {arch} {size}: {parameters(model) / 1e6:.3f} M parameters, {vocabulary} text tokens")
    _say(f"Mimi {size}: {parameters(codec) / 1e6:.3f} M parameters")


def _write_model(folder: Path, plan: Plan, rng: np.random.Generator, dtype: str, metadata: dict[str, str]) -> None:
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", plan, rng, dtype, metadata)


def _publish(made: Path, target: Path) -> None:
    """Move the finished parts into place; files of other names in the target are left alone."""
    target.mkdir(parents=True, exist_ok=True)
    for part in sorted(made.iterdir()):
        old = target / part.name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        part.replace(old)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (0 written, 2 refused)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", choices=("v1", "v1.5"), required=True)
    parser.add_argument("--size", choices=("tiny", "full", "published"), required=True)
    parser.add_argument("--seed", type=int, required=True, help="0 or more; equal seeds give equal bytes")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dtype", choices=("f32", "f16"), default="f32", help="storage of all tensors")
    parser.add_argument("--force", action="store_true", help="replace the parts of an earlier run in DIR")
    options = parser.parse_args(arguments)
    target: Path = options.output
    if options.seed < 0:
        parser.error("--seed must be 0 or more")
    if target.exists() and not target.is_dir():
        parser.error(f"{target} is a file; name a new or empty folder")
    if target.is_dir() and any(target.iterdir()) and not options.force:
        parser.error(f"{target} is not empty; name another folder, or --force to replace the model in it")

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".random-checkpoint-") as folder:
        write_checkpoint(Path(folder), options.arch, options.size, options.seed, options.dtype)
        _publish(Path(folder), target)
    for file in sorted(path for path in target.rglob("*") if path.is_file()):
        _say(f"{file.stat().st_size:>12,} bytes  {file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
