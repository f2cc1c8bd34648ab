"""Checkpoints that survive an interruption at any moment, and the learning rate's course."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from sopro_np.files import Replacement


class Checkpoints:
    """One file, last.pt: weights, buffers, optimiser and step; replaced atomically every few minutes."""

    def __init__(self, folder: Path, modules: nn.Module, optimiser: torch.optim.Optimizer, minutes: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.modules, self.optimiser = folder / "last.pt", modules, optimiser
        self.seconds, self.saved = 60 * minutes, time.time()

    def resume(self) -> int:
        """Load the last checkpoint if there is one; the step to go on with."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self.modules.load_state_dict(state["modules"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.time() - self.saved >= self.seconds

    def save(self, step: int) -> None:
        """Write and replace; an interruption leaves the old file."""
        state = {"step": step, "modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict()}
        new = Replacement(self.path)
        try:
            torch.save(state, new.file)
            new.commit()
        finally:
            new.discard()  # nothing is left to discard after `commit`
        self.saved = time.time()


def learning_rate(step: int, cfg: SimpleNamespace, until: int) -> float:
    """Linear warm-up, then half a cosine from learning_rate to final_learning_rate, reached at step `until`."""
    if step < cfg.warmup:
        return cfg.learning_rate * (step + 1) / cfg.warmup
    share = min(1.0, (step - cfg.warmup) / max(1, until - cfg.warmup))
    span = cfg.learning_rate - cfg.final_learning_rate
    return cfg.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2
