"""A Mimi checkpoint in transformers' format (config.json + model.safetensors) -> planned part `mimi`.

Folded here: codebook rows divided by their usage, grouped keys and values repeated per head, transposed
convolutions laid out as products over [x[t-m+1], ..., x[t]], rotary tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.convert.mimi_cfg import read_config
from sopro_np.convert.plan import Part, Planner, Producer
from sopro_np.convert.source import open_source, read_json, weight_files
from sopro_np.errors import ConvertError

LAYER = {
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "attention.out": "self_attn.o_proj",
    "ff_in": "mlp.fc1", "ff_out": "mlp.fc2",
}  # fmt: skip


def plan_mimi(path: Path, drop: tuple[str, ...] = ()) -> Part:
    """Folder with config.json and the weights (or a weight file, or the index of several, beside it) -> part.

    As `from_pretrained`: config keys and tensors that the model does not know are passed over. Missing tensors, which
    it would fill at random, are an error.
    """
    weights = weight_files(path)[0]
    config_file = weights.parent / "config.json"
    c, unknown = read_config(read_json(config_file), config_file)
    source = open_source(weights)
    if "upsample.conv.weight" not in source:
        raise ConvertError(f"{weights}: not a Mimi checkpoint (no tensor upsample.conv.weight)")
    part = Part("mimi", path, source.files, original_config=config_file.read_text("utf-8"))
    plan = Planner(source, part)
    h = c["hidden_size"]
    stride = _plan_resampling(plan, c)
    _plan_encoder(plan, c)
    _plan_decoder(plan, c)
    head_dim = c["head_dim"]
    for side in ("encoder", "decoder"):
        for i in range(c["num_hidden_layers"]):
            _plan_layer(plan, f"{side}_transformer.{i}", f"{side}_transformer.layers.{i}", c, head_dim)
    cos, sin = rope_tables(c["max_position_embeddings"], head_dim, float(c["rope_theta"]))
    plan.vector("rope.cos", cos)
    plan.vector("rope.sin", sin)
    code_width = _plan_quantizers(plan, c)
    part.config = {
        "sample_rate": c["sampling_rate"], "width": h, "ratios": c["upsampling_ratios"],
        "residual_layers": c["num_residual_layers"], "dilation_growth": c["dilation_growth_rate"],
        "layers": c["num_hidden_layers"], "heads": c["num_attention_heads"], "norm_eps": float(c["norm_eps"]),
        "codebooks": c["num_quantizers"], "semantic_codebooks": c["num_semantic_quantizers"],
        "code_values": c["codebook_size"], "code_width": code_width, "frame_stride": stride,
    }  # fmt: skip
    part.dropped, others = source.rest(drop)
    part.passed_over = {"config": unknown, "tensors": others}
    part.sources["mimi"] = {"file": weights.name, "sha256": source.sha256()}
    return part


# ---------------------------------------------------------------- convolutions


def _conv(plan: Planner, name: str, old: str, out: int, inputs: int, taps: int, bias: bool = True) -> None:
    """(out, in, K) -> rows (out, K*in), tap-major."""
    plan.source.shape(f"{old}.weight", out, inputs, taps)

    def produce(a: int, b: int) -> np.ndarray:
        return plan.source.rows(f"{old}.weight", a, b).transpose(0, 2, 1).reshape(b - a, taps * inputs)

    plan.matrix(f"{name}.weight", f"{old}.weight", out, inputs, produce, taps)
    if bias:
        plan.copy(f"{name}.bias", f"{old}.bias", out)


def phases(w: np.ndarray, stride: int) -> np.ndarray:
    """Kernel of a transposed convolution by output phase. w (..., k) -> (stride, ..., m), oldest input first.

    Phase j of input row t takes w[j + i*stride] from row t - i; a kernel that is no multiple of the stride is
    filled up with zeros.
    """
    m = -(-w.shape[-1] // stride)
    padded = np.zeros((*w.shape[:-1], m * stride), np.float32)
    padded[..., : w.shape[-1]] = w
    by_age = padded.reshape(*w.shape[:-1], m, stride)[..., ::-1, :]
    return np.moveaxis(by_age, -1, 0)


def _transposed(plan: Planner, name: str, old: str, out: int, inputs: int, stride: int) -> None:
    """(in, out, 2*stride) -> rows (stride*out, 2*in)."""
    taps = 2
    plan.source.shape(f"{old}.weight", inputs, out, taps * stride)

    def produce(a: int, b: int) -> np.ndarray:
        w = phases(plan.source.whole(f"{old}.weight"), stride)  # (stride, in, out, m)
        return w.transpose(0, 2, 3, 1).reshape(stride * out, taps * inputs)[a:b]

    plan.matrix(f"{name}.weight", f"{old}.weight", stride * out, inputs, produce, taps)
    plan.copy(f"{name}.bias", f"{old}.bias", out)


def _residual(plan: Planner, name: str, old: str, width: int, c: dict[str, Any]) -> None:
    inner = width // c["compress"]
    _conv(plan, f"{name}.conv.0", f"{old}.block.1.conv", inner, width, c["residual_kernel_size"])
    _conv(plan, f"{name}.conv.1", f"{old}.block.3.conv", width, inner, 1)
    if c["use_conv_shortcut"]:
        _conv(plan, f"{name}.shortcut", f"{old}.shortcut.conv", width, width, 1)


def _plan_encoder(plan: Planner, c: dict[str, Any]) -> None:
    """conv 1 -> F; per ratio residual blocks and a strided conv that doubles the width; conv -> H."""
    width = c["num_filters"]
    _conv(plan, "encoder.0", "encoder.layers.0.conv", width, 1, c["kernel_size"])
    number = 1
    for ratio in reversed(c["upsampling_ratios"]):
        for _ in range(c["num_residual_layers"]):
            _residual(plan, f"encoder.{number}", f"encoder.layers.{number}", width, c)
            number += 1
        number += 1  # the ELU
        _conv(plan, f"encoder.{number}", f"encoder.layers.{number}.conv", 2 * width, width, 2 * ratio)
        width, number = 2 * width, number + 1
    number += 1
    last = f"encoder.layers.{number}.conv"
    _conv(plan, f"encoder.{number}", last, c["hidden_size"], width, c["last_kernel_size"])


def _plan_decoder(plan: Planner, c: dict[str, Any]) -> None:
    """conv H -> 16 F; per ratio a transposed conv that halves the width and residual blocks; conv -> 1."""
    width = c["num_filters"] << len(c["upsampling_ratios"])
    _conv(plan, "decoder.0", "decoder.layers.0.conv", width, c["hidden_size"], c["kernel_size"])
    number = 1
    for ratio in c["upsampling_ratios"]:
        number += 1  # the ELU
        _transposed(plan, f"decoder.{number}", f"decoder.layers.{number}.conv", width // 2, width, ratio)
        width, number = width // 2, number + 1
        for _ in range(c["num_residual_layers"]):
            _residual(plan, f"decoder.{number}", f"decoder.layers.{number}", width, c)
            number += 1
    number += 1
    _conv(plan, f"decoder.{number}", f"decoder.layers.{number}.conv", 1, width, c["last_kernel_size"])


def _plan_resampling(plan: Planner, c: dict[str, Any]) -> int:
    """The two convolutions between 25 Hz and the frame rate; returns their stride.

    Both have kernel 2*stride, so the stride is read off the weights.
    """
    h = c["hidden_size"]
    taps = plan.source.shape("downsample.conv.weight", h, h, None)[2]
    if taps % 2:
        path = plan.source.path
        raise ConvertError(f"{path}: downsample.conv.weight has {taps} taps; twice the stride was expected")
    stride = taps // 2
    _conv(plan, "downsample", "downsample.conv", h, h, taps, bias=False)
    w = plan.source.whole("upsample.conv.weight", h, None, 2 * stride)
    if w.shape[1] != 1 or c["upsample_groups"] != h:
        raise ConvertError(
            f"{plan.source.path}: upsample.conv.weight with upsample_groups = {c['upsample_groups']} is not "
            "supported: every channel must be its own group"
        )
    plan.vector("upsample.weight", phases(w[:, 0], stride).reshape(stride * h, 2))
    return stride


# ---------------------------------------------------------------- transformer, quantizer


def _plan_layer(plan: Planner, name: str, old: str, c: dict[str, Any], head_dim: int) -> None:
    h, f = c["hidden_size"], c["intermediate_size"]
    heads, shared = c["num_attention_heads"], c["num_key_value_heads"]
    inner = heads * head_dim
    sizes = {
        "attention.query": (inner, h), "attention.out": (h, inner), "ff_in": (f, h), "ff_out": (h, f),
    }  # fmt: skip
    for new, module in LAYER.items():
        old_name = f"{old}.{module}.weight"
        if new in sizes:
            plan.matrix_copy(f"{name}.{new}.weight", old_name, *sizes[new])
        else:
            plan.source.shape(old_name, shared * head_dim, h)
            produce = _repeat_heads(plan, old_name, shared, heads, head_dim)
            plan.matrix(f"{name}.{new}.weight", old_name, inner, h, produce)
    for i, norm in ((1, "input_layernorm"), (2, "post_attention_layernorm")):
        plan.copy(f"{name}.norm{i}.weight", f"{old}.{norm}.weight", h)
        plan.copy(f"{name}.norm{i}.bias", f"{old}.{norm}.bias", h)
    plan.copy(f"{name}.scale1", f"{old}.self_attn_layer_scale.scale", h)
    plan.copy(f"{name}.scale2", f"{old}.mlp_layer_scale.scale", h)


def _repeat_heads(plan: Planner, old_name: str, shared: int, heads: int, head_dim: int) -> Producer:
    def produce(a: int, b: int) -> np.ndarray:
        if shared == heads:
            return plan.source.rows(old_name, a, b)
        w = plan.source.whole(old_name).reshape(shared, head_dim, -1)
        return np.repeat(w, heads // shared, axis=0).reshape(heads * head_dim, -1)[a:b]

    return produce


def _plan_quantizers(plan: Planner, c: dict[str, Any]) -> int:
    """Projections and codebooks; returns the length of a codebook row."""
    h, code_width, v = c["hidden_size"], c["codebook_dim"], c["codebook_size"]
    semantic = c["num_semantic_quantizers"]
    inner = c["vector_quantization_hidden_dimension"]
    if inner == h and code_width != h:
        raise ConvertError(f"codebook_dim = {code_width} must equal hidden_size = {h} where there is no projection")
    for kind, count in (("semantic", semantic), ("acoustic", c["num_quantizers"] - semantic)):
        old = f"quantizer.{kind}_residual_vector_quantizer"
        if inner != h:  # as the original decides
            _conv(plan, f"quantizer.{kind}.input", f"{old}.input_proj", code_width, h, 1, bias=False)
            _conv(plan, f"quantizer.{kind}.output", f"{old}.output_proj", h, code_width, 1, bias=False)
        for j in range(count):
            book = f"{old}.layers.{j}.codebook"
            plan.source.shape(f"{book}.embed_sum", v, code_width)
            plan.source.shape(f"{book}.cluster_usage", v)
            plan.source.ignore(f"{book}.initialized")
            plan.matrix(f"quantizer.{kind}.codebook.{j}", f"{book}.embed_sum", v, code_width, _codebook(plan, book))
    return int(code_width)


def _codebook(plan: Planner, book: str) -> Producer:
    """Rows of embed_sum / max(usage, 1e-5)."""

    def produce(a: int, b: int) -> np.ndarray:
        usage = np.maximum(plan.source.rows(f"{book}.cluster_usage", a, b), np.float32(1e-5))
        return plan.source.rows(f"{book}.embed_sum", a, b) / usage[:, None]

    return produce


def rope_tables(positions: int, head_dim: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of p * theta^(-2i/d) -> two (P, d/2); power, reciprocal and angle rounded to float32, as in torch."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = np.float32(1) / np.power(theta, exponent.astype(np.float64)).astype(np.float32)
    angle = (np.arange(positions, dtype=np.float32)[:, None] * frequency).astype(np.float64)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
