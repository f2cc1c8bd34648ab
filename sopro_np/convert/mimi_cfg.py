"""Mimi's config.json: the fields with their defaults, every value checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sopro_np.errors import ConvertError

DEFAULTS: dict[str, Any] = {
    "sampling_rate": 24000, "audio_channels": 1, "hidden_size": 512, "num_filters": 64, "num_residual_layers": 1,
    "upsampling_ratios": [8, 6, 5, 4], "kernel_size": 7, "last_kernel_size": 3, "residual_kernel_size": 3,
    "dilation_growth_rate": 2, "use_causal_conv": True, "pad_mode": "constant", "compress": 2,
    "trim_right_ratio": 1.0, "codebook_size": 2048, "codebook_dim": 256, "num_quantizers": 32,
    "num_semantic_quantizers": 1, "use_conv_shortcut": False, "vector_quantization_hidden_dimension": 256,
    "upsample_groups": 512, "num_hidden_layers": 8, "intermediate_size": 2048, "num_attention_heads": 8,
    "num_key_value_heads": 8, "head_dim": None, "hidden_act": "gelu", "norm_eps": 1e-5, "rope_theta": 10000.0,
    "sliding_window": 250, "max_position_embeddings": 8000, "attention_bias": False,
}  # fmt: skip
# What a table or a list is made of before a tensor could contradict it; everything else: 2^24.
LARGEST = {
    "max_position_embeddings": 1 << 16, "num_hidden_layers": 1 << 10, "num_quantizers": 1 << 10,
    "num_residual_layers": 1 << 10, "num_attention_heads": 1 << 10, "dilation_growth_rate": 16,
}  # fmt: skip
FIXED = {
    "audio_channels": 1, "use_causal_conv": True, "pad_mode": "constant", "trim_right_ratio": 1.0,
    "hidden_act": "gelu", "attention_bias": False,
}  # fmt: skip
NULLABLE = ("upsampling_ratios", "codebook_dim")  # null stands for a default
ROPE = ("rope_parameters", "rope_scaling")  # the newer name and the older one
# What transformers writes into any config.json, and Mimi keys that do not change the numbers.
HARMLESS = {
    "architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "_frame_rate",
    "frame_rate", "frame_size", "initializer_range", "layer_scale_initial_scale", "attention_dropout",
    "use_cache", "use_streaming", "return_dict", "output_hidden_states", "output_attentions", "normalize",
    "id2label", "label2id", "_attn_implementation", "tie_word_embeddings",
    "chunk_length_s", "overlap", "is_encoder_decoder", "pad_token_id", "bos_token_id", "eos_token_id",
}  # fmt: skip


def read_config(given: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """config.json -> the fields with their defaults filled in, every value checked; keys that the model ignores."""
    if not isinstance(given, dict):
        raise ConvertError(f"{path}: not a JSON object")
    c = {**DEFAULTS, **{k: v for k, v in given.items() if k in DEFAULTS and (v is not None or k not in NULLABLE)}}
    if "codebook_dim" in given and given["codebook_dim"] is None:
        c["codebook_dim"] = c["hidden_size"]
    for key in ROPE:
        c["rope_theta"] = _rope_theta(given.get(key) or {}, path, c["rope_theta"])
    for key, wanted in FIXED.items():
        if c[key] != wanted:
            raise ConvertError(f"{path}: {key} = {c[key]!r} is not supported (only {wanted!r})")
    for key, default in DEFAULTS.items():
        value = c[key]
        if isinstance(default, list):
            good = isinstance(value, list) and all(type(r) is int and 1 <= r <= 4096 for r in value)
            good = good and 1 <= len(value) <= 16
        elif isinstance(default, bool):
            good = isinstance(value, bool)
        elif isinstance(default, float):
            good = type(value) in (int, float) and 0 < value <= 1e6
        elif isinstance(default, int) and key != "sliding_window":
            good = type(value) is int and 1 <= value <= LARGEST.get(key, 1 << 24)
        else:
            good = True
        if not good:
            raise ConvertError(f"{path}: {key} has the unusable value {value!r:.80}")
    if c["head_dim"] is None:
        c["head_dim"] = c["hidden_size"] // c["num_attention_heads"]
    if type(c["head_dim"]) is not int or not 2 <= c["head_dim"] <= c["hidden_size"] or c["head_dim"] % 2:
        raise ConvertError(f"{path}: head_dim = {c['head_dim']!r:.80} must be even and at most hidden_size")
    if c["num_attention_heads"] % c["num_key_value_heads"]:
        raise ConvertError(f"{path}: num_attention_heads must be a multiple of num_key_value_heads")
    if c["num_semantic_quantizers"] >= c["num_quantizers"]:
        raise ConvertError(f"{path}: num_semantic_quantizers must be less than num_quantizers")
    return c, sorted(set(given) - set(DEFAULTS) - HARMLESS - set(ROPE))


def _rope_theta(rope: Any, path: Path, default: Any) -> Any:
    """From `rope_parameters`, where newer versions of transformers write it; only the plain rotation is done here."""
    plain = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
    if not isinstance(rope, dict) or any(rope.get(key) not in (None, value) for key, value in plain.items()):
        raise ConvertError(f"{path}: rope_scaling and rope_parameters other than the default type are not supported")
    if unknown := sorted(set(rope) - set(plain) - {"rope_theta"}):
        raise ConvertError(f"{path}: rope_parameters with {', '.join(unknown)} are not supported")
    return default if rope.get("rope_theta") is None else rope["rope_theta"]
