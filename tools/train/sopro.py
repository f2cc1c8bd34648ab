"""Stage `sopro`: text and a reference's codes to codes.

Losses: the AR part's next code and its end; one NAR stage for each utterance; and a nudge of the text attention towards
what flite says is spoken at each frame (guided attention, Tachibana et al. 2017, with the true alignment). A share of
the NAR stages goes on from what the stages before them find, and is taught the codes that then come nearest: behind a
wrong code the right ones are of no use.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.train.batched import BATCHED, Batch
from tools.train.codes import Coded
from tools.train.oracle import new_sopro, read_sopro, save_checkpoint
from tools.train.tokenizer import character_tokenizer, encode, save
from tools.train.training import Trainer

REACH = 3.0  # characters around the right one where attention costs nothing yet
FINAL = re.compile(r"[.!]$")  # a question without its mark would be another sentence
NEIGHBOURS = 4  # a batch is drawn from as many times its size of utterances of about one length


def corrupt(codes: Tensor, share: Tensor, values: int) -> Tensor:
    """Codes (B, T, ...) with a share (B,) of them replaced by random ones: at run time some are wrong, too."""
    hit = torch.rand(codes.shape) < share.view(-1, *[1] * (codes.dim() - 1))
    return torch.where(hit, torch.randint(values, codes.shape), codes)


def padded(rows: list[Tensor], fill: float = 0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def guide(batch: Batch, attention: list[Tensor]) -> Tensor:
    """Mean share of the attention (B, heads, T, L) that strays from the places where the text is spoken."""
    known = batch.inside & ~batch.places.isnan()
    distance = (torch.arange(batch.ids.shape[1]) - batch.places[..., None]) / REACH
    cost = (1 - torch.exp(-0.5 * distance.square())).nan_to_num() * known[..., None]
    return sum((w.mean(1) * cost).sum() for w in attention) / len(attention) / known.sum().clamp_min(1)


class SoproTrainer(Trainer):
    """Model and optimiser; a step is a function of their state and of the step's number."""

    name = "sopro"

    def __init__(self, cfg: SimpleNamespace, folder: Path, coded: Coded) -> None:
        self.coded, self.best, self.device = coded, folder / "best.json", torch.device(cfg.device)
        self.books = coded.books.to(self.device)
        self.tokenizer = character_tokenizer()
        torch.manual_seed(cfg.seed)
        self.model = self.modules = new_sopro(cfg.architecture, cfg.models, self.tokenizer.get_vocab_size())
        self.model.to(self.device)
        self.batched = BATCHED[type(self.model)](self.model, cfg.dropout, cfg.end, cfg.after)
        self.values = self.model.cfg.codebook_size
        if cfg.init_from:
            self.model.load_state_dict(read_sopro(cfg.architecture, cfg.init_from).state_dict())
        self.by_length = sorted(coded.train, key=lambda i: (coded.entries[i]["frames"], i))
        self.until = np.cumsum([coded.entries[i]["frames"] for i in self.by_length])  # frames
        self.unseen = [i for i in coded.validation if coded.speaker(i) in coded.speakers]
        self.unseen.sort(key=lambda i: coded.entries[i]["frames"])
        super().__init__(cfg, folder, [{"params": list(self.model.parameters()), "pace": 1.0}])

    def batch(self, numbers: list[int], rng: np.random.Generator) -> Batch:
        """These utterances, each with other utterances of its speaker as a reference."""
        texts = [self.coded.text(i) for i in numbers]
        if self.cfg.unfinished:  # whoever asks for words without a mark at their end is to hear the same
            texts = [FINAL.sub("", t) if rng.random() < self.cfg.unfinished else t for t in texts]
        ids = [torch.tensor(encode(self.tokenizer, text)) for text in texts]
        codes, length = [self.coded.codes(i) for i in numbers], int(rng.integers(*self.cfg.reference_frames))
        places = [self.coded.places(i) for i in numbers]
        places = [torch.full((len(c),), torch.nan) if p is None else p for p, c in zip(places, codes, strict=True)]
        return Batch(
            padded(ids), torch.tensor([len(i) for i in ids]), padded(codes),
            padded([self.coded.components(i) for i in numbers]), torch.tensor([len(c) for c in codes]),
            torch.stack([self.coded.reference(i, length, rng) for i in numbers]), padded(places, torch.nan),
        ).to(self.device)  # fmt: skip

    @torch.no_grad()
    def followed(self, batch: Batch, cond: Tensor, known: Tensor, groups: dict[str, slice], follows: Tensor) -> Tensor:
        """Known codes (B, T, Q); where `follows` (B,) they are those that the stages before each item's would find."""
        known, stages = known.clone(), self.model.stage_books
        for stage, books in stages.items():
            later = slice(groups[stage].stop, len(known))
            if later.start < later.stop and follows[later].any():
                only = {s: later if s == stage else slice(0, 0) for s in stages}
                heads = self.batched.nar(cond, known, only, batch.inside)[stage]
                found = torch.stack([head.argmax(-1) for head in heads], -1)
                known[later, :, books] = torch.where(follows[later, None, None], found, known[later][..., books])
        return known

    def losses(self, batch: Batch, groups: dict[str, slice], corruption: Tensor, follows: Tensor) -> dict[str, Tensor]:
        """Losses and accuracies; groups: which items train which stage; corruption (B,): share of wrong codes given;
        follows (B,): whose stages go on from what is found instead of what is given."""
        text, pool = self.batched.text(batch)
        cond = self.batched.condition(pool, corrupt(batch.ref, corruption, self.values), batch.codes.shape[1])
        given = corrupt(batch.codes, corruption, self.values)
        first = self.batched.first_codes(batch, cond, given[..., 0], text)
        refined = self.refinement(batch, cond[:, : batch.codes.shape[1]], given, groups, follows)
        return {"ar": first.loss, "guide": guide(batch, first.attention), "hit_0": first.hits, **refined}

    def refinement(
        self, batch: Batch, cond: Tensor, given: Tensor, groups: dict[str, slice], follows: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the NAR part: cross entropy, and `risk`, the expected distance from what is to be coded.

        The likeliest of many unlikely codes can be far off; the heads are to name the one that is nearest on average.
        """
        books, inside, errors, risks, hits = self.books, batch.inside, [], [], {}
        known = self.followed(batch, cond, given, groups, follows)
        logits = self.batched.nar(cond, known, groups, inside)
        with torch.autocast(self.device.type, enabled=False):  # the nearest of rows that lie close to each other
            for stage, heads in logits.items():
                items, numbers = groups[stage], self.model.stage_books[stage]
                if items.start == items.stop:  # fewer items than stages
                    continue
                own, here = follows[items, None], inside[items]
                rest = books.left(batch.components[items], known[items], range(1, numbers[0]))
                for book, head in zip(numbers, heads, strict=True):
                    chosen, best = head.argmax(-1), books.chain(rest, [book])[..., 0]
                    wanted = torch.where(own, best, batch.codes[items][..., book])
                    errors.append(F.cross_entropy(head[here], wanted[here]))
                    away = books.distances(rest[here], book) / rest[here].square().sum(-1).mean()
                    risks.append((head[here].softmax(-1) * away).sum(-1).mean())
                    hits[f"hit_{book}"] = (chosen == wanted)[here].float().mean()
                    rest = rest - books.books[book][torch.where(own, chosen, wanted)]
        return {"nar": torch.stack(errors).mean(), "risk": torch.stack(risks).mean(), **dict(sorted(hits.items()))}

    def shares(self, size: int) -> dict[str, slice]:
        """An equal share of a batch's items for every stage, in the stages' order."""
        stages = list(self.model.stage_books)
        edges = np.linspace(0, size, len(stages) + 1).astype(int)
        return {stage: slice(a, b) for stage, a, b in zip(stages, edges[:-1], edges[1:], strict=True)}

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Utterances of about one length: cfg.batch of them, or cfg.batch_frames frames of speech.

        Long ones, which come in smaller batches, are drawn as much more often: all are seen as often.
        """
        size, most = self.cfg.batch, len(self.by_length) - 1
        if self.cfg.batch_frames:
            middle = int(np.searchsorted(self.until, rng.integers(self.until[-1]), side="right"))
            length = self.coded.entries[self.by_length[middle]]["frames"]
            size = max(len(self.model.stage_books), self.cfg.batch_frames // max(1, length))
            start = max(0, min(middle - NEIGHBOURS * size // 2, most + 1 - NEIGHBOURS * size))
        else:
            start = int(rng.integers(max(1, most + 1 - NEIGHBOURS * size)))
        near = self.by_length[start : start + NEIGHBOURS * size]
        return [int(i) for i in rng.choice(near, size, replace=len(near) < size)]

    def learn(self, rng: np.random.Generator) -> dict[str, float]:
        numbers = self.draw(rng)
        size = len(numbers)
        corruption = torch.from_numpy(rng.uniform(*self.cfg.corruption, size)).float().to(self.device)
        follows = torch.from_numpy(rng.random(size) < self.cfg.followed).to(self.device)
        batch = self.batch(numbers, rng)
        with self.computing():
            losses = self.losses(batch, self.shares(size), corruption, follows)
        sum(weight * losses[name] for name, weight in self.cfg.weights.items()).backward()
        return {name: value.item() for name, value in losses.items()}

    def validate(self, count: int = 128, size: int = 16) -> dict[str, float]:
        """Over unseen utterances, every stage, from what the stages before find.

        The weights are kept if the first figure is the best so far.
        """
        rng, sums, turns = np.random.default_rng(self.cfg.seed), {}, len(self.model.stage_books)
        chosen = self.unseen[:: max(1, len(self.unseen) // count)]
        for first in range(0, len(chosen), size):
            numbers = chosen[first : first + size]
            for turn in range(turns):
                turned = np.roll(numbers, turn * len(numbers) // turns).tolist()
                batch, groups = self.batch(turned, rng), self.shares(len(turned))
                with self.computing():
                    everyone = torch.ones(len(turned), dtype=torch.bool)
                    followed = self.losses(batch, groups, torch.zeros(len(turned)), everyone)
                for name, value in followed.items():
                    sums.setdefault(name, []).append(value.item())
        found = {name: float(np.mean(values)) for name, values in sums.items()}
        found = {"ar+risk": found["ar"] + found["risk"], **found}
        if found["ar+risk"] < (json.loads(self.best.read_text())["ar+risk"] if self.best.exists() else float("inf")):
            save_checkpoint(deepcopy(self.model).cpu(), self.folder / "model.safetensors")
            save(self.folder / "tokenizer")
            self.best.write_text(json.dumps({"step": self.step, **found}))
        return found

    def export(self) -> None:
        """Nothing more: `validate` writes the best weights and the tokenizer in upstream's format."""


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.sopro.steps; the best state by validation is work/sopro/model.safetensors."""
    torch.set_num_threads(cfg.sopro.threads)
    SoproTrainer(cfg.sopro, work / "sopro", Coded(work, cfg)).run()
