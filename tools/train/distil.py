"""Distillation: a student learns to do what its teacher does (Hinton et al. 2015, arXiv 1503.02531), of what the
teacher itself has said (sampled.py).

The student is the teacher rounded (quantise-...), or with fewer channels (prune-...), or both, one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tools.train.training import Trainer

LEAST = 1e-3  # RMS of a tensor that a smaller one's steps are made for


class Distiller(Trainer):
    """Says first what rounding and pruning alone have done, before anything is learnt."""

    def run(self) -> None:
        if not self.step:
            self.tell()
        super().run()


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """The optimiser's groups, one for every tensor: a step changes it by a share of its own size, as in Adafactor
    (Shazeer and Stern 2018, arXiv 1804.04235): layers' scales differ by orders of magnitude."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [{"params": [p], "pace": max(LEAST, p.detach().square().mean().sqrt().item())} for p in trained]


def teacher_of(path: str, usual: Path) -> Path:
    """The checkpoint that is learnt from."""
    found = Path(path) if path else usual
    if not found.exists():
        raise SystemExit(f"{found}: no such checkpoint; name one in distil.sopro.teacher or distil.codec.teacher")
    return found


def share_of(name: str, share: float) -> float:
    """What is to be left of all channels."""
    if not 0 < share < 1:
        raise SystemExit(f"prune.{name} = {share}: a share of the channels that are to stay, above 0 and below 1")
    return share


def file_of(checkpoint: Path) -> Path:
    """The weights of a checkpoint, a file or a folder in transformers' format."""
    return checkpoint / "model.safetensors" if checkpoint.is_dir() else checkpoint


def made_once(folder: Path, source: Path, settings: SimpleNamespace | object, make: Callable[[], None]) -> None:
    """`make` writes something into a folder, once for a source and its settings."""
    mark = {"source": hashlib.sha256(file_of(source).read_bytes()).hexdigest(), "settings": repr(settings)}
    path = folder / "made-of.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make()
        path.write_text(json.dumps(mark))
    elif json.loads(path.read_text()) != mark:
        raise SystemExit(
            f"{folder}: was made of something else, or with other settings; remove it, or name another --work"
        )


def relative_error(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared error as a share of what is wanted."""
    return (given - wanted).square().mean() / wanted.square().mean().clamp_min(1e-12)
