"""Stage `encoder`: Mimi's encoder learns to find a frame's components (codebooks.py) in a waveform.

Plain regression: the components are known before, so nothing is quantised while it learns.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tools.train.codebooks import Codebooks
from tools.train.mimi import encode, encoder_parts, groups, new_model
from tools.train.render import WARM_UP, Renderings
from tools.train.training import Trainer, stacked

if TYPE_CHECKING:
    from tools.train.taught.hear import Hearings


class EncoderTrainer(Trainer):
    """The encoder's half of a MimiModel, and a matrix from its latents to components."""

    name = "encoder"

    def __init__(self, cfg: SimpleNamespace, work: Path, held: Renderings | Hearings | None = None) -> None:
        self.held, self.books = held or Renderings(work, cfg.data.validation_every), Codebooks.load(work)
        self.frames, self.bfloat16 = cfg.codec.frames, cfg.codec.bfloat16
        self.model = new_model(cfg.codec.mimi, cfg.encoder.seed, cfg.codec.bandwidth)
        self.head = nn.Linear(self.model.config.hidden_size, self.model.config.codebook_dim, bias=False)
        self.modules = encoder_parts(self.model, self.head)
        super().__init__(cfg.encoder, work / "encoder", groups(self.model, self.modules))

    def components(self, wave: Tensor) -> Tensor:
        """(B, n) -> (B, n / 1920, D)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return self.head(encode(self.model, wave).transpose(1, 2)).float()

    def error(self, positions: list[int], rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean squared distance from the components, what was wanted and what was found."""
        crops = [self.held.draw(positions, self.frames, rng) for _ in range(batch)]
        wanted = self.books.components(stacked([c.vectors for c in crops]))
        level = np.exp(rng.normal(0, self.cfg.level, batch)).astype(np.float32)[:, None]
        found = self.components(stacked([c.original for c in crops]) * torch.from_numpy(level))
        counted = torch.tensor([[c.begins or t >= WARM_UP for t in range(self.frames)] for c in crops])
        return (found - wanted)[counted].square().sum(-1).mean(), wanted, found

    def learn(self, rng: np.random.Generator) -> dict[str, float]:
        loss, wanted, _ = self.error(self.held.train, rng, self.cfg.batch)
        (loss / wanted.square().sum(-1).mean()).backward()
        return {"error": loss.item()}

    def validate(self) -> dict[str, float]:
        loss, wanted, found = self.error(self.held.validation, np.random.default_rng(0), 48)
        ideal, coded = self.books.codes(wanted), self.books.codes(found)
        away = [self.books.rows(codes)[1] - wanted for codes in (coded, ideal)] + [wanted]
        squares = [rows.square().sum(-1).mean().item() for rows in away]
        same = (ideal == coded).float().mean((0, 1))
        return (
            {"error": loss.item()}
            | dict(zip(("coded", "ideal", "variance"), squares, strict=True))
            | {f"same_{i}": share.item() for i, share in enumerate(same)}
        )


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.encoder.steps; writes work/encoder/weights.pt."""
    torch.set_num_threads(cfg.codec.threads)
    EncoderTrainer(cfg, work).run()
