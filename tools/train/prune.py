"""Structured pruning: whole channels go, together with all that writes and reads them.

A channel is worth what its readers lose without it: the increase of their outputs' squared error, as a share of the
outputs' power, where what remains makes up for it as well as it can (least squares over the inputs' second moments).
That is the optimal brain surgeon's criterion (Hassibi and Stork 1992) for columns instead of weights, as in ZipLM
(Kurtic et al. 2023, arXiv 2302.04089); the readers' weights are corrected by the same least squares, as He et al.
2017 (arXiv 1707.06168) do for convolutions. Of a residual stream the channels are the same for all that add to it and
all that read it. The smallest loss goes first, one channel after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.mimi.modeling_mimi import MimiConv1d, MimiConvTranspose1d, MimiResnetBlock

from tools.train.oracle import SSMLiteBlock

DAMPING = 0.01  # of a mean second moment: a hundredth of it let single crops of speech explode


@dataclass
class Channels:
    """Names of the modules that write some channels, and of those that read them."""

    writers: list[str]
    readers: list[str] = field(default_factory=list)
    stream: bool = False  # of a SEANet: the outputs of its layers, not what is inside a residual block


def of_seanet(half: nn.Module, prefix: str) -> list[Channels]:
    """All channels of a MimiEncoder or MimiDecoder, but for its input and output."""
    found: list[Channels] = []
    stream: Channels | None = None
    for i, layer in enumerate(half.layers):
        name = f"{prefix}.layers.{i}"
        if isinstance(layer, MimiResnetBlock):
            assert stream is not None
            first, second = (f"{name}.block.{j}.conv" for j, part in enumerate(layer.block) if hasattr(part, "conv"))
            found.append(Channels([first], [second]))
            stream.readers.append(first)
            stream.writers.append(second)
            if hasattr(layer.shortcut, "conv"):
                stream.readers.append(f"{name}.shortcut.conv")
                stream.writers.append(f"{name}.shortcut.conv")
        elif isinstance(layer, MimiConv1d | MimiConvTranspose1d):
            if stream is not None:
                stream.readers.append(f"{name}.conv")
            stream = Channels([f"{name}.conv"], stream=True)
            found.append(stream)
    return found[:-1]  # the last stream is the output


def of_feed_forwards(model: nn.Module) -> list[Channels]:
    """The units of all feed-forwards of a Sopro."""
    blocks = (name for name, module in model.named_modules() if isinstance(module, SSMLiteBlock))
    return [Channels([f"{name}.ff.1"], [f"{name}.ff.3"]) for name in blocks]


# ---------------------------------------------------------------- what a channel is worth


def moments(model: nn.Module, readers: set[str], run: Callable[[], None]) -> dict[str, np.ndarray]:
    """While `run` runs the model: second moments (C, C) of what enters each of these modules."""
    sums: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0] if isinstance(module, nn.Linear) else given[0].mT
            rows = x.detach().flatten(0, -2).double()
            sums[name] = sums.get(name, 0) + rows.T @ rows

        return add

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in sorted(readers)]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return {name: total.cpu().numpy() for name, total in sums.items()}


def damped(moment: np.ndarray) -> np.ndarray:
    return moment + (DAMPING * np.diag(moment).mean() + 1e-12) * np.eye(len(moment))


def survivors(moments: list[np.ndarray], grams: list[np.ndarray], keep: int) -> np.ndarray:
    """The channels (keep,) that remain; of every reader second moments of its input and W^T W, (C, C) both."""
    alive = np.ones(len(grams[0]), bool)
    state = []
    for moment, gram in zip(moments, grams, strict=True):
        power = float((gram * moment).sum())
        if power > 0:  # else its output is nothing, and so is what it loses
            state.append((np.linalg.inv(damped(moment)), gram / power))
    for _ in range(len(alive) - keep):
        losses = sum((np.diag(gram) / np.diag(inverse) for inverse, gram in state), np.zeros(len(alive)))
        losses[~alive] = np.inf
        c = int(losses.argmin())
        alive[c] = False
        for inverse, gram in state:
            share = inverse[c] / inverse[c, c]  # W becomes W (1 - e_c share^T)
            column = gram[:, c].copy()
            gram += column[c] * np.outer(share, share) - np.outer(share, column) - np.outer(column, share)
            gram[c] = gram[:, c] = 0
            inverse -= np.outer(inverse[c], share)
            inverse[c] = inverse[:, c] = 0
            inverse[c, c] = 1
    return np.flatnonzero(alive)


def making_up(moment: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(C, kept) the matrix A with which x = A x[kept] as nearly as can be: a reader's weights W become W A."""
    moment = damped(moment)
    return np.linalg.solve(moment[np.ix_(kept, kept)], moment[kept]).T


# ---------------------------------------------------------------- surgery


def prune(
    model: nn.Module, channels: list[Channels], keep: Callable[[Channels], int], run: Callable[[], None]
) -> Iterator[tuple[Channels, np.ndarray]]:
    """Weights and biases of `model` in place, for narrower modules: yields which channels remain, the last ones first.

    `run` lets the model work on what its activations are measured on. What the modules say about their sizes
    (`out_channels`) does not change: the weights are for a new model.
    """
    known = moments(model, {name for group in channels for name in group.readers}, run)
    for group in reversed(channels):  # a reader has lost the outputs that nobody hears before it is asked what it needs
        readers = [model.get_submodule(name) for name in group.readers]
        seen = [known[name] for name in group.readers]
        grams = []
        for reader in readers:
            columns = _inputs_last(reader).flatten(0, -2).detach().double().cpu().numpy()
            grams.append(columns.T @ columns)
        kept = survivors(seen, grams, keep(group))
        index = torch.from_numpy(kept)
        with torch.no_grad():
            for reader, moment in zip(readers, seen, strict=True):
                merged = torch.from_numpy(making_up(moment, kept)).to(reader.weight)
                reader.weight.data = _inputs_first(reader, _inputs_last(reader) @ merged)
            for name in group.writers:
                writer = model.get_submodule(name)
                axis = 1 if isinstance(writer, nn.ConvTranspose1d) else 0
                writer.weight.data = writer.weight.index_select(axis, index.to(writer.weight.device)).contiguous()
                if writer.bias is not None:
                    writer.bias.data = writer.bias[index.to(writer.bias.device)]
        yield group, kept


def _inputs_last(module: nn.Module) -> Tensor:
    """Weights with their inputs as the last axis."""
    w = module.weight
    return w if isinstance(module, nn.Linear) else w.movedim(0 if isinstance(module, nn.ConvTranspose1d) else 1, -1)


def _inputs_first(module: nn.Module, w: Tensor) -> Tensor:
    """And back where they belong."""
    if not isinstance(module, nn.Linear):
        w = w.movedim(-1, 0 if isinstance(module, nn.ConvTranspose1d) else 1)
    return w.contiguous()
