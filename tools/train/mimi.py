"""MimiModel as a trainable module: encoder and decoder without their costly 24 kHz layers.

At 24 kHz only two channels are in use, the signal and its negative, scaled down so that the ELU is nearly straight
for their difference; the residual blocks there are zero. The weights are the model's own, so whatever is trained
here is what `save_pretrained` writes, and transformers computes the same (tests/test_train.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MimiConfig, MimiModel

OPEN = 2  # channels in use at 24 kHz
SCALE = 0.1  # of the signal inside an ELU


def new_model(settings: dict[str, Any], seed: int) -> MimiModel:
    """A fresh codec with the 24 kHz layers set up; settings are MimiConfig's."""
    torch.manual_seed(seed)
    model = MimiModel(MimiConfig(sampling_rate=24000, num_residual_layers=1, use_cache=False, **settings))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    with torch.no_grad():
        hold = model.upsample.conv.weight  # (H, 1, 4): mostly repeat the newest frame
        hold.copy_(torch.tensor([0.8, 0.8, 0.2, 0.2]).expand_as(hold))
        for layers, fast in ((model.encoder.layers, 1), (model.decoder.layers, -3)):
            for parameter in layers[fast].parameters():  # the residual block at 24 kHz
                parameter.zero_()
        both = torch.tensor([1.0, -1.0])
        first, last = model.encoder.layers[0].conv, model.decoder.layers[-1].conv
        for conv in (first, last):
            conv.weight.zero_()
            conv.bias.zero_()
        first.weight[:OPEN, 0, -1] = SCALE * both
        last.weight[0, :OPEN, -1] = 0.5 / SCALE * both
        into, out = model.encoder.layers[3].conv, model.decoder.layers[-4].conv
        into.weight[:, OPEN:] = 0
        into.weight[:, :OPEN] = torch.randn(into.weight[:, :1].shape) * both[:, None] / SCALE
        into.bias.zero_()
        out.weight[:, OPEN:] = 0
        out.weight[:, :OPEN] = torch.randn(out.weight[:, :1].shape) * both[:, None] * 0.002
        out.bias.zero_()
    return model


def load_model(folder: Path) -> MimiModel:
    """A codec saved in transformers' format, in float32."""
    return MimiModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def freeze(model: MimiModel) -> None:
    """Exclude from training what stays as set up: everything at 24 kHz and the codebooks."""
    for layers, fixed in ((model.encoder.layers, (0, 1)), (model.decoder.layers, (-3, -1))):
        for i in fixed:
            layers[i].requires_grad_(False)


def paces(model: MimiModel, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups for Adam, whose steps do not know a tensor's scale: weights next to 24 kHz are far from 1."""
    groups = {model.encoder.layers[3].conv.weight: 20.0, model.decoder.layers[-4].conv.weight: 0.03}
    rest = [p for p in parameters if p not in groups]
    return [{"params": rest, "pace": 1.0}, *({"params": [p], "pace": pace} for p, pace in groups.items())]


def encode(model: MimiModel, wave: Tensor) -> Tensor:
    """Waveform (B, n), n a multiple of 1920 -> latents (B, H, n / 1920) before the quantiser."""
    layers = model.encoder.layers
    into = layers[3].conv
    signal = F.elu(torch.stack((SCALE * wave, -SCALE * wave), 1))
    stride, size = into.stride[0], into.weight.shape[-1]
    x = F.conv1d(F.pad(signal, (size - stride, 0)), into.weight[:, :OPEN], into.bias, stride)
    for layer in layers[4:]:
        x = layer(x)
    return model.downsample(transform(model.encoder_transformer, x.transpose(1, 2)).transpose(1, 2))


def transform(transformer: nn.Module, x: Tensor) -> Tensor:
    """The layers of a MimiTransformerModel, (B, T, H) -> (B, T, H), without its mask: making that takes 90 ms."""
    positions = torch.arange(x.shape[1])[None]
    for layer in transformer.layers:
        x = layer(x, attention_mask=None, position_ids=positions)[0]
    return x


def decode(model: MimiModel, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Quantised latents (B, H, T) -> waveform (B, 1920 T), and the transformer's output (B, 2T, H)."""
    layers = model.decoder.layers
    hidden = transform(model.decoder_transformer, model.upsample(latents).transpose(1, 2))
    x = hidden.transpose(1, 2)
    for layer in layers[:-4]:
        x = layer(x)
    out, last = layers[-4].conv, layers[-1].conv
    stride = out.stride[0]
    with torch.autocast("cpu", enabled=False):  # quiet passages need the precision
        x = F.conv_transpose1d(x.float(), out.weight[:, :OPEN], out.bias[:OPEN], stride)[..., : x.shape[-1] * stride]
        return (F.elu(x) * last.weight[0, :OPEN, -1:]).sum(1), hidden
