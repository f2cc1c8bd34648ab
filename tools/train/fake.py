"""Fake quantisation: torch modules that compute in floats what the engine computes from a converted file.

Weights and activations are rounded as sopro_np/ops/quant.py rounds them, and gradients pass as if nothing had been
rounded (straight-through estimator: Bengio et al. 2013, arXiv 1308.3432; for inference in integers: Jacob et al. 2018,
arXiv 1712.05877). What is trained, saved and converted are the float weights; the converter rounds them to the very
integers that were trained for. Which tensor gets which format says a recipe, and which tensor of a checkpoint is which
matrix of the file says the converter's own plan.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mimi.modeling_mimi import MimiEuclideanCodebook

from sopro_np.convert.plan import Part
from sopro_np.convert.recipe import Recipe
from sopro_np.ops.quant import GROUP


class _Straight(torch.autograd.Function):
    """(x, what x is rounded to) -> the latter; the gradient goes to x as it is."""

    @staticmethod
    def forward(ctx: object, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@dataclass(frozen=True)
class Floats:
    """Weights rounded to a floating-point type; activations are left alone."""

    dtype: torch.dtype

    def weight(self, w: Tensor, taps: int = 1) -> Tensor:
        """w (N, K*C) as the engine sees it."""
        return w if self.dtype == w.dtype else _Straight.apply(w, w.detach().to(self.dtype).to(w.dtype))

    def rows(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Integers:
    """Weights as integers of -top..top, one scale for `group` neighbouring inputs of a tap, or (None) for an output;
    activations as int8, one scale per row.

    half: scales of weights are rounded to fp16; asymmetric: rows of activations have a zero point.
    """

    top: int
    group: int | None = None
    half: bool = False
    asymmetric: bool = False

    def encode(self, w: Tensor, taps: int = 1) -> tuple[Tensor, Tensor]:
        """w (N, K*C) -> integers (N, K*C), scales (N, K*G), G = ceil(C / group), or (N, 1)."""
        groups = self._grouped(w, taps)
        scale = groups.abs().amax(-1) / self.top
        if self.half:
            scale = scale.half().float()
        divisor = torch.where(scale > 0, scale, 1)
        q = (groups / divisor[..., None]).round().clamp(-self.top, self.top)
        return self._flat(q, w, taps), scale

    def weight(self, w: Tensor, taps: int = 1) -> Tensor:
        """w (N, K*C) as the engine sees it."""
        with torch.no_grad():
            q, scale = self.encode(w, taps)
            rounded = self._flat(self._grouped(q, taps) * scale[..., None], w, taps)
        return _Straight.apply(w, rounded)

    def rows(self, x: Tensor) -> Tensor:
        """Activations (..., C) as the engine sees them."""
        with torch.no_grad():
            q, scale = encode_rows(x, self.asymmetric)
            rounded = (q * scale).to(x.dtype)
        return _Straight.apply(x, rounded)

    def _grouped(self, w: Tensor, taps: int) -> Tensor:
        """(N, K*C) -> (N, groups, group), the last group of every tap filled up with zeros."""
        if self.group is None:
            return w[:, None]
        by_tap = w.reshape(len(w), taps, -1)
        return F.pad(by_tap, (0, -by_tap.shape[2] % self.group)).reshape(len(w), -1, self.group)

    def _flat(self, groups: Tensor, w: Tensor, taps: int) -> Tensor:
        inputs = w.shape[1] // taps
        return groups.reshape(len(w), taps if self.group else 1, -1)[..., : inputs if self.group else None].flatten(1)


Format = Floats | Integers
FORMATS: dict[str, Format] = {  # of sopro_np.ops.quant.FORMATS
    "fp32": Floats(torch.float32),
    "fp16": Floats(torch.float16),
    "bf16": Floats(torch.bfloat16),
    "int8": Integers(127),
    "int8-asymmetric": Integers(127, asymmetric=True),
    "int4": Integers(7, GROUP, half=True),
    "int4-64": Integers(7, 64, half=True),
    "int4-128": Integers(7, 128, half=True),
}


def encode_rows(x: Tensor, asymmetric: bool = False) -> tuple[Tensor, Tensor]:
    """Activations (..., C) -> integers of -127..127, or less a zero point of -255..255; scales (..., 1)."""
    x = x.float()
    if not asymmetric:
        amax = x.abs().amax(-1, keepdim=True).clamp_min(1e-12)
        return (x * (127 / amax)).round(), amax / 127
    low, high = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
    span = (high - low).clamp_min(1e-12)
    zero = (-low * (255 / span)).round()
    return torch.minimum(torch.maximum((x * (255 / span)).round(), -zero), 255 - zero), span / 255


def phases(w: Tensor, stride: int) -> Tensor:
    """Weight of a transposed convolution (C, N, k) -> (stride*N, m*C), as the converter lays it out."""
    c, n, taps = w.shape
    by_age = F.pad(w, (0, -taps % stride)).reshape(c, n, -1, stride).flip(2)
    return by_age.permute(3, 1, 2, 0).reshape(stride * n, -1)


def from_phases(rows: Tensor, like: Tensor, stride: int) -> Tensor:
    """The inverse, in the shape of `like`."""
    c, n, taps = like.shape
    return rows.reshape(stride, n, -1, c).permute(3, 1, 2, 0).flip(2).reshape(c, n, -1)[..., :taps]


# ---------------------------------------------------------------- modules


class FakeLinear(nn.Linear):
    formats: tuple[Format, ...]

    def matrix(self) -> Tensor:
        """The weight as the file has it, (N, K*C); so has every class here."""
        return self.formats[0].weight(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.formats[0].rows(x), self.matrix(), self.bias)


class FakeConv(nn.Conv1d):
    formats: tuple[Format, ...]

    def matrix(self) -> Tensor:
        return self.formats[0].weight(self.weight.mT.flatten(1), self.weight.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        weight = self.matrix().reshape_as(self.weight.mT).mT
        return F.conv1d(self.formats[0].rows(x.mT).mT, weight, self.bias, self.stride, self.padding, self.dilation)


class FakeTransposed(nn.ConvTranspose1d):
    formats: tuple[Format, ...]

    def matrix(self) -> Tensor:
        rows = phases(self.weight, self.stride[0])
        return self.formats[0].weight(rows, rows.shape[1] // len(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        weight = from_phases(self.matrix(), self.weight, self.stride[0])
        return F.conv_transpose1d(self.formats[0].rows(x.mT).mT, weight, self.bias, self.stride)


class FakeEmbedding(nn.Embedding):
    formats: tuple[Format, ...]

    def matrix(self) -> Tensor:
        return self.formats[0].weight(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        rows = F.embedding(ids, self.weight)  # rows are independent: only these are rounded
        return self.formats[0].weight(rows.flatten(0, -2)).view_as(rows)


class FakeAttention(nn.MultiheadAttention):
    """Query, key and value lie in one tensor here and are three matrices in the file."""

    formats: tuple[Format, ...]

    def matrices(self) -> list[Tensor]:
        return [form.weight(w) for form, w in zip(self.formats, self.in_proj_weight.chunk(3), strict=True)]

    def matrix(self) -> Tensor:
        return torch.cat(self.matrices())

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        average_attn_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        heads = [
            F.linear(form.rows(x), w, b).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for form, x, w, b in zip(
                self.formats, (query, key, value), self.matrices(), self.in_proj_bias.chunk(3), strict=True
            )
        ]
        scores = heads[0] @ heads[1].mT / self.head_dim**0.5
        if key_padding_mask is not None:
            scores = scores.masked_fill(key_padding_mask[..., None, None, :], -torch.inf)
        weights = scores.softmax(-1)
        found = self.out_proj((weights @ heads[2]).transpose(-3, -2).flatten(-2))
        shown = weights.mean(-3) if average_attn_weights else weights
        return found, shown if need_weights else None


class FakeCodebook(MimiEuclideanCodebook):
    formats: tuple[Format, ...]

    @property
    def embed(self) -> Tensor:
        return self.formats[0].weight(self.embed_sum / self.cluster_usage.clamp(min=self.epsilon)[:, None])

    def matrix(self) -> Tensor:
        return self.embed


FAKES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: FakeLinear,
    nn.Conv1d: FakeConv,
    nn.ConvTranspose1d: FakeTransposed,
    nn.Embedding: FakeEmbedding,
    nn.MultiheadAttention: FakeAttention,
    MimiEuclideanCodebook: FakeCodebook,
}


def formats_of(part: Part, recipe: Recipe) -> dict[str, tuple[Format, ...]]:
    """Names of a checkpoint's tensors, as patterns -> the formats of the matrices that are made of each, in order."""
    found: dict[str, tuple[Format, ...]] = {}
    for matrix in part.matrices:
        found[matrix.source] = (*found.get(matrix.source, ()), FORMATS[recipe.scheme(matrix.name)])
    return found


def quantise(model: nn.Module, part: Part, recipe: Recipe) -> None:
    """From now on `model` computes as a file does that is converted with `recipe`; in place.

    `part`: the plan of the model's checkpoint. Names and shapes of all tensors stay, so checkpoints do.
    """
    names = list(model.state_dict())
    for pattern, formats in formats_of(part, recipe).items():
        matched = fnmatch.filter(names, pattern)
        assert matched, f"no tensor {pattern} in the model"
        for name in matched:
            module = model.get_submodule(name.rpartition(".")[0])
            module.__class__ = next(fake for kind, fake in FAKES.items() if isinstance(module, kind))
            module.formats = formats
