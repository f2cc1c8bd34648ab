"""Stages `quantise-codec` and `prune-codec`: a Mimi for few bits, or with fewer filters.

Both decode the codes that Sopro said (sampled.py); the student's waveform is compared with the teacher's (complex
spectra and mel levels: spectra.py), and so are the features behind every layer of the decoder. Where the encoder has
lost filters, it hears what the teacher has decoded, and learns the teacher's latents. No recording is needed.
"""

from __future__ import annotations

import fnmatch
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MimiModel

from sopro_np.convert.mimi import plan_mimi
from sopro_np.convert.recipe import load_recipe
from tools.train import prune
from tools.train.distil import Distiller, groups, made_once, relative_error, share_of, teacher_of
from tools.train.fake import quantise
from tools.train.mimi import load_model, transform
from tools.train.sampled import Sampled
from tools.train.spectra import spectral_loss
from tools.train.vocoder import HOP, RATE


def decoded(model: MimiModel, codes: Tensor) -> tuple[list[Tensor], Tensor]:
    """Codes (B, T, Q) -> features (B, C, ...), the transformer's and each of the SEANet's streams; waveform (B, n)."""
    latents = model.upsample(model.quantizer.decode(codes.mT))
    x = transform(model.decoder_transformer, latents.mT).mT
    features = [x]
    for layer in model.decoder.layers:
        if isinstance(layer, nn.ELU):
            features.append(x)
        x = layer(x)
    return features, x[:, 0].float()


def encoded(model: MimiModel, wave: Tensor) -> Tensor:
    """Waveform (B, n) -> latents (B, H, T) before the quantiser."""
    return model.downsample(transform(model.encoder_transformer, model.encoder(wave[:, None]).mT).mT)


def pruned(model: MimiModel, filters: int, codes: list[Tensor]) -> tuple[MimiModel, list[Tensor]]:
    """A Mimi of `filters` filters (num_filters) made of another, and which channels of the decoder's streams are left.

    `codes` (B, T, Q) each: what is decoded, and encoded again, to measure activations on.
    """
    config = deepcopy(model.config)
    config.num_filters = filters
    new, old = MimiModel(config), deepcopy(model)

    def run() -> None:
        for some in codes:
            encoded(old, decoded(old, some)[1])

    def keep(group: prune.Channels) -> int:
        return int(new.get_submodule(group.writers[0]).out_channels)

    channels = [*prune.of_seanet(old.encoder, "encoder"), *prune.of_seanet(old.decoder, "decoder")]
    kept = [(group, torch.from_numpy(left)) for group, left in prune.prune(old, channels, keep, run)]
    new.load_state_dict(old.state_dict())
    streams = [left for group, left in reversed(kept) if group.stream and group.writers[0].startswith("decoder.")]
    return new.eval(), streams


