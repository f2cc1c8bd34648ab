"""Stage `decoder`: Mimi's decoder learns to say codes, as the vocoder would (vocoder.py).

What it is to say is determined by the codes, phases included, so the waveform itself is compared: complex spectra in
proportion to the speech's envelope, and levels of mel bands.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tools.train.codebooks import Codebooks
from tools.train.mimi import decode, decoder_parts, groups, new_model
from tools.train.render import WARM_UP, Renderings
from tools.train.spectra import spectral_loss
from tools.train.training import Trainer, stacked
from tools.train.vocoder import FRAME, HOPS, RATE

if TYPE_CHECKING:
    from tools.train.taught.render import Renderings as Taught

ABOVE = 1500.0  # Hz above the speech that are listened to, too: there is to be nothing


class DecoderTrainer(Trainer):
    """The decoder's half of a MimiModel, and the quantiser's output projections."""

    name = "decoder"

    def __init__(self, cfg: SimpleNamespace, work: Path, held: Renderings | Taught | None = None) -> None:
        self.held, self.books = held or Renderings(work, cfg.data.validation_every), Codebooks.load(work)
        self.frames, self.bfloat16 = cfg.codec.frames, cfg.codec.bfloat16
        self.top = min(RATE / 2, cfg.codec.bandwidth + ABOVE)
        self.predicted = read_predicted(work, len(self.books.books)) if cfg.decoder.predicted else None
        self.model = new_model(cfg.codec.mimi, cfg.decoder.seed, cfg.codec.bandwidth)
        self.modules = decoder_parts(self.model)
        scale = self.held.scale(self.books)
        for projection in self.modules[0]:  # so that what enters is of the order of 1
            nn.init.normal_(projection.weight, std=self.model.config.codebook_dim**-0.5 / scale)
        if cfg.decoder.init_from:
            self.modules.load_state_dict(torch.load(work / cfg.decoder.init_from / "weights.pt", weights_only=True))
        super().__init__(cfg.decoder, work / cfg.decoder.folder, groups(self.model, self.modules))
        if self.predicted is not None and len(self.predicted) < self.held.frames:
            raise SystemExit("decoder.predicted: stage `predict` has not seen all that was rendered; run it again")

    def speak(self, rows: tuple[Tensor, Tensor]) -> Tensor:
        """Sums of codebook rows (B, T, D), semantic and acoustic -> waveform (B, 1920 T)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return decode(self.model, rows)

    def losses(self, positions: list[int], rng: np.random.Generator, batch: int) -> dict[str, Tensor]:
        """Losses of a batch, at a window size drawn for it."""
        crops = [self.held.draw(positions, self.frames, rng) for _ in range(batch)]
        codes = self.held.codes(crops, self.books)
        if self.predicted is not None:
            found = torch.from_numpy(np.stack([self.predicted[c.rows] for c in crops]).astype(np.int64))
            codes = torch.where(torch.from_numpy(rng.random((batch, 1, 1)) < self.cfg.predicted), found, codes)
        acoustic = torch.from_numpy(rng.choice(len(self.cfg.acoustic_share), batch, p=self.cfg.acoustic_share))
        wave, wanted = self.speak(self.books.rows(codes, acoustic)), stacked([c.wanted for c in crops])
        tonal = self.held.tonal(crops)
        size = int(rng.choice(self.cfg.windows))
        counted = [a[:, WARM_UP * n :] for a, n in ((wave, FRAME), (wanted, FRAME), (tonal, HOPS))]
        complex_, mel = spectral_loss(*counted, size, self.top)
        return {"mel": mel, "complex": complex_}

    def learn(self, rng: np.random.Generator) -> dict[str, float]:
        losses = self.losses(self.held.train, rng, self.cfg.batch)
        sum(self.cfg.weights[k] * v for k, v in losses.items()).backward()
        return {k: v.item() for k, v in losses.items()}

    def validate(self) -> dict[str, float]:
        sums = [self.losses(self.held.validation, np.random.default_rng(i), 16) for i in range(3)]
        return {k: float(np.mean([s[k].item() for s in sums])) for k in sums[0]}


def read_predicted(work: Path, books: int) -> np.ndarray:
    """Stage `predict`'s codes (frames, Q)."""
    return np.memmap(work / "predicted" / "codes.u16", np.uint16, "r").reshape(-1, books)


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.decoder.steps; writes weights.pt into work/decoder, or another folder (decoder.folder)."""
    torch.set_num_threads(cfg.codec.threads)
    DecoderTrainer(cfg, work).run()
