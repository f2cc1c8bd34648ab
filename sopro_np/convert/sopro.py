"""Upstream's Sopro checkpoint, either generation -> one naming, one config, constants folded.

Everything that is a constant at run time is computed here: tanh gates, soft-maxed mixes, the FiLM of a
stage's embedding, the embedding added before a head, packed attention projections, position tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.convert.passed_over import listed
from sopro_np.convert.plan import Part, Planner, Producer
from sopro_np.convert.sopro_cfg import TEXT_HEADS, read_cfg
from sopro_np.convert.source import Source, open_source
from sopro_np.errors import ConvertError, FormatError
from sopro_np.ops import activations as maths
from sopro_np.pace import Pace

STAGES = "BCDE"
# A file with both belongs to v1.5, whose loader passes over what it does not know; v1's takes no other tensor.
GENERATIONS = {"nar.pre.weight": "v1.5", "stages.B.pre.weight": "v1"}
SPEAKER_WIDTH, ADAPTER_WIDTH = 192, 256  # constants upstream


def generation_of(tensors: Iterable[str]) -> str | None:
    """The generation of a checkpoint with these tensors."""
    names = set(tensors)
    return next((generation for name, generation in GENERATIONS.items() if name in names), None)


def plan_sopro(path: Path, drop: tuple[str, ...] = ()) -> Part:
    """Checkpoint file -> planned part `sopro`.

    As upstream's loaders: both copy only the `cfg` keys that they know, v1's takes exactly its tensors, v1.5's
    (`strict=False`) passes over others and keeps initial values where some are missing.
    """
    source = open_source(path)
    generation = generation_of(source.shapes)
    if generation is None:
        raise ConvertError(
            f"{path}: neither generation of Sopro (no tensor {' or '.join(GENERATIONS)}); "
            "a Mimi checkpoint goes to --mimi"
        )
    text = source.metadata.get("cfg")
    if text is None:
        beside = path.parent / "config.json"
        if not beside.is_file():
            raise ConvertError(f"{path}: no `cfg` in its metadata and no config.json beside it")
        text = beside.read_text("utf-8", errors="replace")  # read_cfg reports what is wrong with it
    cfg, unknown = read_cfg(text, path, generation)
    part = Part("sopro", path, source.files, original_config=text)
    plan = Planner(source, part)
    part.config = (_plan_v1 if generation == "v1" else _plan_v15)(plan, cfg)
    part.dropped, others = source.rest(drop)
    if others and generation == "v1":
        raise ConvertError(
            f"{path}: {len(others)} tensors that are not of a v1 model, whose own loader refuses them, too: "
            f"{listed(others)}; leave them out with --drop PATTERN (repeatable)"
        )
    part.speech, odd = _speech(source.metadata.get("speech"))
    part.passed_over = {"config": unknown, "tensors": others, "metadata": odd}
    part.sources["sopro"] = {"file": path.name, "sha256": source.sha256(), "generation": generation}
    return part


def _speech(text: str | None) -> tuple[dict[str, float] | None, list[str]]:
    """The pace that a trainer has measured (sopro_np/pace.py), and the entry's name if it makes no sense."""
    if text is None:
        return None, []
    try:
        speech = json.loads(text)
        Pace.read(speech, frame_rate=12.5)
    except (FormatError, ValueError, RecursionError):
        return None, ["speech"]
    return speech, []


# ---------------------------------------------------------------- the two generations


