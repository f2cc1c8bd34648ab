"""A random Mimi codec in the layout of transformers' `save_pretrained` (`MimiModel`).

`full` and `published` are the published Kyutai configuration; `tiny` keeps 24 kHz and 1920 samples (80 ms) per frame,
with little width. Every strided layer is Xavier-scaled for the taps that really meet, so that speech at -20 dBFS
gives latents of unit scale and codes give a waveform with a peak of 0.05 to 0.5.
"""

# ruff: noqa: C408 (keyword form keeps the configurations legible)

from __future__ import annotations

from typing import Any

import numpy as np

from .tensors import BIAS, NORM, Draw, Plan, Shape, normal, ones, under, uniform, xavier

Config = dict[str, Any]

_FULL: Config = dict(
    _frame_rate=None, architectures=["MimiModel"], attention_bias=False, attention_dropout=0.0,
    audio_channels=1, codebook_dim=256, codebook_size=2048, compress=2, dilation_growth_rate=2,
    dtype="float32", head_dim=64, hidden_act="gelu", hidden_size=512, initializer_range=0.02,
    intermediate_size=2048, kernel_size=7, last_kernel_size=3, layer_scale_initial_scale=0.01,
    max_position_embeddings=8000, model_type="mimi", norm_eps=1e-5, num_attention_heads=8, num_filters=64,
    num_hidden_layers=8, num_key_value_heads=8, num_quantizers=32, num_residual_layers=1,
    num_semantic_quantizers=1, pad_mode="constant", residual_kernel_size=3, rope_theta=10000.0,
    sampling_rate=24000, sliding_window=250, transformers_version="4.57.1", trim_right_ratio=1.0,
    upsample_groups=512, upsampling_ratios=[8, 6, 5, 4], use_cache=False, use_causal_conv=True,
    use_conv_shortcut=False, use_streaming=False, vector_quantization_hidden_dimension=256,
)  # fmt: skip
_TINY: Config = dict(
    codebook_dim=16, codebook_size=64, head_dim=8, hidden_size=32, intermediate_size=64,
    num_attention_heads=4, num_filters=4, num_hidden_layers=2, num_key_value_heads=4, num_quantizers=8,
    upsample_groups=32, vector_quantization_hidden_dimension=16,
)  # fmt: skip

INPUT_GAIN = 6.0  # speech has an RMS near 0.1 and neighbouring samples that cancel in a random filter
OUTPUT_GAIN = 0.025
GAIN = 1.3  # makes up for what ELU takes away
# Codebook against latents: so small that the nearest entry is the one of like direction, not the shortest.
CODE_SCALE = 0.4


def config(size: str, dtype: str) -> Config:
    """Contents of config.json."""
    return _FULL | (_TINY if size == "tiny" else {}) | {"dtype": "float16" if dtype == "f16" else "float32"}


def plan(cfg: Config, rng: np.random.Generator) -> Plan:
    """Every tensor of the codec; `rng` draws the codebook usages, which two tensors of a codebook share."""
    hidden = cfg["hidden_size"]
    out = _encoder(cfg) | _decoder(cfg)
    out["downsample.conv.weight"] = ((hidden, hidden, 4), xavier())
    out["upsample.conv.weight"] = ((hidden, 1, 4), normal(0.7))  # one filter per channel, two taps meet
    for side in ("encoder_transformer", "decoder_transformer"):
        for i in range(cfg["num_hidden_layers"]):
            out |= _transformer_layer(f"{side}.layers.{i}", cfg)
    semantic = cfg["num_semantic_quantizers"]
    out |= _quantizer("semantic", semantic, cfg, rng)
    out |= _quantizer("acoustic", cfg["num_quantizers"] - semantic, cfg, rng)
    return out


def _conv(name: str, out: int, into: int, taps: int, gain: float = GAIN) -> Plan:
    return {name + ".conv.weight": ((out, into, taps), xavier(gain)), name + ".conv.bias": ((out,), BIAS)}


def _residual(name: str, width: int, cfg: Config) -> Plan:
    inner = width // cfg["compress"]
    first = _conv(f"{name}.block.1", inner, width, cfg["residual_kernel_size"])
    return first | _conv(f"{name}.block.3", width, inner, 1, gain=0.7)


