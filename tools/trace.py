"""Run a golden case through the real converter and the engine, and write every stage's output.

    python tools/trace.py ../shared/golden/sopro_v15/tiny -o out.safetensors

The output has the names of the case's own vectors.safetensors, so the two files can be compared name by name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import open_model
from sopro_np.errors import SoproError
from sopro_np.ops import using
from tools.tracing.mimi import trace_mimi
from tools.tracing.sopro import trace_sopro


def trace(folder: Path, recipe: str = "fp32", ops: str | None = None) -> dict[str, np.ndarray]:
    """Case folder (sopro_*/CASE or mimi/CASE) -> name -> array."""
    vectors = load_file(folder / "vectors.safetensors")
    with tempfile.TemporaryDirectory() as scratch:
        converted = Path(scratch) / "model.safetensors"
        if (folder / "checkpoint.safetensors").is_file():
            convert(converted, load_recipe(recipe), sopro=folder / "checkpoint.safetensors")
            case = json.loads((folder / "case.json").read_text("utf-8"))
            tts = open_model(converted, ops=ops)
            with using(tts.ops):
                return trace_sopro(tts, case, vectors)
        convert(converted, load_recipe(recipe), mimi=folder)
        tts = open_model(converted, ops=ops)
        with using(tts.ops):
            return trace_mimi(tts.mimi, vectors)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("case", type=Path, metavar="CASE_DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--recipe", default="fp32")
    parser.add_argument("--ops", choices=("numpy", "native"))
    args = parser.parse_args()
    try:
        tensors = trace(args.case, args.recipe, args.ops)
        save_file({n: np.ascontiguousarray(t) for n, t in tensors.items()}, args.output)
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{args.output}: {len(tensors)} tensors", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