class CodecDistiller(Distiller):
    """A student, and the teacher that it started from or was made of."""

    def __init__(
        self, name: str, cfg: SimpleNamespace, folder: Path, held: Sampled, student: Path, recipe: str,
        kept: list[Tensor] | None = None,
    ) -> None:  # fmt: skip
        """`student`: a folder; `recipe`: what it will be converted with, "" for one in floats; kept: of each stream of
        the decoder, which of the teacher's channels it has."""
        self.name, self.held, self.device = name, held, torch.device(cfg.device)
        torch.manual_seed(cfg.seed)
        self.teacher, self.model = load_model(Path(cfg.teacher)), load_model(student)
        self.modules = self.model
        if recipe:
            quantise(self.model, plan_mimi(student), load_recipe(recipe))
        self.hears = bool(cfg.weights.get("latents")) and kept is not None
        self.teacher.to(self.device).eval().requires_grad_(False)
        self.model.to(self.device).requires_grad_(False)
        m = self.model
        quantiser = (p for n, p in m.quantizer.named_parameters() if "output_proj" in n)
        parts = [m.upsample, m.decoder_transformer, m.decoder]
        if self.hears:
            parts += [m.encoder, m.encoder_transformer, m.downsample]
        for parameter in (*quantiser, *(p for part in parts for p in part.parameters())):
            parameter.requires_grad_(True)
        for name, parameter in m.named_parameters():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in cfg.frozen):
                parameter.requires_grad_(False)
        self.kept = [None] + [k.to(self.device) for k in kept or []]
        super().__init__(cfg, folder, groups(self.model))

    def compared(self, given: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Mean relative error of the features that both have."""
        pairs = []
        for i, (ours, theirs) in enumerate(zip(given, wanted, strict=True)):
            kept = self.kept[i] if i < len(self.kept) else None
            theirs = theirs if kept is None else theirs[:, kept]
            if theirs.shape == ours.shape:
                pairs.append(relative_error(ours, theirs))
        return torch.stack(pairs).mean()

    def losses(self, numbers: list[int], rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        codes = torch.stack([self.held.crop(numbers, self.cfg.frames, rng) for _ in range(size)]).to(self.device)
        with torch.no_grad():
            features, wanted = decoded(self.teacher, codes)
        found, wave = decoded(self.model, codes)
        tonal = torch.ones(size, wanted.shape[1] // HOP, device=self.device)
        complex_, mel = spectral_loss(wave, wanted, tonal, int(rng.choice(self.cfg.windows)), RATE / 2)
        losses = {"mel": mel, "complex": complex_, "features": self.compared(found, features)}
        if self.hears:
            with torch.no_grad():
                latents = encoded(self.teacher, wanted)
            losses["latents"] = relative_error(encoded(self.model, wanted), latents)
        with torch.no_grad():
            return losses | {"snr": -10 * relative_error(wave, wanted).clamp_min(1e-12).log10()}

    def learn(self, rng: np.random.Generator) -> dict[str, float]:
        with self.computing():
            losses = self.losses(self.held.train, rng, self.cfg.batch)
        sum(self.cfg.weights.get(k, 0.0) * v for k, v in losses.items()).backward()
        return {k: v.item() for k, v in losses.items()}

    def validate(self) -> dict[str, float]:
        with self.computing():
            sums = [self.losses(self.held.validation, np.random.default_rng(i), self.cfg.batch) for i in range(4)]
        return {k: float(np.mean([s[k].item() for s in sums])) for k in sums[0]}

    def export(self) -> None:
        """A folder in transformers' format, for the converter."""
        self.model.save_pretrained(self.folder / "mimi")


def _train(name: str, cfg: SimpleNamespace, work: Path, share: float, recipe: str) -> None:
    own = cfg.distil.codec
    own.teacher = str(teacher_of(own.teacher, work / "codec" / "mimi"))
    torch.set_num_threads(own.threads)
    held, folder, student = Sampled(work, cfg.data.validation_every), work / name, Path(own.student or own.teacher)

    def make() -> None:
        if share < 1:
            rng, model = np.random.default_rng(own.seed), load_model(student).eval()
            crops = torch.stack([held.crop(held.train, own.frames, rng) for _ in range(own.measured)])
            codes = list(crops.split(own.batch))
            small, left = pruned(model, max(1, round(share * model.config.num_filters)), codes)
            small.save_pretrained(folder / "begun")
            torch.save(left, folder / "kept.pt")

    made_once(folder, student, (share, recipe, own.measured, own.frames, own.seed), make)
    begun = folder / "begun" if share < 1 else student
    kept = torch.load(folder / "kept.pt", weights_only=True) if share < 1 else None
    CodecDistiller(name, own, folder, held, begun, recipe, kept).run()
    print(f"{name}: {folder / 'mimi'}", flush=True)


def quantise_stage(cfg: SimpleNamespace, work: Path) -> None:
    """For the recipe quantise.recipe -> work/quantise-codec/mimi."""
    _train("quantise-codec", cfg, work, 1.0, cfg.quantise.recipe)


def prune_stage(cfg: SimpleNamespace, work: Path) -> None:
    """The share prune.codec of the filters -> work/prune-codec/mimi."""
    _train("prune-codec", cfg, work, share_of("codec", cfg.prune.codec), "")