def _encoder(cfg: Config) -> Plan:
    """SEANet encoder: layer numbers count ELUs too, as in the original module list."""
    width = cfg["num_filters"]
    out = _conv("encoder.layers.0", width, 1, cfg["kernel_size"], gain=INPUT_GAIN)
    layer = 1
    for ratio in reversed(cfg["upsampling_ratios"]):
        out |= _residual(f"encoder.layers.{layer}", width, cfg)
        out |= _conv(f"encoder.layers.{layer + 2}", 2 * width, width, 2 * ratio)
        width, layer = 2 * width, layer + 3
    return out | _conv(f"encoder.layers.{layer + 1}", cfg["hidden_size"], width, cfg["last_kernel_size"])


def _decoder(cfg: Config) -> Plan:
    """SEANet decoder; a transposed weight is (in, out, taps) and two taps of each filter meet in a sample."""
    ratios = cfg["upsampling_ratios"]
    width = cfg["num_filters"] * 2 ** len(ratios)
    out = _conv("decoder.layers.0", width, cfg["hidden_size"], cfg["kernel_size"])
    layer = 1
    for ratio in ratios:
        weight = (width, width // 2, 2 * ratio)
        out[f"decoder.layers.{layer + 1}.conv.weight"] = (weight, normal(GAIN / (2 * width) ** 0.5))
        out[f"decoder.layers.{layer + 1}.conv.bias"] = ((width // 2,), BIAS)
        width //= 2
        out |= _residual(f"decoder.layers.{layer + 2}", width, cfg)
        layer += 3
    last: Plan = _conv(f"decoder.layers.{layer + 1}", 1, width, cfg["last_kernel_size"], gain=OUTPUT_GAIN)
    last[f"decoder.layers.{layer + 1}.conv.bias"] = ((1,), normal(0.001))  # next to no offset
    return out | last


def _transformer_layer(name: str, cfg: Config) -> Plan:
    hidden, inner = cfg["hidden_size"], cfg["intermediate_size"]
    width = cfg["num_attention_heads"] * cfg["head_dim"]
    out: Plan = {"mlp.fc1.weight": ((inner, hidden), xavier())}
    out["mlp.fc2.weight"] = ((hidden, inner), xavier(1.5))
    for part in ("q_proj", "k_proj", "v_proj"):
        out[f"self_attn.{part}.weight"] = ((width, hidden), xavier())
    out["self_attn.o_proj.weight"] = ((hidden, width), xavier(1.5))
    for norm in ("input_layernorm", "post_attention_layernorm"):
        out |= {norm + ".weight": ((hidden,), NORM), norm + ".bias": ((hidden,), BIAS)}
    for scale in ("self_attn_layer_scale", "mlp_layer_scale"):
        out[scale + ".scale"] = ((hidden,), uniform(0.1, 0.5))
    return under(name + ".", out)


def _quantizer(kind: str, layers: int, cfg: Config, rng: np.random.Generator) -> Plan:
    """A residual quantizer whose codebooks shrink from layer to layer, stored as running sums and usages."""
    hidden, inner = cfg["hidden_size"], cfg["vector_quantization_hidden_dimension"]
    out: Plan = {}
    if hidden != inner:
        out["input_proj.weight"] = ((inner, hidden, 1), xavier())
        out["output_proj.weight"] = ((hidden, inner, 1), xavier())
    for i in range(layers):
        usage = rng.uniform(0.5, 2.0, (cfg["codebook_size"],)).astype(np.float32)
        usage[rng.choice(usage.size, usage.size // 64, replace=False)] = 0.0  # never used in training
        out |= under(
            f"layers.{i}.codebook.",
            {"initialized": ((1,), ones), "cluster_usage": (usage.shape, _constant(usage))},
            {"embed_sum": ((usage.size, cfg["codebook_dim"]), _sums(usage, CODE_SCALE * 0.95**i))},
        )
    return under(f"quantizer.{kind}_residual_vector_quantizer.", out)


def _constant(values: np.ndarray) -> Draw:
    return lambda rng, shape: values


def _sums(usage: np.ndarray, std: float) -> Draw:
    """Codebook * usage: the reader divides by max(usage, 1e-5), so an unused row must be (almost) zero."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return normal(std)(rng, shape) * np.maximum(usage, 1e-5)[:, None]

    return draw
