"""`sopro-np voices`."""

from __future__ import annotations

import argparse
import json

from sopro_np.engine import open_model
from sopro_np.locate import all_voices, find_model


def run(args: argparse.Namespace) -> int:
    """Names of the voices that fit the model, its own first, one a line; or as JSON, with their files."""
    model = find_model(args.model)
    with open_model(model) as tts:
        names = tts.voices()
    if args.json:
        known = {name: (path, default) for name, path, default in all_voices(model)}
        voices = [{"name": n, "file": str(known[n][0]), "default": known[n][1]} for n in names if n in known]
        print(json.dumps({"voices": voices}, indent=1, ensure_ascii=False))
    else:
        print("".join(f"{name}\n" for name in names), end="")
    return 0
