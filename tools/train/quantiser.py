"""Training of Mimi's split residual quantiser: nearest codes, straight-through gradients, codebooks by moving averages.

The codebooks live where transformers keeps them (`embed_sum`, `cluster_usage`), so that nothing has to be copied.
van den Oord et al., Neural Discrete Representation Learning (2017), appendix A.1; Zeghidour et al., SoundStream
(2021) for residual quantisation, k-means initialisation and the replacing of unused codes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

EPSILON = 1e-5  # as in transformers


class Quantised(NamedTuple):
    """Codes (B, T, Q), the quantised latents (B, H, T) of semantic codebooks and of all, commitment loss."""

    codes: Tensor
    semantic: Tensor
    both: Tensor
    commitment: Tensor


class Quantiser:
    """Wraps MimiModel's quantizer; `ema` is the moving averages' memory, `dead` the share of the mean usage
    below which a code starts anew."""

    def __init__(self, model: nn.Module, ema: float, dead: float) -> None:
        split = model.quantizer
        self.halves = (split.semantic_residual_vector_quantizer, split.acoustic_residual_vector_quantizer)
        self.ema, self.dead = ema, dead

    def books(self) -> list[nn.Module]:
        """All codebooks in their order."""
        return [layer.codebook for half in self.halves for layer in half.layers]

    def project(self, z: Tensor) -> list[Tensor]:
        """Latents (B, H, T) -> what each half quantises, (B, T, D)."""
        return [half.input_proj(z).float().transpose(1, 2) for half in self.halves]

    def unquantised(self, z: Tensor) -> Quantised:
        """The same path without rounding, for the first steps."""
        outputs = [half.output_proj(r.transpose(1, 2)) for half, r in zip(self.halves, self.project(z), strict=True)]
        codes = torch.zeros(z.shape[0], z.shape[2], len(self.books()), dtype=torch.long)
        return Quantised(codes, outputs[0], outputs[0] + outputs[1], z.new_zeros(()))

    def __call__(self, z: Tensor, acoustic: Tensor, learn: Tensor | None = None) -> Quantised:
        """Latents (B, H, T); acoustic (B,): how many acoustic codebooks are added up for each item.

        With `learn`, frame numbers in random order, the codebooks move towards what they were given.
        """
        codes, outputs, loss = [], [], z.new_zeros(())
        for number, (half, r) in enumerate(zip(self.halves, self.project(z), strict=True)):
            rest, total = r.detach(), torch.zeros_like(r)
            for j, layer in enumerate(half.layers):
                used = (acoustic > j) if number else torch.ones_like(acoustic, dtype=torch.bool)
                index = nearest(rest, embedding(layer.codebook))
                rows = embedding(layer.codebook)[index]
                if learn is not None:
                    self.update(layer.codebook, rest[used].flatten(0, 1), index[used].flatten(), learn)
                if used.any():
                    loss = loss + (r - total - rows).square()[used].mean() / r.detach().var()
                total = total + rows * used[:, None, None]
                rest = rest - rows
                codes.append(index)
            active = used if number == 0 else acoustic > 0
            straight = (r + (total - r).detach()) * active[:, None, None]
            outputs.append(half.output_proj(straight.transpose(1, 2)))
        return Quantised(torch.stack(codes, -1), outputs[0], outputs[0] + outputs[1], loss / len(codes))

    @torch.no_grad()
    def update(self, book: nn.Module, rest: Tensor, index: Tensor, learn: Tensor) -> None:
        """Move the averages; codes hardly ever used start anew from random frames (N, D) of this batch."""
        if len(rest) == 0:
            return
        counts = torch.bincount(index, minlength=len(book.cluster_usage)).float()
        sums = torch.zeros_like(book.embed_sum).index_add_(0, index, rest)
        book.cluster_usage.mul_(self.ema).add_(counts, alpha=1 - self.ema)
        book.embed_sum.mul_(self.ema).add_(sums, alpha=1 - self.ema)
        average = book.cluster_usage.mean()
        dead = torch.nonzero(book.cluster_usage < self.dead * average)[:, 0][: len(rest) // 16]
        fresh = rest[learn[: len(dead)] % len(rest)]
        book.cluster_usage[dead] = average / 2
        book.embed_sum[dead] = fresh * average / 2

    @torch.no_grad()
    def initialise(self, frames: list[Tensor], generator: torch.Generator, rounds: int = 12) -> None:
        """k-means of each half's projections (N, D), codebook after codebook on what the earlier ones leave."""
        for half, rest in zip(self.halves, frames, strict=True):
            rest = rest.clone()
            for layer in half.layers:
                centres = kmeans(rest, len(layer.codebook.cluster_usage), rounds, generator)
                index = nearest(rest, centres)
                counts = torch.bincount(index, minlength=len(centres)).float().clamp_min(1)
                usage = counts * 300 / len(rest)  # as if a batch of 300 frames had been averaged
                layer.codebook.cluster_usage.copy_(usage)
                layer.codebook.embed_sum.copy_(centres * usage[:, None])
                layer.codebook.initialized.fill_(1)
                rest -= centres[index]


def embedding(book: nn.Module) -> Tensor:
    """Rows (V, D) of a codebook."""
    return book.embed_sum / book.cluster_usage.clamp_min(EPSILON)[:, None]


def nearest(x: Tensor, rows: Tensor) -> Tensor:
    """Number of the nearest row: (..., D), (V, D) -> (...)."""
    return (rows.square().sum(1) - 2 * (x @ rows.T)).argmin(-1)


def kmeans(x: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Centres (count, D) of x (N, D), from random members; empty clusters jump to random members."""
    centres = x[torch.randint(len(x), (count,), generator=generator)]
    for _ in range(rounds):
        index = nearest(x, centres)
        counts = torch.bincount(index, minlength=count).float()
        centres = torch.zeros_like(centres).index_add_(0, index, x) / counts.clamp_min(1)[:, None]
        empty = torch.nonzero(counts == 0)[:, 0]
        centres[empty] = x[torch.randint(len(x), (len(empty),), generator=generator)]
    return centres
