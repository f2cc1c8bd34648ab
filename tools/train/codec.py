"""Stage `codec`: encoder, quantiser and decoder trained together, first without rounding, then with.

Losses: log spectra of the waveform (spectra.py); log-mel and pitch read from the decoder's transformer, which reach
the codes by a shorter way; phones every 20 ms read from the semantic codebook; commitment; optionally the error of
predicting the acoustic latents from the semantic codes and the speaker. A phase of the pitch (phase.py) is read from
the decoder's last features but one, so that it learns to make periods of any length.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train.checkpoint import Checkpoints, learning_rate
from tools.train.crops import PHONES, Crops, delayed, draw
from tools.train.data import Corpus
from tools.train.mimi import decode_features, decode_hidden, decode_wave, encode, fixed, load_model, new_model, paces
from tools.train.phase import FINE, frame_phase
from tools.train.quantiser import Quantised, Quantiser
from tools.train.spectra import mel_frames, spectral_loss

BANDS = 80


class Heads(nn.Module):
    """What is read off the codec while it is trained, and thrown away afterwards."""

    def __init__(self, hidden: int, latent: int, features: int) -> None:
        super().__init__()
        self.phase = nn.Conv1d(features, 2, 1)
        self.phones = nn.Sequential(nn.Conv1d(hidden, 192, 3, padding=1), nn.ELU(), nn.Conv1d(192, 4 * len(PHONES), 1))
        self.frames = nn.Linear(hidden, 4 * (BANDS + 2))
        self.predict = nn.Sequential(
            nn.Conv1d(hidden + latent, 192, 5, padding=2), nn.ELU(), nn.Conv1d(192, 192, 5, padding=2), nn.ELU(),
            nn.Conv1d(192, latent, 1),
        )  # fmt: skip

    def phone_logits(self, semantic: Tensor) -> Tensor:
        """Semantic latents (B, H, T) -> (B, 4T, phones)."""
        return self.phones(semantic).transpose(1, 2).unflatten(2, (4, -1)).flatten(1, 2).float()

    def phase_error(self, features: Tensor, pitch: Tensor) -> Tensor:
        """Distance of the features' phase from the frame's own where speech is voiced: a right angle is 1.4."""
        wanted, voiced = frame_phase(pitch)
        given = F.adaptive_avg_pool1d(self.phase(F.elu(features.float())), FINE * pitch.shape[1]).transpose(1, 2)
        return ((given - wanted).norm(dim=-1) * voiced).sum() / voiced.sum().clamp_min(1)

    def spectrum(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decoder states (B, 2T, H) -> log-mel (B, 8T, bands), voicing logits (B, 8T), log pitch (B, 8T)."""
        frames = self.frames(hidden).unflatten(2, (4, -1)).flatten(1, 2).float()
        return frames[..., :BANDS] - 5, frames[..., BANDS], frames[..., BANDS + 1]


