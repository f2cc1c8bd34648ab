"""The torch modules that are trained: those of tools/oracle, which bear upstream's names and are held to the
golden vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.oracle import ARCHITECTURES, Reference, Sopro, SoproV1, SoproV15, save_checkpoint
from tools.oracle.blocks import SSMLiteBlock, run_stack

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
