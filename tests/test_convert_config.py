"""Config values of a source: each unusable one is refused, before it can reserve memory or fail in a load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from test_convert_refuses import each_source, refused, run

HUGE = (-1, 2**31, 2**64, 10**400, 1.5, "7", None, True, [], {})
SIZES = ("d_model", "num_codebooks", "codebook_size", "n_layers_ar", "ar_text_attn_freq")
BAD_SOPRO = [
    *((key, value) for key in SIZES for value in (0, *HUGE)),
    *((key, value) for key in ("pos_emb_max", "max_text_len") for value in HUGE),
    *(("mimi_fps", v) for v in (0, -1, float("nan"), float("inf"), 1e300, "a", True)),
    *(("stage_B", v) for v in ([], [2], [2, 3, 4], [3, 9], [2, 10**9], "23", [2.0, 3], [2, 7])),
    *(("ar_dilation_cycle", v) for v in ([], [0], [-1], [2**40], [1.5], 3)),
]
SIZES = (
    "hidden_size",
    "num_filters",
    "codebook_size",
    "codebook_dim",
    "num_quantizers",
    "num_attention_heads",
)
BAD_MIMI = [
    *((key, value) for key in SIZES for value in (0, *HUGE)),
    *(("head_dim", v) for v in (0, 7, -8, 2**40, "8", 8.0)),
    *(("upsampling_ratios", v) for v in ([], [0], [8, 6, 5, 3], [4096] * 4, [1] * 1000, "8654", [8.0])),
    *(("rope_theta", v) for v in (0, -1, float("nan"), float("inf"), "x", True)),
    *(("norm_eps", v) for v in (0, -1, float("nan"), "x", [])),
    *(("max_position_embeddings", v) for v in (0, -1, 2**30, "x")),
    *(("use_causal_conv", v) for v in (False, "yes")),
    *(("num_semantic_quantizers", v) for v in (0, 8, 99)),
    ("num_key_value_heads", 3), ("hidden_act", "relu"), ("audio_channels", 2), ("use_conv_shortcut", True),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD_SOPRO, ids=lambda v: str(v)[:24])
def test_bad_sopro_config(key: str, value: object, tmp_path: Path) -> None:
    refused(tiny.source("v1").cfg(**{key: value}), "sopro", tmp_path)


@pytest.mark.parametrize(("key", "value"), BAD_MIMI, ids=lambda v: str(v)[:24])
def test_bad_mimi_config(key: str, value: object, tmp_path: Path) -> None:
    refused(tiny.source("v1", "mimi").cfg(**{key: value}), "mimi", tmp_path)


@each_source
def test_unknown_config_keys(arch: str, part: str, tmp_path: Path) -> None:
    """Passed over with a warning; with strict an error, unless they were allowed. Kept verbatim in the file."""
    source = tiny.source(arch, part).cfg(new_feature=1)
    with pytest.warns(UserWarning, match=r"1 config key unknown to the model: new_feature; .*--strict refuses"):
        _, metadata, _ = tiny.header(run(source, part, tmp_path / "a"))
    assert json.loads(metadata["cfg" if part == "sopro" else "mimi_config"])["new_feature"] == 1, "kept"
    refused(source, part, tmp_path / "b", "new_feature", "--allow-unknown-config", strict=True)
    with pytest.warns(UserWarning, match="new_feature"):
        run(source, part, tmp_path / "c", strict=True, allow_unknown_config=True)


def test_a_missing_config(tmp_path: Path) -> None:
    source = tiny.source("v1")
    source.metadata = {}
    refused(source, "sopro", tmp_path, "cfg", "config.json")
    for text in ("", "[]", "{", "[" * 10**5, "null", '"x"'):
        source.metadata = {"cfg": text}
        refused(source, "sopro", tmp_path, "cfg")
    (tmp_path / "sopro" / "config.json").write_text(tiny.source("v1").metadata["cfg"])
    source.metadata = {}
    assert run(source, "sopro", tmp_path).is_file()