def _plan_v15(plan: Planner, cfg: dict[str, Any]) -> dict[str, Any]:
    d, v, q = cfg["d_model"], cfg["codebook_size"], cfg["num_codebooks"]
    _plan_common(plan, cfg, frame_rows=cfg["pos_emb_max"] + 8, voice_layers=cfg["ref_enc_layers"])
    initial = np.linspace(1.0, 0.1, q, dtype=np.float32)
    plan.vector("voice.code_weights", _softmax(plan.whole_or("ref_cb_weights", initial)))
    for i in range(cfg["ref_xattn_layers"]):
        _attention(plan, f"condition.attention.{i}", f"ref_xattn.blocks.{i}", d, float(cfg["ref_xattn_gmax"]), False)
    text_attention = _plan_ar(plan, cfg, codes=v + 1, packed=False)
    plan.vector("ar.history", np.ones(1))

    stages: list[list[int]] = []
    prior = plan.whole_or("nar_prev_cb_weights", np.zeros(q, np.float32))
    ranges = {letter: cfg[f"stage_{letter}"] for letter in STAGES}
    wanted = {letter: [i for i in range(lo - 1, hi) if 1 <= i < q] for letter, (lo, hi) in ranges.items()}
    wanted = {letter: books for letter, books in wanted.items() if books}
    embedding = plan.source.whole("nar.stage_emb.weight", len(wanted), d)
    plan.source.shape("nar.adapter.mlp.0.weight", ADAPTER_WIDTH, d)
    _trunk(plan, "nar.trunk", "nar", cfg)
    for s, (letter, books) in enumerate(wanted.items()):
        known = [0, *(b for stage in stages for b in stage)]
        plan.vector(f"nar.{s}.known_weights", _softmax(prior[known]))
        plan.vector(f"nar.{s}.mix", _softmax(plan.source.whole(f"nar.mix.{letter}", 2)))
        _stage_film(plan, s, embedding[s], d)
        ids = plan.source.whole(f"nar.head_id_emb.{letter}.weight", len(books), cfg["nar_head_dim"])
        _heads(plan, s, f"nar.heads.{letter}", cfg, ids)
        stages.append(books)
    return {
        **_config_common(cfg, text_attention, stages),
        "voice_layers": cfg["ref_enc_layers"], "reference_layers": cfg["ref_xattn_layers"],
        "reference_heads": cfg["ref_xattn_heads"], "attention_bias": False,
        "reference_match": "values", "reference_clamp": 10.0,
        "ar_history": 1, "ar_codes": v + 1,
        "nar_dilations": _cycle(cfg["nar_dilation_cycle"], cfg["n_layers_nar"]),
        "nar_padding": "same", "nar_trunk": "shared",
        "stop": "code", "stop_threshold": 0.0, "stop_patience": 0, "prefix_frames": 0, "reference_seconds": 12.0,
    }  # fmt: skip


def _plan_v1(plan: Planner, cfg: dict[str, Any]) -> dict[str, Any]:
    d, v, q = cfg["d_model"], cfg["codebook_size"], cfg["num_codebooks"]
    _plan_common(plan, cfg, frame_rows=cfg["pos_emb_max"] + 2, voice_layers=2)
    plan.vector("voice.code_weights", np.full(q, 1 / q))
    for i in range(3):
        _attention(plan, f"condition.attention.{i}", f"ref_xattn_stack.blocks.{i}", d, 0.35, True)
    text_attention = _plan_ar(plan, cfg, codes=v, packed=True)
    lookback = cfg["ar_lookback"]
    plan.vector("ar.history", _softmax(plan.source.whole("ar_hist_w", lookback)) if lookback else np.ones(1))
    if cfg["use_stop_head"]:
        plan.linear("stop", "stop_head.proj", 1, d)

    stages: list[list[int]] = []
    for s, letter in enumerate(STAGES):
        lo, hi = cfg[f"stage_{letter}"]
        books = list(range(lo - 1, hi))
        if not books or books[0] < 1 or books[-1] >= q:
            raise ConvertError(f"stage_{letter} = {[lo, hi]} lies outside codebooks 2..{q}")
        plan.vector(f"nar.{s}.known_weights", np.ones(1 + sum(map(len, stages))))
        plan.vector(f"nar.{s}.mix", _softmax(plan.source.whole(f"stages.{letter}.mix", 2)))
        _trunk(plan, f"nar.{s}.trunk", f"stages.{letter}", cfg)
        stages.append(books)
        _heads(plan, s, f"stages.{letter}.heads", cfg, np.zeros((len(books), cfg["nar_head_dim"]), np.float32))
    if (columns := [0, *(b for stage in stages for b in stage)]) != list(range(q)):
        raise ConvertError(f"the stages fill codebooks {columns[1:]}; v1's must fill 1..{q - 1} in order, without gaps")
    return {
        **_config_common(cfg, text_attention, stages),
        "voice_layers": 2, "reference_layers": 3, "reference_heads": cfg["ref_attn_heads"],
        "attention_bias": True, "reference_match": "output", "reference_clamp": None,
        "ar_history": max(1, lookback), "ar_codes": v,
        "nar_dilations": [1] * cfg["n_layers_nar"], "nar_padding": "causal", "nar_trunk": "own",
        "stop": "head" if cfg["use_stop_head"] else "never",
        "stop_threshold": float(cfg["stop_threshold"]), "stop_patience": cfg["stop_patience"],
        "prefix_frames": max(1, round(cfg["preprompt_sec_max"] * cfg["mimi_fps"])),
        "reference_seconds": float(cfg["ref_seconds_max"]),
    }  # fmt: skip


