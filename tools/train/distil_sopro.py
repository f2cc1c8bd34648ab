"""Stages `quantise-sopro` and `prune-sopro`: a Sopro for few bits, or with narrower feed-forwards.

The student gets the codes that the teacher said, a share of them replaced by others, and learns the teacher's
distribution of every next code (Kullback-Leibler divergence), of the AR part and of all NAR stages, and of the end.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from sopro_np.convert.recipe import load_recipe
from sopro_np.convert.sopro import plan_sopro
from sopro_np.tensorfile import read_header
from tools.train import prune
from tools.train.batched import BATCHED, Batch, Batched
from tools.train.distil import Distiller, groups, made_once, share_of, teacher_of
from tools.train.fake import quantise
from tools.train.oracle import Sopro, read_sopro
from tools.train.sampled import Sampled
from tools.train.sopro import NEIGHBOURS, corrupt, padded

GENERATIONS = {"v1": "sopro_v1", "v1.5": "sopro_v15"}


class Answers(NamedTuple):
    """A model's logits of a batch: first codes (N, V) of all frames that count, whether they are the last (N',), or
    None, and of each codebook that is asked for (N'', V)."""

    first: Tensor
    stop: Tensor | None
    others: dict[int, Tensor]


def read(path: Path) -> tuple[Sopro, Batched]:
    """A checkpoint in upstream's format, and its passes over batches."""
    generation = str(plan_sopro(path).sources["sopro"]["generation"])
    model = read_sopro(GENERATIONS[generation], path)
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batched = BATCHED[type(model)](model, dropout=0.0)
    model.load_state_dict(trained)  # Batched is for fresh models
    return model, batched


def write(model: Sopro, source: Path, target: Path) -> None:
    """In upstream's format, with all that is known of the source."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, target, {**read_header(source, any_dtype=True)[1]})


def batch_of(held: Sampled, numbers: list[int], reference: int, rng: np.random.Generator) -> Batch:
    """These utterances, with so many frames of their voices as a reference."""
    ids, codes = [held.ids(i) for i in numbers], [held.codes(i) for i in numbers]
    frames = torch.tensor([len(c) for c in codes])
    size = len(numbers), int(frames.max())
    return Batch(
        padded(ids), torch.tensor([len(i) for i in ids]), padded(codes), torch.zeros(*size, 0), frames,
        torch.stack([held.reference(i, reference, rng) for i in numbers]), torch.full(size, torch.nan),
    )  # fmt: skip


def answers(batched: Batched, batch: Batch, ref: Tensor, given: Tensor, shares: dict[str, slice]) -> Answers:
    """Reference (B, R, Q) and codes (B, T, Q) as they are given; `shares`: which items every NAR stage works on."""
    frames = given.shape[1]
    text, pool = batched.text(batch)
    cond = batched.condition(pool, ref, frames)
    first = batched.first_logits(batch, cond, given[..., 0], text)
    end = first.shape[1] - frames  # rows behind the last code: one where the end is a code
    counted = torch.arange(first.shape[1]) < batch.frames[:, None] + end
    stop = batched.stop_logits(cond[:, :frames], given[..., 0])
    heads = batched.nar(cond[:, :frames], given, shares, batch.inside)
    others = {
        book: logits[batch.inside[shares[stage]]]
        for stage, found in heads.items()
        for book, logits in zip(batched.model.stage_books[stage], found, strict=True)
    }
    return Answers(first[counted], None if stop is None else stop[batch.inside], others)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits (N, V), in nats a row."""
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)


