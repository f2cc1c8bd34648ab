"""MimiModel as a trainable module: encoder and decoder without their costly 24 kHz layers.

At 24 kHz only two channels are in use, the signal and its negative, scaled down so that the ELU is nearly straight
for their difference; the residual blocks there are zero. The weights are the model's own, so whatever is trained
here is what `save_pretrained` writes, and transformers computes the same (tests/test_train.py).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MimiConfig, MimiModel

from tools.train.mel import spaced

OPEN = 2  # channels in use at 24 kHz
SCALE = 0.1  # of the signal inside an ELU


def new_model(settings: dict[str, Any], seed: int, bandwidth: float = 8000.0) -> MimiModel:
    """A fresh codec with the 24 kHz layers set up for speech up to `bandwidth` Hz; settings are MimiConfig's."""
    torch.manual_seed(seed)
    model = MimiModel(MimiConfig(sampling_rate=24000, use_cache=False, **settings))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    into, out = strided(model)
    both = torch.tensor([1.0, -1.0])
    with torch.no_grad():
        hold = model.upsample.conv.weight  # (H, 1, 4): mostly repeat the newest frame
        hold.copy_(torch.tensor([0.8, 0.8, 0.2, 0.2]).expand_as(hold))
        for layer in fixed(model):
            for parameter in layer.parameters():
                parameter.zero_()
        model.encoder.layers[0].conv.weight[:OPEN, 0, -1] = SCALE * both
        model.decoder.layers[-1].conv.weight[0, :OPEN, -1] = 0.5 / SCALE * both
        filters = band_filters(*into.weight.shape[::2], bandwidth)
        for conv, gain in ((into, 3 / SCALE), (out, 0.002)):
            conv.weight[:, OPEN:] = 0
            conv.weight[:, :OPEN] = gain * filters[:, None] * both[:, None]
            conv.bias.zero_()
    return model


def band_filters(count: int, size: int, bandwidth: float) -> Tensor:
    """(count, size) windowed cosines of unit energy: three phases a third of a turn apart for each mel-spaced band.

    Three rectified phases add up to a band's envelope, nearly without ripple.
    """
    centres = torch.from_numpy(spaced(120, bandwidth, -(-count // 3)).astype(np.float32))
    turns = centres[:, None, None] / 24000 * torch.arange(size) + torch.arange(3)[:, None] / 3
    filters = (2 * math.pi * turns).cos() * torch.hann_window(size)
    filters = (filters - filters.mean(-1, keepdim=True)).flatten(0, 1)[:count]
    return filters / filters.norm(dim=1, keepdim=True)


def strided(model: MimiModel) -> tuple[nn.Module, nn.Module]:
    """The encoder's convolution that leaves 24 kHz, and the decoder's that arrives there."""
    after = model.config.num_residual_layers + 2
    return model.encoder.layers[after].conv, model.decoder.layers[-after - 1].conv


def fixed(model: MimiModel) -> list[nn.Module]:
    """What stays as set up: the layers that work at 24 kHz, residual blocks included."""
    blocks = model.config.num_residual_layers
    inner = list(model.decoder.layers[-blocks - 2 : -2])
    return [*model.encoder.layers[: blocks + 1], *inner, model.decoder.layers[-1]]


def quantiser_halves(model: MimiModel) -> tuple[nn.Module, nn.Module]:
    """Its semantic and its acoustic chain of codebooks."""
    split = model.quantizer
    return split.semantic_residual_vector_quantizer, split.acoustic_residual_vector_quantizer


def encoder_parts(model: MimiModel, head: nn.Linear) -> nn.ModuleList:
    """What is trained to find components; `head` makes them of the latents."""
    return nn.ModuleList([model.encoder, model.encoder_transformer, model.downsample, head])


def decoder_parts(model: MimiModel) -> nn.ModuleList:
    """What is trained to say codes."""
    projections = nn.ModuleList(half.output_proj for half in quantiser_halves(model))
    return nn.ModuleList([projections, model.upsample, model.decoder_transformer, model.decoder])


def load_model(folder: Path) -> MimiModel:
    """A codec saved in transformers' format, in float32."""
    return MimiModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def groups(model: MimiModel, parts: nn.ModuleList) -> list[dict[str, Any]]:
    """The optimiser's groups of some parts: the weights next to 24 kHz, whose scale is far from others', apart."""
    for layer in fixed(model):
        layer.requires_grad_(False)
    into, out = strided(model)
    special = {into.weight: 10.0, out.weight: 0.003}
    found: dict[float, list[nn.Parameter]] = {}
    for parameter in parts.parameters():
        if parameter.requires_grad:
            found.setdefault(special.get(parameter, 1.0), []).append(parameter)
    return [{"params": parameters, "pace": pace} for pace, parameters in found.items()]


def encode(model: MimiModel, wave: Tensor) -> Tensor:
    """Waveform (B, n), n a multiple of 1920 -> latents (B, H, n / 1920) before the quantiser."""
    into, stride = strided(model)[0], model.config.upsampling_ratios[-1]
    signal = F.elu(torch.stack((SCALE * wave, -SCALE * wave), 1))
    with torch.autocast("cpu", enabled=False):
        x = F.conv1d(F.pad(signal, (stride, 0)), into.weight[:, :OPEN], into.bias, stride)
    for layer in model.encoder.layers[model.config.num_residual_layers + 3 :]:
        x = layer(x)
    return model.downsample(transform(model.encoder_transformer, x.transpose(1, 2)).transpose(1, 2))


def transform(transformer: nn.Module, x: Tensor) -> Tensor:
    """The layers of a MimiTransformerModel, (B, T, H) -> (B, T, H), without its mask: making that takes 90 ms."""
    positions = torch.arange(x.shape[1], device=x.device)[None]
    for layer in transformer.layers:
        x = layer(x, attention_mask=None, position_ids=positions)[0]
    return x


def decode(model: MimiModel, rows: tuple[Tensor, Tensor]) -> Tensor:
    """Sums of codebook rows (B, T, D), semantic and acoustic -> waveform (B, 1920 T)."""
    projections = (half.output_proj for half in quantiser_halves(model))
    latents = sum(p(r.transpose(1, 2)) for p, r in zip(projections, rows, strict=True))
    return decode_wave(model, decode_features(model, decode_hidden(model, latents)))


def decode_hidden(model: MimiModel, latents: Tensor) -> Tensor:
    """Quantised latents (B, H, T) -> what the decoder's transformer makes of them (B, 2T, H)."""
    return transform(model.decoder_transformer, model.upsample(latents).transpose(1, 2))


def decode_features(model: MimiModel, hidden: Tensor) -> Tensor:
    """The transformer's output (B, 2T, H) -> the last features before 24 kHz (B, C, 1920 T / last ratio)."""
    x = hidden.transpose(1, 2)
    for layer in model.decoder.layers[: -model.config.num_residual_layers - 3]:
        x = layer(x)
    return x


def decode_wave(model: MimiModel, x: Tensor) -> Tensor:
    """Those features -> waveform (B, 1920 T)."""
    out, stride = strided(model)[1], model.config.upsampling_ratios[-1]
    with torch.autocast("cpu", enabled=False):  # quiet passages need the precision
        x = F.conv_transpose1d(x.float(), out.weight[:, :OPEN], out.bias[:OPEN], stride)[..., : x.shape[-1] * stride]
        return (F.elu(x) * model.decoder.layers[-1].conv.weight[0, :OPEN, -1:]).sum(1)
