"""Stage `codebooks`: principal components of the frames' vectors, and the codes for them, by k-means.

Mimi quantises the same latents twice, side by side: one semantic codebook, and a chain of acoustic ones that each
code what is left over. Here the semantic codebook stands for envelopes and voicing (what is said), the acoustic
chain for all of it, pitch too. Nothing is trained by gradients: codebooks are found in minutes, before any network.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from tools.train.render import Renderings


class Codebooks:
    """mean (W,) and basis (W, D) of the components; semantic (D, D) their part that the first codebook sees; books.

    gains (W,): by how much what codes say of a vector's value is to deviate more from its mean, when it is said.
    """

    def __init__(
        self, mean: Tensor, basis: Tensor, semantic: Tensor, books: list[Tensor], gains: Tensor | None = None
    ) -> None:
        self.mean, self.basis, self.semantic, self.books = mean, basis, semantic, books
        self.gains = torch.ones_like(mean) if gains is None else gains

    @classmethod
    def load(cls, work: Path) -> Codebooks:
        with np.load(work / "codebooks.npz") as file:
            tensors = {name: torch.from_numpy(file[name]) for name in file.files}
        return cls(tensors["mean"], tensors["basis"], tensors["semantic"], list(tensors["books"]), tensors.get("gains"))

    def save(self, work: Path) -> None:
        books = torch.stack(self.books)
        arrays = {"mean": self.mean, "basis": self.basis, "semantic": self.semantic, "books": books}
        np.savez(work / "codebooks.npz", **arrays, gains=self.gains)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Codebooks:
        """The same on another device."""
        mean, basis, semantic, gains = (t.to(device) for t in (self.mean, self.basis, self.semantic, self.gains))
        return Codebooks(mean, basis, semantic, [book.to(device) for book in self.books], gains)

    def components(self, vectors: Tensor) -> Tensor:
        """(..., W) -> (..., D)."""
        return (vectors - self.mean) @ self.basis

    def said(self, codes: Tensor, acoustic: int | None = None) -> Tensor:
        """Codes (T, Q) -> vectors (T, W) that are to be said, with the gains: of so many acoustic codebooks, or all."""
        used = None if acoustic is None else torch.tensor([acoustic])
        return self.mean + self.rows(codes[None], used)[1][0] @ self.basis.T * self.gains

    def codes(self, components: Tensor) -> Tensor:
        """(..., D) -> (..., Q) codes, the semantic one first."""
        semantic = nearest(components @ self.semantic, self.books[0])
        return torch.cat((semantic[..., None], self.chain(components, range(1, len(self.books)))), -1)

    def chain(self, rest: Tensor, numbers: Iterable[int]) -> Tensor:
        """(..., D) -> codes (..., n) of these acoustic codebooks, each for what those before leave over."""
        found = []
        for number in numbers:
            found.append(nearest(rest, self.books[number]))
            rest = rest - self.books[number][found[-1]]
        return torch.stack(found, -1)

    def distances(self, rest: Tensor, number: int) -> Tensor:
        """(..., D) -> squared distances (..., V) from the rows of an acoustic codebook."""
        rows = self.books[number]
        return rest.square().sum(-1, keepdim=True) + rows.square().sum(1) - 2 * (rest @ rows.T)

    def left(self, components: Tensor, codes: Tensor, numbers: Iterable[int]) -> Tensor:
        """What codes (..., Q) of these acoustic codebooks leave of components (..., D)."""
        return components - sum(self.books[number][codes[..., number]] for number in numbers)

    def rows(self, codes: Tensor, acoustic: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes (B, T, Q) -> semantic and acoustic sums (B, T, D); acoustic (B,): how many of its books to add."""
        parts = [book[codes[..., 1 + i]] for i, book in enumerate(self.books[1:])]
        if acoustic is not None:
            parts = [part * (acoustic > i)[:, None, None] for i, part in enumerate(parts)]
        return self.books[0][codes[..., 0]], torch.stack(parts).sum(0)


def nearest(x: Tensor, rows: Tensor) -> Tensor:
    """Number of the nearest row: (..., D), (V, D) -> (...)."""
    return (rows.square().sum(1) - 2 * (x @ rows.T)).argmin(-1)


def kmeans(x: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Centres (count, D) of x (N, D), from random members; empty clusters jump to random members."""
    centres = x[torch.randperm(len(x), generator=generator)[:count]]
    for _ in range(rounds):
        index = nearest(x, centres)
        counts = torch.bincount(index, minlength=count).float()
        centres = torch.zeros_like(centres).index_add_(0, index, x) / counts.clamp_min(1)[:, None]
        empty = torch.nonzero(counts == 0)[:, 0]
        centres[empty] = x[torch.randint(len(x), (len(empty),), generator=generator)]
    return centres


def principal(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (W,) and the `count` strongest components (W, count) of x (N, W)."""
    mean = x.mean(0)
    return mean, torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))[1].flip(1)[:, :count].contiguous()


def build(
    vectors: Tensor,
    size: int,
    values: int,
    count: int,
    semantic: int,
    seed: int,
    rounds: int = 15,
    pitches: int = 1,
    melody: float = 0.0,
) -> Codebooks:
    """Codebooks (`count` of `values` rows of `size` components) of frames (N, W); the semantic one sees `semantic`.

    A vector's last `pitches` values are about pitch, of which the semantic one sees `melody` times as much.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, basis = principal(vectors, size)
    x = (vectors - mean) @ basis
    weights = torch.ones(len(basis), 1)
    weights[-pitches:] = melody
    seen = basis.T @ (basis * weights)
    axes = principal(x @ seen, semantic)[1]
    projection = seen @ axes @ axes.T
    books = [kmeans(x @ projection, values, rounds, generator)]
    rest = x.clone()
    for _ in range(count - 1):
        books.append(kmeans(rest, values, rounds, generator))
        rest -= books[-1][nearest(rest, books[-1])]
    return Codebooks(mean, basis, projection, books)


def make(cfg: SimpleNamespace, work: Path) -> None:
    """work/render -> work/codebooks.npz."""
    torch.set_num_threads(cfg.codec.threads)
    held, mimi = Renderings(work, cfg.data.validation_every), cfg.codec.mimi
    rng = np.random.default_rng(cfg.codec.seed)
    chosen = np.sort(rng.permutation(len(held.vectors))[: cfg.codec.clustered])
    found = build(
        torch.from_numpy(held.vectors[chosen].astype(np.float32)), mimi["codebook_dim"], mimi["codebook_size"],
        mimi["num_quantizers"], cfg.codec.semantic, cfg.codec.seed,
    )  # fmt: skip
    found.save(work)
    print(f"codebooks: {lost(found, torch.from_numpy(held.vectors[-3000:].astype(np.float32)))}", flush=True)


def lost(books: Codebooks, unseen: Tensor) -> str:
    """What the components lose of the variance of vectors (N, W), and what codes lose of the components'."""
    x = books.components(unseen)
    total = (unseen - books.mean).square().sum(1).mean()
    parts = [("components", total - x.square().sum(1).mean())]
    for used in range(len(books.books)):
        acoustic = books.rows(books.codes(x)[None], torch.tensor([used]))[1][0]
        parts.append((f"{used} acoustic", (x - acoustic).square().sum(1).mean()))
    return "lost of the variance: " + ", ".join(f"{k} {v / total:.3f}" for k, v in parts)
