"""The torch modules that are trained: those of tests/torch_oracle, which bear upstream's names and are held to the
golden vectors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from torch_oracle import ConfigV15, SoproV15, save_checkpoint
from torch_oracle.blocks import SSMLiteBlock, run_stack

__all__ = ["ConfigV15", "SSMLiteBlock", "SoproV15", "run_stack", "save_checkpoint"]