class SoproDistiller(Distiller):
    """A student, and the teacher that it started from or was made of."""

    def __init__(
        self, name: str, cfg: SimpleNamespace, folder: Path, held: Sampled, student: Path, recipe: str
    ) -> None:
        """`student`: a checkpoint; `recipe`: what it will be converted with, "" for one in floats."""
        self.name, self.held, self.device, self.source = name, held, torch.device(cfg.device), student
        torch.manual_seed(cfg.seed)
        self.teacher, self.taught_by = read(Path(cfg.teacher))
        self.model, self.batched = read(student)
        self.modules = self.model
        if recipe:
            quantise(self.model, plan_sopro(student), load_recipe(recipe))
        self.teacher.to(self.device).eval().requires_grad_(False)
        self.model.to(self.device)
        self.by_length = sorted(held.train, key=lambda i: (held.entries[i]["frames"], i))
        super().__init__(cfg, folder, groups(self.model))

    def losses(self, batch: Batch, corruption: Tensor, shares: dict[str, slice]) -> dict[str, Tensor]:
        """How far student and teacher are apart; corruption (B,): share of codes that are others than the teacher's."""
        values = self.model.cfg.codebook_size
        inputs = batch, corrupt(batch.ref, corruption, values), corrupt(batch.codes, corruption, values), shares
        with torch.no_grad():
            wanted = answers(self.taught_by, *inputs)
        found = answers(self.batched, *inputs)
        apart = {k: divergence(v, wanted.others[k]) for k, v in found.others.items() if len(v)}
        same = [(v.argmax(-1) == wanted.others[k].argmax(-1)).float().mean() for k, v in found.others.items() if len(v)]
        losses = {"ar": divergence(found.first, wanted.first), "nar": torch.stack(list(apart.values())).mean()}
        if found.stop is not None and wanted.stop is not None:
            asked = wanted.stop.sigmoid()
            losses["stop"] = F.binary_cross_entropy_with_logits(found.stop, asked)
        losses["same_ar"] = (found.first.argmax(-1) == wanted.first.argmax(-1)).float().mean()
        return losses | {"same_nar": torch.stack(same).mean()}

    def learn(self, rng: np.random.Generator) -> dict[str, float]:
        size = self.cfg.batch
        start = int(rng.integers(max(1, len(self.by_length) + 1 - NEIGHBOURS * size)))
        near = self.by_length[start : start + NEIGHBOURS * size]
        numbers = [int(i) for i in rng.choice(near, size, replace=len(near) < size)]
        batch = batch_of(self.held, numbers, int(rng.integers(*self.cfg.reference_frames)), rng).to(self.device)
        edges = np.linspace(0, size, len(self.model.stage_books) + 1).astype(int)
        shares = {s: slice(a, b) for s, a, b in zip(self.model.stage_books, edges[:-1], edges[1:], strict=True)}
        corruption = torch.from_numpy(rng.uniform(*self.cfg.corruption, size)).float().to(self.device)
        with self.computing():
            losses = self.losses(batch, corruption, shares)
        sum(self.cfg.weights.get(name, 0.0) * value for name, value in losses.items()).backward()
        return {name: value.item() for name, value in losses.items()}

    def validate(self, count: int = 64) -> dict[str, float]:
        """Over unseen utterances, one after the other, every stage, with the teacher's own codes."""
        rng, found = np.random.default_rng(self.cfg.seed), []
        for number in self.held.validation[:count]:
            batch = batch_of(self.held, [number], self.cfg.reference_frames[1], rng).to(self.device)
            with self.computing():
                shares = dict.fromkeys(self.model.stage_books, slice(0, 1))
                found.append(self.losses(batch, torch.zeros(1), shares))
        return {name: float(np.mean([one[name].item() for one in found])) for name in found[0]}

    def export(self) -> None:
        """model.safetensors in upstream's format, for the converter."""
        write(self.model, self.source, self.folder / "model.safetensors")


def narrowed(source: Path, target: Path, share: float, held: Sampled, cfg: SimpleNamespace) -> None:
    """A checkpoint whose feed-forwards have this share of their units, by what cfg.measured utterances let them say."""
    model, batched = read(source)
    shares = dict.fromkeys(model.stage_books, slice(0, 1))

    def run() -> None:
        rng = np.random.default_rng(cfg.seed)
        for number in held.train[: cfg.measured]:
            batch = batch_of(held, [number], cfg.reference_frames[1], rng)
            answers(batched, batch, batch.ref, batch.codes, shares)

    def keep(group: prune.Channels) -> int:
        return max(1, round(share * model.get_submodule(group.writers[0]).out_features))

    list(prune.prune(model, prune.of_feed_forwards(model), keep, run))
    write(model, source, target)


def _train(name: str, cfg: SimpleNamespace, work: Path, share: float, recipe: str) -> None:
    own = cfg.distil.sopro
    own.teacher = str(teacher_of(own.teacher, work / "sopro" / "model.safetensors"))
    torch.set_num_threads(own.threads)
    held, folder, student = Sampled(work, cfg.data.validation_every), work / name, Path(own.student or own.teacher)
    made = folder / "begun.safetensors"
    settings = (share, recipe, own.measured, own.seed)
    made_once(folder, student, settings, lambda: narrowed(student, made, share, held, own) if share < 1 else None)
    SoproDistiller(name, own, folder, held, made if share < 1 else student, recipe).run()
    print(f"{name}: {folder / 'model.safetensors'}", flush=True)


def quantise_stage(cfg: SimpleNamespace, work: Path) -> None:
    """For the recipe quantise.recipe -> work/quantise-sopro/model.safetensors."""
    _train("quantise-sopro", cfg, work, 1.0, cfg.quantise.recipe)


def prune_stage(cfg: SimpleNamespace, work: Path) -> None:
    """The share prune.sopro of the feed-forwards' units -> work/prune-sopro/model.safetensors."""
    _train("prune-sopro", cfg, work, share_of("sopro", cfg.prune.sopro), "")
