"""The building blocks of both Sopro generations as torch modules, one utterance at a time.

Everything is time-major: x is (T, D), a speaker vector (S,), tokens (T,) or (T, Q) int64. Most take several of one
length as well, in leading axes (tools/train does).
Parameter names are those of the published checkpoints, so `load_state_dict(strict=True)` needs no renaming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKEN2SV_WIDTH = 192


def sinusoid_table(length: int, width: int) -> Tensor:
    """Interleaved sine/cosine position table (length, width), width even.

    Frequencies and angles are rounded to float32 on the way: at position 4000 one ulp of them shows. The exponential
    is taken in float64: torch's own in float32 differs by that ulp between processors.
    """
    exponents = torch.arange(0, width, 2).float() * (-math.log(10000.0) / width)
    angles_per_step = exponents.double().exp().float()
    angles = torch.arange(length).float()[:, None] * angles_per_step
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(length, width)


class PositionTable(nn.Module):
    """Rows 0..n-1 of the sinusoid table; asking for more rows than it has is an error."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoid_table(length, width), persistent=False)

    def forward(self, rows: int) -> Tensor:
        if rows > len(self.table):
            raise IndexError(f"{rows} positions asked of a table of {len(self.table)}")
        return self.table[:rows]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x / mean_square(x, self.eps).sqrt() * self.weight


def mean_square(x: Tensor, eps: float = 1e-6) -> Tensor:
    """mean(x^2) + eps over the last axis, which stays with length 1."""
    return x.square().mean(-1, keepdim=True) + eps


class GLU(nn.Module):
    """Gated linear unit (T, D) -> (T, D): the first half of `pro` times the logistic of the second."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pro = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.pro(x), dim=-1)


class DepthwiseConv1d(nn.Module):
    """Per-channel dilated convolution (T, D) -> (T, D), zero-padded to keep its length."""

    def __init__(self, width: int, kernel: int, dilation: int = 1, causal: bool = False) -> None:
        super().__init__()
        self.dw = nn.Conv1d(width, width, kernel, dilation=dilation, groups=width)
        self.dilation = dilation
        self.history = (kernel - 1) * dilation
        left = self.history if causal else self.history // 2
        self.padding = (left, self.history - left)

    def forward(self, x: Tensor) -> Tensor:
        return self.dw(F.pad(x.mT, self.padding)).mT

    def start(self) -> Tensor:
        """The streaming state before the first frame: (history, D) zeros."""
        return self.dw.weight.new_zeros(self.history, self.dw.weight.shape[0])

    def step(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """One causal frame x (1, D) after the last `history` inputs -> the output (1, D) and the new tail.

        A product and a sum instead of conv1d: for one frame that is several times faster.
        """
        window = torch.cat((tail, x))
        taps = window[:: self.dilation] * self.dw.weight[:, 0].T
        return taps.sum(0, keepdim=True) + self.dw.bias, window[1:]


class SSMLiteBlock(nn.Module):
    """Residual GLU + depthwise convolution, then a residual feed-forward of width 4D; (T, D) -> (T, D).

    A pruned checkpoint's feed-forward is narrower (`narrow`).
    """

    def __init__(self, width: int, kernel: int = 7, dilation: int = 1, causal: bool = False) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.glu = GLU(width)
        self.dw = DepthwiseConv1d(width, kernel, dilation, causal)
        self.ff = nn.Sequential(RMSNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def narrow(self, hidden: int) -> None:
        """A new feed-forward with so many units."""
        width = self.ff[1].in_features
        self.ff[1], self.ff[3] = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dw(self.glu(self.norm(x)))
        return x + self.ff(x)

    def step(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """One frame x (1, D) of the causal block; see `DepthwiseConv1d.step`."""
        y, tail = self.dw.step(self.glu(self.norm(x)), tail)
        x = x + y
        return x + self.ff(x), tail


def block_stack(
    layers: int, width: int, kernel: int = 7, dilations: Sequence[int] = (1,), causal: bool = False
) -> nn.ModuleList:
    """`layers` SSMLite blocks whose dilations repeat the given cycle."""
    return nn.ModuleList(SSMLiteBlock(width, kernel, dilation, causal) for dilation in islice(cycle(dilations), layers))


def run_stack(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


class AttentiveStatsPool(nn.Module):
    """Attention-weighted mean and standard deviation over time, (T, d) -> (2d,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, h: Tensor, length: int | None = None) -> Tensor:
        scores = self.attn(h)
        if length is not None:
            beyond = torch.arange(len(h))[:, None] >= length
            scores = scores.masked_fill(beyond, -1e9)
        weights = scores.softmax(-2)
        mean = (weights * h).sum(-2)
        variance = (weights * (h - mean.unsqueeze(-2)).square()).sum(-2).clamp_min(1e-6)
        return torch.cat((mean, variance.sqrt()), -1)


