"""The torch modules that are trained: those of tests/torch_oracle, which bear upstream's names and are held to the
golden vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from torch_oracle import ARCHITECTURES, Reference, Sopro, SoproV1, SoproV15, save_checkpoint
from torch_oracle.blocks import SSMLiteBlock, run_stack

__all__ = [
    "Reference", "SSMLiteBlock", "Sopro", "SoproV1", "SoproV15", "new_sopro", "read_sopro", "run_stack",
    "save_checkpoint",
]  # fmt: skip


def new_sopro(architecture: str, models: dict[str, dict[str, Any]], vocabulary: int) -> Sopro:
    """An untrained Sopro of a generation, with the settings (upstream's `cfg`) given for it."""
    kind = ARCHITECTURES[architecture]
    return kind(kind.config_type.from_dict(models[architecture]), vocabulary)


def read_sopro(architecture: str, path: Path | str) -> Sopro:
    """A trained one, from a file in upstream's format."""
    return ARCHITECTURES[architecture].from_checkpoint(path)
