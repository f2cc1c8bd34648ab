"""Stage `guess`: how well a small network knows the frames of what is said, before a speech model is trained.

It is given what no speech model is given, the phonemes and when they are said, and it is far smaller. What it says of
the held-out sentences (judge: `guess`, and `guessed`, coded) tells whether the teacher's speech follows from its text.

One network names the semantic codes from left to right, another finds a frame's components given these codes around it:
the way an autoregressive part and its refinement go.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train.codebooks import Codebooks
from tools.train.taught.features import parameters, vectors
from tools.train.taught.teach import STEPS, Lessons, Taught

AROUND = 4  # frames to either side whose symbols are seen
BEFORE, NEAR = 2, 2  # codes that are seen: so many before, or so many to either side
PLACES = 4  # thirds of a frame since a symbol began, counted so far
KINDS = 256  # symbols are numbered by this remainder of their code points
FAR = 20.0  # frames beyond which the distance from the beginning or the end does not count
SPOILT = 0.15  # share of wrong codes given


class Frames(NamedTuple):
    """Of many utterances, one after the other: symbols and places (N, STEPS), where (N, 3), components (N, D), codes
    (N,) of the semantic codebook plus 1, starts and ends (N,) of each frame's utterance."""

    symbols: Tensor
    places: Tensor
    where: Tensor
    components: Tensor
    codes: Tensor
    starts: Tensor
    ends: Tensor


