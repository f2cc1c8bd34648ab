"""One command per training stage: python -m tools.train STAGE."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import sys
from pathlib import Path

from sopro_np.errors import SoproError
from tools.train.config import load_config

STAGES = {  # name -> (module, function of the configuration and the work folder); a stage taught-... has cfg.taught
    "data": ("data", "make"),
    "render": ("render", "make"),
    "codebooks": ("codebooks", "make"),
    "encoder": ("encoder", "train"),
    "decoder": ("decoder", "train"),
    "codec": ("codec", "assemble"),
    "codes": ("codes", "make"),
    "sopro": ("sopro", "train"),
    "evaluate": ("evaluate", "evaluate"),
    "predict": ("predict", "make"),
    "embed": ("embed", "embed"),
    "export": ("export", "export"),
    "texts": ("taught.texts", "make"),
    "teach": ("taught.teach", "make"),
    "taught-codebooks": ("taught.codebooks", "make"),
    "taught-render": ("taught.render", "make"),
    "taught-decoder": ("taught.render", "train"),
    "taught-hear": ("taught.hear", "make"),
    "taught-encoder": ("taught.hear", "train"),
    "taught-codec": ("codec", "assemble"),
    "taught-codes": ("taught.coded", "make"),
    "taught-sopro": ("taught.coded", "train"),
    "taught-predict": ("taught.predict", "make"),
    "taught-embed": ("taught.embed", "embed"),
    "sample": ("sampled", "make"),
    "quantise-sopro": ("distil_sopro", "quantise_stage"),
    "quantise-codec": ("distil_codec", "quantise_stage"),
    "prune-sopro": ("distil_sopro", "prune_stage"),
    "prune-codec": ("distil_codec", "prune_stage"),
    "guess": ("taught.guess", "make"),
    "judge": ("taught.judge", "judge"),
}


def keep_memory() -> None:
    """Let the C library keep freed blocks: otherwise every large tensor costs page faults, half of a step's time."""
    if sys.platform == "linux":
        no_mmap, no_trim = (-4, 0), (-1, 2**31 - 1)
        for option in (no_mmap, no_trim):
            ctypes.CDLL(None).mallopt(*option)


def main() -> None:
    """Run the stage named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--work", type=Path, default=Path("train-work"), help="folder of everything that is made")
    parser.add_argument("--config", type=Path, help="instead of tools/train/config.toml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    given = parser.parse_args()
    keep_memory()
    cfg = load_config(given.config, tuple(given.overrides))
    module, function = STAGES[given.stage]
    cfg = cfg.taught if given.stage.startswith("taught-") else cfg
    try:
        getattr(importlib.import_module(f"tools.train.{module}"), function)(cfg, given.work)
    except SoproError as error:
        sys.exit(f"{given.stage}: {error}")
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] in ("tools", "sopro_np"):
            raise
        sys.exit(f"{given.stage} needs {error.name}, which is not installed: pip install '.[train,teacher,eval]'")


if __name__ == "__main__":
    main()