def _config_common(cfg: dict[str, Any], text_attention: list[int], stages: list[list[int]]) -> dict[str, Any]:
    covered = [b for stage in stages for b in stage]
    if len(set(covered)) != len(covered):
        raise ConvertError(f"the stages overlap: {stages}")
    return {
        "width": cfg["d_model"], "codebooks": cfg["num_codebooks"], "code_values": cfg["codebook_size"],
        "frame_rate": float(cfg["mimi_fps"]), "speaker_width": cfg["sv_student_dim"],
        "text_layers": cfg["n_layers_text"], "text_heads": TEXT_HEADS,
        "ar_dilations": _cycle(cfg["ar_dilation_cycle"], cfg["n_layers_ar"]),
        "ar_text_attention": text_attention, "stages": stages,
        "min_gen_frames": cfg["min_gen_frames"], "style_strength": float(cfg["style_strength"]),
    }  # fmt: skip


# ---------------------------------------------------------------- pieces


def _plan_common(plan: Planner, cfg: dict[str, Any], frame_rows: int, voice_layers: int) -> None:
    d, q, v = cfg["d_model"], cfg["num_codebooks"], cfg["codebook_size"]
    plan.matrix_copy("text.embed.weight", "text_enc.embed.emb.weight", None, d)
    plan.vector("text.positions", sinusoid(cfg["max_text_len"] + 8, d))
    for i in range(cfg["n_layers_text"]):
        plan.conv_block(f"text.blocks.{i}", f"text_enc.layers.{i}", d)
    plan.copy("text.norm.weight", "text_enc.norm.weight", d)
    plan.matrix_copy("codes.weight", "cb_embed.emb.weight", q * v + 1, d)

    speaker, width = "voice.speaker", SPEAKER_WIDTH
    plan.matrix_copy(f"{speaker}.embed.weight", "token2sv.emb.weight", q * v, width)
    plan.vector(f"{speaker}.code_weights", _softmax(plan.source.whole("token2sv.cb_weights", q)))
    plan.depthwise(f"{speaker}.conv.0", "token2sv.enc.0.dw", width)
    plan.depthwise(f"{speaker}.conv.1", "token2sv.enc.3.dw", width)
    plan.linear(f"{speaker}.pool.hidden", "token2sv.pool.attn.0", width, width)
    plan.linear(f"{speaker}.pool.score", "token2sv.pool.attn.2", 1, width)
    plan.linear(f"{speaker}.out", "token2sv.proj", cfg["sv_student_dim"], 2 * width)
    for i in range(voice_layers):
        plan.conv_block(f"voice.blocks.{i}", f"ref_enc_blocks.{i}", d)
    plan.copy("voice.norm.weight", "ref_enc_norm.weight", d)

    plan.vector("condition.positions", sinusoid(frame_rows, d))
    plan.linear("condition.film.hidden", "spk_film.mlp.0", d, cfg["sv_student_dim"])
    plan.linear("condition.film.out", "spk_film.mlp.2", 2 * d, d)
    for name in ("weight", "bias"):
        plan.copy(f"condition.film.norm.{name}", f"spk_film.norm.{name}", d)
    plan.copy("condition.norm.weight", "cond_norm.weight", d)


def _plan_ar(plan: Planner, cfg: dict[str, Any], codes: int, packed: bool) -> list[int]:
    """Blocks, text attention, head; returns the blocks that are followed by attention."""
    d, frequency = cfg["d_model"], cfg["ar_text_attn_freq"]
    attended = [i for i in range(cfg["n_layers_ar"]) if (i + 1) % frequency == 0]
    for i in range(cfg["n_layers_ar"]):
        plan.conv_block(f"ar.blocks.{i}", f"ar.blocks.{i}", d, cfg["ar_kernel"])
    for i in attended:
        _attention(plan, f"ar.attention.{i}", f"ar.x_attns.{i}", d, 1.0, packed)
    plan.copy("ar.norm.weight", "ar.norm.weight", d)
    plan.linear("ar.head", "ar.head", codes, d)
    return attended


