"""One command per training stage: python -m tools.train STAGE."""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

from tools.train.config import load_config


def keep_memory() -> None:
    """Let the C library keep freed blocks: otherwise every large tensor costs page faults, half of a step's time."""
    if sys.platform == "linux":
        no_mmap, no_trim = (-4, 0), (-1, 2**31 - 1)
        for option in (no_mmap, no_trim):
            ctypes.CDLL(None).mallopt(*option)


def main() -> None:
    """Run the stage named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=__doc__)
    parser.add_argument("stage", choices=("data", "codec", "tokenizer", "codes", "sopro", "evaluate", "export"))
    parser.add_argument("--work", type=Path, default=Path("train-work"), help="folder of everything that is made")
    parser.add_argument("--config", type=Path, help="instead of tools/train/config.toml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    given = parser.parse_args()
    keep_memory()
    cfg = load_config(given.config, tuple(given.overrides))
    if given.stage == "data":
        from tools.train.data import make

        make(cfg, given.work / "data")
    elif given.stage == "codec":
        from tools.train.codec import train

        train(cfg, given.work)
    elif given.stage == "tokenizer":
        from tools.train.tokenizer import save

        save(given.work / "sopro" / "tokenizer")
    elif given.stage == "codes":
        from tools.train.codes import make

        make(cfg, given.work)
    elif given.stage == "sopro":
        from tools.train.sopro import train

        train(cfg, given.work)
    elif given.stage == "export":
        from tools.train.export import export

        export(cfg, given.work)
    else:
        from tools.train.evaluate import evaluate

        evaluate(cfg, given.work)


if __name__ == "__main__":
    main()