def spoken(lesson: Taught) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols and places (T, STEPS), where (T, 3): what a network is told of a lesson."""
    frames, durations = lesson.frames, lesson.durations
    numbers = np.array([ord(c) % KINDS for c in lesson.symbols])
    symbols = np.repeat(numbers, durations)
    places = np.concatenate([np.minimum(np.arange(d), PLACES - 1) for d in durations])
    missing = (0, frames * STEPS - len(symbols))
    t = np.arange(frames)
    asked = np.full(frames, float("?" in lesson.symbols))
    where = np.stack((asked, np.minimum(t, FAR) / FAR, np.minimum(frames - t, FAR) / FAR), 1)
    return *(np.pad(a, missing).reshape(frames, STEPS) for a in (symbols, places)), where


def gathered(lessons: list[Taught], books: Codebooks) -> Frames:
    """All frames of some lessons."""
    symbols, places, where = (np.concatenate(a) for a in zip(*map(spoken, lessons), strict=True))
    found = [books.components(torch.from_numpy(vectors(parameters(lesson)))) for lesson in lessons]
    lengths = torch.tensor([lesson.frames for lesson in lessons])
    ends = lengths.cumsum(0)
    x = torch.cat(found)
    codes = torch.cat([books.codes(part)[..., 0] + 1 for part in x.split(20000)])
    return Frames(
        torch.from_numpy(symbols), torch.from_numpy(places), torch.from_numpy(where).float(), x, codes,
        (ends - lengths).repeat_interleave(lengths), ends.repeat_interleave(lengths),
    )  # fmt: skip


def around(values: Tensor, frames: Frames, rows: Tensor, offsets: range) -> Tensor:
    """(n, offsets, ...) values at frames before and after these rows (n,); 0 beyond an utterance."""
    index = rows[:, None] + torch.tensor(offsets)
    inside = (index >= frames.starts[rows, None]) & (index < frames.ends[rows, None])
    found = values[index.clamp(0, len(values) - 1)]
    return torch.where(inside.view(*inside.shape, *[1] * (found.dim() - 2)), found, 0)


class Guess(nn.Module):
    """Symbols of the frames around and some codes -> logits, or components."""

    def __init__(self, values: int, codes: int, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.symbol, self.place = nn.Embedding(KINDS, 20), nn.Embedding(PLACES, 20)
        self.code = nn.Embedding(values + 1, 48)
        inputs = STEPS * (2 * AROUND + 1) * 20 + codes * 48 + 3
        layers: list[nn.Module] = []
        for size in (inputs, width, width):
            layers += [nn.Linear(size, width), nn.GELU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, frames: Frames, rows: Tensor, codes: Tensor) -> Tensor:
        """Rows (n,) of the frames, codes (n, c) from 1, 0 = none -> (n, outputs)."""
        near = range(-AROUND, AROUND + 1)
        symbols, places = (around(a, frames, rows, near).flatten(1) for a in (frames.symbols, frames.places))
        seen = (self.symbol(symbols) + self.place(places)).flatten(1)
        return self.net(torch.cat((seen, self.code(codes).flatten(1), frames.where[rows]), 1))


OFFSETS = {"first": range(-BEFORE, 0), "all": range(-NEAR, NEAR + 1)}


def networks(books: Codebooks, cfg: SimpleNamespace) -> dict[str, Guess]:
    """`first` names semantic codes, `all` finds components."""
    values, size = books.books[0].shape
    outputs = {"first": values, "all": size}
    torch.manual_seed(cfg.seed)
    return {k: Guess(values, len(OFFSETS[k]), n, cfg.width, cfg.dropout) for k, n in outputs.items()}


def error(name: str, net: Guess, frames: Frames, rows: Tensor, codes: Tensor) -> Tensor:
    """Cross entropy in bits, or the share of the variance that is left."""
    found = net(frames, rows, codes)
    if name == "first":
        return F.cross_entropy(found, frames.codes[rows] - 1) / np.log(2)
    wanted = frames.components[rows]
    return (found - wanted).square().sum(1).mean() / wanted.square().sum(1).mean()


def learn(name: str, net: Guess, known: Frames, unseen: Frames, cfg: SimpleNamespace) -> None:
    """Teach one network; prints what it leaves of unseen utterances."""
    generator, began = torch.Generator().manual_seed(cfg.seed), time.process_time()
    torch.manual_seed(cfg.seed)
    optimiser = torch.optim.AdamW(net.parameters(), cfg.learning_rate, weight_decay=0.05)
    values = len(net.code.weight)
    every = torch.arange(len(unseen.codes))
    for step in range(cfg.steps):
        rate = cfg.learning_rate * min(1, (step + 1) / 50) * (1 - step / cfg.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(known.codes), (cfg.batch,), generator=generator)
        codes = around(known.codes, known, rows, OFFSETS[name])
        spoilt = torch.rand(codes.shape, generator=generator) < SPOILT
        codes = torch.where(spoilt, torch.randint(1, values, codes.shape, generator=generator), codes)
        net.train()
        loss = error(name, net, known, rows, codes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % cfg.validate_every == 0 or step + 1 == cfg.steps:
            net.eval()
            with torch.no_grad():
                left = error(name, net, unseen, every, around(unseen.codes, unseen, every, OFFSETS[name]))
            seconds = time.process_time() - began
            print(f"guess: {name} {step + 1}/{cfg.steps}: {loss:.3f}, unseen {left:.3f}, {seconds:.0f} s", flush=True)


@torch.no_grad()
def guessed(nets: dict[str, Guess], books: Codebooks, lesson: Taught) -> Tensor:
    """Components (T, D) of what is said in a lesson, of which only symbols and durations are looked at."""
    symbols, places, where = (torch.from_numpy(a) for a in spoken(lesson))
    count = lesson.frames
    codes = torch.zeros(count, dtype=torch.long)
    frames = Frames(symbols, places, where.float(), torch.zeros(count, books.books[0].shape[1]), codes,
                    torch.zeros(count, dtype=torch.long), torch.full((count,), count))  # fmt: skip
    for t in range(count):
        rows = torch.tensor([t])
        codes[t] = nets["first"](frames, rows, around(codes, frames, rows, OFFSETS["first"])).argmax() + 1
    every = torch.arange(count)
    return nets["all"](frames, every, around(codes, frames, every, OFFSETS["all"]))


def load(work: Path, books: Codebooks, cfg: SimpleNamespace) -> dict[str, Guess]:
    """The trained networks."""
    nets = networks(books, cfg)
    for name, net in nets.items():
        net.load_state_dict(torch.load(work / "guess" / f"{name}.pt", weights_only=True))
        net.eval()
    return nets


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Every guess.every-th utterance is learnt, 100 others are unseen; writes work/guess."""
    torch.set_num_threads(cfg.codec.threads)
    books, lessons, own = Codebooks.load(work), Lessons(work / "teacher" / "heart"), cfg.guess
    said = [i for i in range(len(lessons)) if lessons.entries[i][1]["frames"]]
    known = gathered([lessons[i] for i in said[:: own.every]], books)
    unseen = gathered([lessons[i] for i in said[1 :: max(own.every, len(said) // 100)]][:100], books)
    print(f"guess: {len(known.codes)} frames, {len(known.codes) * 0.08 / 3600:.1f} hours", flush=True)
    (work / "guess").mkdir(exist_ok=True)
    for name, net in networks(books, own).items():
        learn(name, net, known, unseen, own)
        torch.save(net.state_dict(), work / "guess" / f"{name}.pt")