def _attention(plan: Planner, name: str, old: str, d: int, gmax: float, packed: bool) -> None:
    """Cross attention; `packed`: one in_proj of q, k, v with biases. The gate becomes gmax * tanh(gate)."""
    source = plan.source
    plan.copy(f"{name}.norm_query.weight", f"{old}.nq.weight", d)
    plan.copy(f"{name}.norm_memory.weight", f"{old}.nkv.weight", d)
    gate = source.whole(f"{old}.gate").astype(np.float64)
    if gate.shape not in ((), (1,)):
        raise ConvertError(f"{source.path}: tensor {old}.gate has shape {gate.shape}, one number was expected")
    plan.vector(f"{name}.gate", gmax * np.tanh(gate.reshape(1)))
    if not packed:
        for new, short in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out")):
            plan.linear(f"{name}.{new}", f"{old}.{short}_proj", d, d, bias=False)
        return
    source.shape(f"{old}.attn.in_proj_weight", 3 * d, d)
    bias = source.whole(f"{old}.attn.in_proj_bias", 3 * d)
    for i, new in enumerate(("query", "key", "value")):
        whole = f"{old}.attn.in_proj_weight"
        plan.matrix(f"{name}.{new}.weight", whole, d, d, _slice(source, whole, i * d))
        plan.vector(f"{name}.{new}.bias", bias[i * d : (i + 1) * d])
    plan.linear(f"{name}.out", f"{old}.attn.out_proj", d, d)


def _slice(source: Source, name: str, offset: int) -> Producer:
    return lambda a, b: source.rows(name, offset + a, offset + b)


def _trunk(plan: Planner, name: str, old: str, cfg: dict[str, Any]) -> None:
    d = cfg["d_model"]
    for i in range(cfg["n_layers_nar"]):
        plan.conv_block(f"{name}.blocks.{i}", f"{old}.blocks.{i}", d, cfg.get("nar_kernel_size", 7))
    plan.copy(f"{name}.norm.weight", f"{old}.norm.weight", d)
    plan.linear(f"{name}.pre", f"{old}.pre", cfg["nar_head_dim"], d)


def _stage_film(plan: Planner, s: int, embedding: np.ndarray, d: int) -> None:
    """The adapter's MLP sees only a constant: x = norm(x) * (1 + tanh g) + tanh b, with g, b computed here."""
    w1 = plan.source.whole("nar.adapter.mlp.0.weight", None, d).astype(np.float64)
    w2 = plan.source.whole("nar.adapter.mlp.2.weight", 2 * d, len(w1)).astype(np.float64)
    hidden = maths.gelu(w1 @ embedding + plan.source.whole("nar.adapter.mlp.0.bias", len(w1)))
    g, b = np.split(np.tanh(w2 @ hidden + plan.source.whole("nar.adapter.mlp.2.bias", 2 * d)), 2)
    plan.vector(f"nar.{s}.gain", plan.source.whole("nar.adapter.norm.weight", d) * (1 + g))
    plan.vector(f"nar.{s}.shift", b)


def _heads(plan: Planner, s: int, old: str, cfg: dict[str, Any], ids: np.ndarray) -> None:
    """All heads of a stage stacked to one matrix; W (z + id) + b becomes W z + (b + W id)."""
    v, h = cfg["codebook_size"], cfg["nar_head_dim"]
    for j in range(len(ids)):
        plan.source.shape(f"{old}.{j}.weight", v, h)

    def produce(a: int, b: int) -> np.ndarray:
        pieces = []
        while a < b:
            j, row = divmod(a, v)
            end = min(v, row + b - a)
            pieces.append(plan.source.rows(f"{old}.{j}.weight", row, end))
            a += end - row
        return np.concatenate(pieces)

    plan.matrix(f"nar.{s}.heads.weight", f"{old}.*.weight", len(ids) * v, h, produce)
    plan.vector(
        f"nar.{s}.heads.bias",
        np.concatenate(
            [
                plan.source.whole(f"{old}.{j}.bias", v) + plan.source.whole(f"{old}.{j}.weight") @ ids[j]
                for j in range(len(ids))
            ]
        ),
    )


def sinusoid(rows: int, width: int) -> np.ndarray:
    """pe[p, 2i] = sin(p f_i), pe[p, 2i+1] = cos(p f_i), f_i = 10000^(-2i/width).

    Rounded where torch rounds: the exponent's argument and p*f_i to float32, exp itself in float64. Everything
    in float64 differs from the trained tables by 5e-4 at position 4095.
    """
    step = np.float32(-math.log(10000.0) / width)
    exponent = (np.arange(0, width, 2, dtype=np.float32) * step).astype(np.float64)
    frequency = np.exp(exponent).astype(np.float32)
    angle = (np.arange(rows, dtype=np.float32)[:, None] * frequency).astype(np.float64)
    table = np.empty((rows, width), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle)
    return table


def _softmax(x: np.ndarray) -> np.ndarray:
    return maths.softmax(x.astype(np.float64))


def _cycle(cycle: list[int], n: int) -> list[int]:
    """Repeat and truncate to n."""
    return [cycle[i % len(cycle)] for i in range(n)]