class Trainer:
    """Model, heads and optimiser; a step is a function of their state and of the step's number."""

    def __init__(self, cfg: SimpleNamespace, folder: Path, corpus: Corpus) -> None:
        self.cfg, self.corpus = cfg, corpus
        self.model = load_model(Path(cfg.init_from)) if cfg.init_from else new_model(cfg.mimi, cfg.seed)
        for layer in fixed(self.model):
            layer.requires_grad_(False)
        self.quantiser = Quantiser(self.model, cfg.ema, cfg.dead_usage)
        torch.manual_seed(cfg.seed)
        self.heads = Heads(
            self.model.config.hidden_size, self.model.config.codebook_dim, 2 * self.model.config.num_filters
        )
        modules = nn.ModuleList((self.model, self.heads))
        self.groups = self.grouped(modules)
        self.optimiser = torch.optim.Adam(self.groups, lr=cfg.learning_rate, betas=(0.8, 0.99), fused=True)
        self.checkpoints = Checkpoints(folder, modules, self.optimiser, cfg.save_minutes)
        self.step = self.checkpoints.resume()
        for group, fresh in zip(self.optimiser.param_groups, self.groups, strict=True):
            group.update(until=fresh["until"], pace=fresh["pace"])  # the configuration may have changed

    def grouped(self, modules: nn.Module) -> list[dict[str, Any]]:
        """Adam's groups: what makes codes stops being trained at cfg.codes_until, the rest at cfg.steps."""
        codes = self.heads.phones, self.model.encoder, self.model.encoder_transformer, self.model.downsample
        makers = {*nn.ModuleList((*codes, *(half.input_proj for half in self.quantiser.halves))).parameters()}
        special, groups = paces(self.model), {}
        for parameter in modules.parameters():
            if parameter.requires_grad:
                until = self.cfg.codes_until if parameter in makers else self.cfg.steps
                key = until, special.get(parameter, 1.0)
                groups.setdefault(key, {"params": [], "until": key[0], "pace": key[1]})["params"].append(parameter)
        return list(groups.values())

    @property
    def rounding(self) -> bool:
        return bool(self.cfg.init_from) or self.step >= self.cfg.unquantised_steps

    @property
    def waveform(self) -> bool:
        """Whether the waveform is decoded, too: without, codes learn faster."""
        return bool(self.cfg.init_from) or self.step >= self.cfg.waveform_from

    @property
    def frozen(self) -> bool:
        """Whether the codes stay as they are, and only the decoder is trained: others may build on them."""
        return self.step >= self.cfg.codes_until

    def losses(self, crops: Crops, acoustic: Tensor, learn: Tensor | None, size: int) -> dict[str, Tensor]:
        """All losses by name, and the phones' accuracy; `size` is the spectral loss's window."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.cfg.bfloat16):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                z = encode(self.model, crops.wave)
            crops = delayed(crops, self.cfg.delay)
            coded = (
                self.quantiser(z, acoustic, None if self.frozen else learn)
                if self.rounding
                else self.quantiser.unquantised(z)
            )
            hidden = decode_hidden(self.model, coded.both)
            features = decode_features(self.model, hidden) if self.waveform else None
            wave = decode_wave(self.model, features) if self.waveform else None
            phones = self.heads.phone_logits(coded.semantic)
            mel, voicing, pitch = self.heads.spectrum(hidden)
        voiced = (crops.pitch > 0).float()
        log_pitch = torch.log(crops.pitch.clamp_min(40) / 120)
        losses = {
            "hidden_mel": (mel - mel_frames(crops.wave, BANDS)).abs().mean(),
            "pitch": F.binary_cross_entropy_with_logits(voicing, voiced)
            + 5 * ((pitch - log_pitch).abs() * voiced).sum() / voiced.sum().clamp_min(1),
            "phone": F.cross_entropy(phones.flatten(0, 1), crops.phones.flatten()),
            "commit": coded.commitment,
        }
        if wave is not None:
            losses["phase"] = self.heads.phase_error(features, crops.pitch)
            losses["stft"], losses["mel"] = spectral_loss(wave, crops.wave, size, self.cfg.quiet)
        if self.cfg.weights["predict"]:
            losses["predict"] = self.predictability(z, coded)
        accuracy = (phones.argmax(-1) == crops.phones).float().mean()
        return losses | {"accuracy": accuracy.detach()}

    def predictability(self, z: Tensor, coded: Quantised) -> Tensor:
        """Share of the acoustic latents' variance that semantic codes and the speaker's mean do not explain."""
        latent = self.quantiser.project(z)[1].transpose(1, 2)
        speaker = latent.detach().mean(2, keepdim=True).expand_as(latent)
        guess = self.heads.predict(torch.cat((coded.semantic.detach(), speaker), 1))
        return (guess - latent).square().mean() / latent.detach().var().clamp_min(1e-6)

    def train_step(self) -> dict[str, float]:
        """One update."""
        cfg, rng = self.cfg, np.random.default_rng([self.cfg.seed, self.step])
        if self.step == cfg.unquantised_steps and not cfg.init_from:
            self.initialise_codebooks(rng)
        crops = draw(self.corpus, self.corpus.train, cfg, rng, cfg.batch)
        acoustic = torch.from_numpy(rng.choice(len(cfg.acoustic_share), cfg.batch, p=cfg.acoustic_share))
        learn = torch.from_numpy(rng.permutation(cfg.batch * crops.wave.shape[1] // 1920))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, cfg, group["until"]) * group["pace"]
        self.model.train()
        losses = self.losses(crops, acoustic, learn, int(rng.choice(cfg.windows)))
        weights = {k: w for k, w in cfg.weights.items() if not (self.frozen and k in ("phone", "commit", "predict"))}
        total = sum(weights[k] * v for k, v in losses.items() if k in weights)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norms = [nn.utils.clip_grad_norm_(group["params"], 1.0) for group in self.groups]
        if all(map(torch.isfinite, norms)):  # a step that overflowed is left out
            self.optimiser.step()
        self.step += 1
        return {k: v.item() for k, v in losses.items()} | {"norm": norms[0].item()}

    @torch.no_grad()
    def initialise_codebooks(self, rng: np.random.Generator) -> None:
        """k-means on the latents of many crops."""
        parts: list[list[Tensor]] = []
        for _ in range(max(1, 12000 // (self.cfg.batch * 25))):
            crops = draw(self.corpus, self.corpus.train, self.cfg, rng, self.cfg.batch)
            parts.append([r.flatten(0, 1) for r in self.quantiser.project(encode(self.model, crops.wave))])
        generator = torch.Generator().manual_seed(self.cfg.seed)
        self.quantiser.initialise([torch.cat(p) for p in zip(*parts, strict=True)], generator)

    @torch.no_grad()
    def validate(self) -> str:
        """Losses of a fixed batch of unseen utterances, with all codebooks and with the semantic one only."""
        self.model.eval()
        rng = np.random.default_rng(self.cfg.seed)
        crops = draw(self.corpus, self.corpus.validation, self.cfg, rng, 32)
        most = len(self.cfg.acoustic_share) - 1
        full = self.losses(crops, torch.full((32,), most), None, 1024)
        text = " ".join(f"{k} {v:.3f}" for k, v in full.items())
        if not self.rounding:
            return text
        alone = self.losses(crops, torch.zeros(32, dtype=torch.long), None, 1024)
        used = [int((book.cluster_usage > 0.1).sum()) for book in self.quantiser.books()]
        return f"{text} | semantic only: mel {alone['hidden_mel']:.3f} | codes in use {used}"


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.codec.steps; interrupted, go on from the last checkpoint. Writes work/codec/mimi."""
    torch.set_num_threads(cfg.codec.threads)
    corpus = Corpus(work / "data", cfg.data.validation_every)
    trainer = Trainer(cfg.codec, work / "codec", corpus)
    count = sum(p.numel() for p in trainer.model.parameters())
    print(f"codec: {count / 1e6:.2f} M parameters, {len(corpus.train)} utterances, at step {trainer.step}", flush=True)
    began = time.time()
    while trainer.step < cfg.codec.steps:
        losses = trainer.train_step()
        if trainer.step % 50 == 0:
            text = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
            print(f"codec {trainer.step}/{cfg.codec.steps} {(time.time() - began) / 50:.2f} s/step: {text}", flush=True)
            began = time.time()
        if trainer.step % 500 == 0:
            print(f"codec {trainer.step} validation: {trainer.validate()}", flush=True)
        if trainer.checkpoints.due() or trainer.step == cfg.codec.steps:
            trainer.checkpoints.save(trainer.step)
            trainer.model.save_pretrained(work / "codec" / "mimi")
