"""The loop that all networks are trained in: steps that depend on their number alone, progress, checkpoints."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.train.checkpoint import Checkpoints, learning_rate


class Trainer(ABC):
    """Modules and their optimiser; a step is a function of their state and of the step's number."""

    name: str
    modules: nn.Module
    optimiser: torch.optim.Optimizer
    device = torch.device("cpu")

    def __init__(self, cfg: SimpleNamespace, folder: Path, groups: list[dict[str, Any]]) -> None:
        """`groups`: Adam's, each with a `pace`, the factor of its learning rate."""
        self.cfg, self.folder, self.groups = cfg, folder, groups
        self.optimiser = torch.optim.AdamW(
            groups, lr=cfg.learning_rate, betas=tuple(cfg.betas), weight_decay=cfg.weight_decay, fused=True
        )
        self.checkpoints = Checkpoints(folder, self.modules, self.optimiser, cfg.save_minutes)
        self.step = self.checkpoints.resume()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is made inside is made on cfg.device; with cfg.mixed, products are of bfloat16."""
        with ExitStack() as stack:
            if self.device.type != "cpu":  # a context that every operation passes through
                stack.enter_context(self.device)
            if self.cfg.mixed:
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            yield

    @abstractmethod
    def learn(self, rng: np.random.Generator) -> dict[str, float]:
        """Gradients of one batch (backward() has been called); what is worth printing."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Losses over unseen utterances; the first is the one that counts."""

    def export(self) -> None:
        """Write what later stages need: the weights."""
        torch.save(self.modules.state_dict(), self.folder / "weights.pt")

    def train_step(self) -> dict[str, float]:
        """One update."""
        rng = np.random.default_rng([self.cfg.seed, self.step])
        torch.manual_seed(int(rng.integers(2**31)))  # dropout
        rate = learning_rate(self.step, self.cfg, self.cfg.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["pace"]
        self.modules.train()
        self.optimiser.zero_grad(set_to_none=True)
        losses = self.learn(rng)
        norms = [nn.utils.clip_grad_norm_(group["params"], self.cfg.clip) for group in self.groups]
        if all(map(torch.isfinite, norms)):  # a step that overflowed is left out
            self.optimiser.step()
        self.step += 1
        return losses | {"norm": torch.stack(norms).norm().item()}

    def run(self) -> None:
        """Train to cfg.steps; interrupted, go on from the last checkpoint."""
        began, first = time.time(), self.step
        while self.step < self.cfg.steps:
            losses = self.train_step()
            last = self.step == self.cfg.steps
            if self.step % 50 == 0 or last:
                pace = (time.time() - began) / (self.step - first)
                print(f"{self.name} {self.step}/{self.cfg.steps} {pace:.2f} s/step: {shown(losses)}", flush=True)
                began, first = time.time(), self.step
            if self.step % self.cfg.validate_every == 0 or last:
                self.tell()
            if self.checkpoints.due() or last:
                self.checkpoints.save(self.step)
                self.export()

    def tell(self) -> None:
        """A line with the validation's figures."""
        self.modules.eval()
        with torch.no_grad():
            print(f"{self.name} {self.step} validation: {shown(self.validate())}", flush=True)


def shown(losses: dict[str, float]) -> str:
    """One line of figures."""
    return " ".join(f"{name} {float(value):.3f}" for name, value in losses.items())


def stacked(arrays: list[np.ndarray]) -> Tensor:
    """Arrays of one shape as one float tensor."""
    return torch.from_numpy(np.stack(arrays)).float()