class CodebookEmbedding(nn.Module):
    """One table for Q codebooks of V values; the last row stands for "before the beginning" (BOS)."""

    def __init__(self, codebooks: int, values: int, width: int) -> None:
        super().__init__()
        self.values = values
        self.bos = codebooks * values
        self.emb = nn.Embedding(self.bos + 1, width)

    def forward(self, tokens: Tensor, codebook: int = 0) -> Tensor:
        """Rows of one codebook, (T,) -> (T, D). Token V (v1.5's EOS) reads the next codebook's first row."""
        return self.emb(tokens + codebook * self.values)

    def every(self, tokens: Tensor) -> Tensor:
        """Rows of all codebooks, (T, Q) -> (T, Q, D)."""
        return self.emb(tokens + torch.arange(tokens.shape[-1]) * self.values)

    def shifted(self, tokens: Tensor, k: int, first: int = 0) -> Tensor:
        """Codebook-0 rows of the sequence k positions later, BOS before it: rows first..T-1 of (T, D)."""
        rows = torch.cat((tokens.new_full((k,), self.bos), tokens))
        return self.emb(rows[first : len(tokens)])


class Token2SV(nn.Module):
    """Speaker vector of a coded reference: (R, Q) tokens -> (S,) of unit length."""

    def __init__(self, codebooks: int, values: int, out: int, width: int = TOKEN2SV_WIDTH) -> None:
        super().__init__()
        self.values = values
        self.emb = nn.Embedding(codebooks * values, width)
        self.cb_weights = nn.Parameter(torch.zeros(codebooks))
        self.enc = nn.Sequential(  # the Identity keeps the checkpoint's numbering (a dropout there)
            DepthwiseConv1d(width, 7), nn.GELU(), nn.Identity(), DepthwiseConv1d(width, 7), nn.GELU()
        )
        self.pool = AttentiveStatsPool(width)
        self.proj = nn.Linear(2 * width, out)

    def mix(self, tokens: Tensor) -> Tensor:
        """Weighted sum of the codebooks' embeddings, (R, Q) -> (R, 192)."""
        rows = self.emb(tokens + torch.arange(tokens.shape[-1]) * self.values)
        return weigh(self.cb_weights.softmax(0), rows)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.unit(self.pool(self.enc(self.mix(tokens))))

    def unit(self, pooled: Tensor) -> Tensor:
        vector = self.proj(pooled)
        return vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def weigh(weights: Tensor, rows: Tensor) -> Tensor:
    """Sum over codebooks: weights (Q,), rows (T, Q, D) -> (T, D)."""
    return (weights[:, None] * rows).sum(-2)


class SpeakerFiLM(nn.Module):
    """LayerNorm modulated by the speaker vector; strength 0 leaves the plain LayerNorm. (T, D) -> (T, D)."""

    def __init__(self, speaker: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(speaker, width), nn.GELU(), nn.Linear(width, 2 * width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, speaker: Tensor, strength: float) -> Tensor:
        scale, shift = self.mlp(speaker).tanh().unsqueeze(-2).chunk(2, -1)
        return self.norm(x) * (1 + strength * scale) + strength * shift


class TextEmbedding(nn.Module):
    """Token rows plus positions, (L,) -> (L, D)."""

    def __init__(self, vocabulary: int, width: int, max_length: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(vocabulary, width)
        self.positions = PositionTable(max_length, width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.emb(ids) + self.positions(len(ids))


class TextEncoder(nn.Module):
    """(L,) token ids -> the encoded sequence (L, D) and its pooled vector (D,)."""

    def __init__(self, vocabulary: int, width: int, layers: int, max_length: int) -> None:
        super().__init__()
        self.embed = TextEmbedding(vocabulary, width, max_length)
        self.layers = block_stack(layers, width)
        self.norm = RMSNorm(width)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        sequence = self.norm(run_stack(self.layers, self.embed(ids)))
        return sequence, sequence.sum(0) / (len(ids) + 1e-6)
