"""Upstream's `cfg`: the fields of both generations with their defaults, every value checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sopro_np.errors import ConvertError

COMMON: dict[str, Any] = {
    "num_codebooks": 32, "codebook_size": 2048, "mimi_fps": 12.5, "max_frames": 400, "audio_sr": 24000,
    "d_model": 384, "dropout": 0.05, "pos_emb_max": 4096, "max_text_len": 2048, "n_layers_ar": 6,
    "ar_kernel": 13, "ar_dilation_cycle": [1, 2, 4, 1], "ar_text_attn_freq": 2, "min_gen_frames": 12,
    "n_layers_nar": 6, "nar_head_dim": 256, "stage_B": [2, 4], "stage_C": [5, 8], "stage_D": [9, 16],
    "stage_E": [17, 32], "sv_student_dim": 192, "style_strength": 1.0,
}  # fmt: skip
ONLY: dict[str, dict[str, Any]] = {
    "v1": {
        "n_layers_text": 4, "use_stop_head": True, "stop_threshold": 0.8, "stop_patience": 5, "ar_lookback": 4,
        "ref_attn_heads": 2, "ref_seconds_max": 12.0, "preprompt_sec_max": 4.0,
    },
    "v1.5": {
        "n_layers_text": 2, "nar_kernel_size": 11, "nar_dilation_cycle": [1, 2, 4, 8], "ref_enc_layers": 2,
        "ref_xattn_heads": 2, "ref_xattn_layers": 3, "ref_xattn_gmax": 0.35,
    },
}  # fmt: skip

TEXT_HEADS = 4
# What a table or a list is made of before a tensor could contradict it; everything else: 2^24.
LARGEST = {
    "pos_emb_max": 1 << 16, "max_text_len": 1 << 16, "num_codebooks": 1 << 10, "n_layers_ar": 1 << 10,
    "n_layers_text": 1 << 10, "n_layers_nar": 1 << 10, "ref_enc_layers": 1 << 10, "ref_xattn_layers": 1 << 10,
}  # fmt: skip


def read_cfg(text: str, path: Path, generation: str) -> tuple[dict[str, Any], list[str]]:
    """Upstream's `cfg` JSON -> the fields with their defaults filled in, every value checked; the other keys."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path}: the `cfg` metadata is not valid JSON ({error})") from None
    defaults = {**COMMON, **ONLY[generation]}
    if not isinstance(given, dict):
        raise ConvertError(f"{path}: the `cfg` metadata is not a JSON object")
    cfg = {**defaults, **{k: v for k, v in given.items() if k in defaults}}
    for key, default in defaults.items():
        value = cfg[key]
        if key.startswith("stage_"):
            good = isinstance(value, list) and len(value) == 2 and all(type(v) is int and 0 <= v < 1024 for v in value)
        elif isinstance(default, list):
            good = isinstance(value, list) and value != [] and all(type(v) is int and 1 <= v <= 4096 for v in value)
        elif isinstance(default, bool):
            good = isinstance(value, bool)
        elif isinstance(default, int):
            good = type(value) is int and 0 <= value <= LARGEST.get(key, 1 << 24)
        else:
            good = type(value) in (int, float) and 0 <= value <= 1e6
        if not good:
            raise ConvertError(f"{path}: config key {key} has the unusable value {value!r:.80}")
    heads = [cfg[key] for key in ("ref_attn_heads", "ref_xattn_heads") if key in cfg] + [TEXT_HEADS]
    if cfg["d_model"] < 2 or cfg["d_model"] % 2 or any(h < 1 or cfg["d_model"] % h for h in heads):
        raise ConvertError(f"{path}: d_model = {cfg['d_model']} must be even and a multiple of the heads {heads}")
    for key in ("num_codebooks", "codebook_size", "mimi_fps", "ar_text_attn_freq", "stop_patience"):
        if cfg.get(key, 1) <= 0:
            raise ConvertError(f"{path}: config key {key} must be positive")
    return cfg, sorted(set(given) - set(defaults))
