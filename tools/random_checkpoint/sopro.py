"""A random Sopro of either generation: config fields and the names, shapes and scales of its state dict.

Names and shapes are upstream's (`SoproTTSModel` of v1 and v1.5). Scales keep activations near one through the
stack, and everything that upstream initialises to zero or one (gates, FiLM output, mixes, norms) is random
here: an engine that forgets a term gives a different result.
"""

# ruff: noqa: C408 (keyword form keeps the configurations legible)

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

from .tensors import BIAS, GATE, NORM, Draw, Plan, Shape, linear, normal, under, xavier

Config = dict[str, Any]

SV_WIDTH = 192  # of Token2SV, a constant upstream
ADAPTER_WIDTH = 256  # of v1.5's stage adapter, likewise
LOGIT_STD = 2.0
EOS_PROBABILITY = 1 / 250  # per frame, before top-k and top-p roughly double it

_FULL: Config = dict(
    num_codebooks=32, codebook_size=2048, mimi_fps=12.5, max_frames=400, audio_sr=24000, d_model=384,
    dropout=0.05, pos_emb_max=4096, max_text_len=2048, n_layers_ar=6, ar_kernel=13,
    ar_dilation_cycle=[1, 2, 4, 1], ar_text_attn_freq=2, min_gen_frames=12, n_layers_nar=6,
    nar_head_dim=256, stage_B=[2, 4], stage_C=[5, 8], stage_D=[9, 16], stage_E=[17, 32], sv_student_dim=192,
    style_strength=1.0,
)  # fmt: skip
_TINY: Config = dict(
    num_codebooks=8, codebook_size=64, d_model=32, pos_emb_max=512, max_text_len=512, n_layers_text=2,
    n_layers_ar=3, ar_kernel=5, ar_dilation_cycle=[1, 2], n_layers_nar=2, nar_head_dim=24, stage_B=[2, 3],
    stage_C=[4, 5], stage_D=[6, 7], stage_E=[8, 8], sv_student_dim=20,
)  # fmt: skip
_V1: Config = dict(
    n_layers_text=4, use_stop_head=True, stop_threshold=0.8, stop_patience=5, ar_lookback=4,
    ref_attn_heads=2, ref_seconds_max=12.0, preprompt_sec_max=4.0,
)  # fmt: skip
_V15: Config = dict(
    n_layers_text=2, nar_kernel_size=11, nar_dilation_cycle=[1, 2, 4, 8], ref_enc_layers=2,
    ref_xattn_heads=2, ref_xattn_layers=3, ref_xattn_gmax=0.35,
)  # fmt: skip
# What the parameters of the published models add up to: 169.0 M (v1) and 135.2 M (v1.5) with 128,257 text tokens need
# more layers than the defaults. For v1.5, `n_layers_text` = 4 would do as well; this is the slower of the two.
_PUBLISHED = {"v1": {"n_layers_ar": 10}, "v1.5": {"n_layers_nar": 8}}
_TINY_V15: Config = dict(nar_kernel_size=5, nar_dilation_cycle=[1, 3], ref_enc_layers=1, ref_xattn_layers=2)


def config(arch: str, size: str) -> Config:
    """The `cfg` of a checkpoint: `full` is upstream's defaults, `published` what the published models probably are,
    `tiny` exercises the same paths."""
    own, own_tiny = (_V1, {}) if arch == "v1" else (_V15, _TINY_V15)
    return _FULL | own | {"tiny": _TINY | own_tiny, "full": {}, "published": _PUBLISHED[arch]}[size]


def plan(arch: str, cfg: Config, vocabulary: int) -> Plan:
    """Every tensor of the state dict; `vocabulary` is the number of text tokens."""
    return _common(cfg, vocabulary) | (_v1(cfg) if arch == "v1" else _v15(cfg))


def stages(cfg: Config) -> dict[str, int]:
    """Stage letter -> number of codebooks it predicts (ranges are 1-based and inclusive)."""
    return {s: cfg[f"stage_{s}"][1] - cfg[f"stage_{s}"][0] + 1 for s in "BCDE"}


def _common(cfg: Config, vocabulary: int) -> Plan:
    d, q, v, sv = cfg["d_model"], cfg["num_codebooks"], cfg["codebook_size"], cfg["sv_student_dim"]
    out: Plan = {
        "text_enc.embed.emb.weight": ((vocabulary, d), normal(1.0)),
        "text_enc.norm.weight": ((d,), NORM),
        "cb_embed.emb.weight": ((q * v + 1, d), normal(0.7)),  # one more row: BOS
        "cond_norm.weight": ((d,), NORM),
        "ref_enc_norm.weight": ((d,), NORM),
        "ar.norm.weight": ((d,), NORM),
        "spk_film.norm.weight": ((d,), NORM),
        "spk_film.norm.bias": ((d,), BIAS),
        # The speaker vector has length one, so unit weights (not 1 / sqrt(sv)) bring it to unit scale.
        "spk_film.mlp.0.weight": ((d, sv), normal(1.0)),
        "spk_film.mlp.0.bias": ((d,), BIAS),
    }
    out |= under("spk_film.mlp.2", linear(2 * d, d))
    for i in range(cfg["n_layers_text"]):
        out |= _block(f"text_enc.layers.{i}", d, 7)
    for i in range(cfg["n_layers_ar"]):
        out |= _block(f"ar.blocks.{i}", d, cfg["ar_kernel"])
    out |= _token2sv(q, v, sv)
    return out


def _token2sv(q: int, v: int, sv: int) -> Plan:
    d = SV_WIDTH
    return under(
        "token2sv.",
        {"emb.weight": ((q * v, d), normal(2.0)), "cb_weights": ((q,), normal(0.3))},
        under("enc.0.dw", _depthwise(d, 7, gain=2.0)),
        under("enc.3.dw", _depthwise(d, 7, gain=2.0)),
        under("pool.attn.0", linear(d, d)),
        under("pool.attn.2", linear(1, d, gain=2.0)),
        under("proj", linear(sv, 2 * d)),
    )


def _depthwise(d: int, taps: int, gain: float = 1.0) -> Plan:
    return {".weight": ((d, 1, taps), xavier(gain)), ".bias": ((d,), BIAS)}


def _block(name: str, d: int, taps: int) -> Plan:
    """SSMLiteBlock: norm, GLU, depthwise convolution; norm, feed-forward."""
    return under(
        name + ".",
        {"norm.weight": ((d,), NORM), "ff.0.weight": ((d,), NORM)},
        under("glu.pro", linear(2 * d, d)),
        under("dw.dw", _depthwise(d, taps)),
        under("ff.1", linear(4 * d, d)),
        under("ff.3", linear(d, 4 * d)),
    )


def _attention(name: str, d: int, packed: bool) -> Plan:
    """Cross-attention: v1 packs q, k, v into one matrix with biases, v1.5 has four matrices without."""
    out: Plan = {"gate": ((), GATE), "nq.weight": ((d,), NORM), "nkv.weight": ((d,), NORM)}
    if packed:
        out |= {"attn.in_proj_weight": ((3 * d, d), xavier()), "attn.in_proj_bias": ((3 * d,), BIAS)}
        out |= under("attn.out_proj", linear(d, d))
    else:
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            out |= under(part, linear(d, d, bias=False))
    return under(name + ".", out)


def _text_attentions(cfg: Config, packed: bool) -> Plan:
    layers = range(cfg["ar_text_attn_freq"] - 1, cfg["n_layers_ar"], cfg["ar_text_attn_freq"])
    return under("", *(_attention(f"ar.x_attns.{i}", cfg["d_model"], packed) for i in layers))


def _v1(cfg: Config) -> Plan:
    d, v, head = cfg["d_model"], cfg["codebook_size"], cfg["nar_head_dim"]
    out = under("ar.head", linear(v, d, gain=LOGIT_STD)) | _text_attentions(cfg, packed=True)
    out["ar_hist_w"] = ((cfg["ar_lookback"],), normal(0.5))
    # A stop probability above 0.8 in five frames running is a rare event, one such frame is not.
    out["stop_head.proj.weight"] = ((1, d), xavier())
    out["stop_head.proj.bias"] = ((1,), normal(0.05, mean=-2.0))
    for i in range(2):
        out |= _block(f"ref_enc_blocks.{i}", d, 7)
    for i in range(3):
        out |= _attention(f"ref_xattn_stack.blocks.{i}", d, packed=True)
    for stage, heads in stages(cfg).items():
        trunk: Plan = {"mix": ((2,), normal(0.5)), "norm.weight": ((d,), NORM)}
        for i in range(cfg["n_layers_nar"]):
            trunk |= _block(f"blocks.{i}", d, 7)
        trunk |= under("pre", linear(head, d))
        for j in range(heads):
            trunk |= under(f"heads.{j}", linear(v, head, gain=LOGIT_STD))
        out |= under(f"stages.{stage}.", trunk)
    return out


def _v15(cfg: Config) -> Plan:
    d, q, v, head = cfg["d_model"], cfg["num_codebooks"], cfg["codebook_size"], cfg["nar_head_dim"]
    out = _text_attentions(cfg, packed=False)
    eos_bias = log(v) + LOGIT_STD**2 / 2 + log(EOS_PROBABILITY)
    out["ar.head.weight"] = ((v + 1, d), _eos_last(xavier(LOGIT_STD), scale=0.5))
    out["ar.head.bias"] = ((v + 1,), _eos_last(BIAS, value=eos_bias))
    out |= {"nar_prev_cb_weights": ((q,), normal(0.3)), "ref_cb_weights": ((q,), normal(0.3))}
    for i in range(cfg["ref_enc_layers"]):
        out |= _block(f"ref_enc_blocks.{i}", d, 7)
    for i in range(cfg["ref_xattn_layers"]):
        out |= _attention(f"ref_xattn.blocks.{i}", d, packed=False)
    trunk: Plan = {"norm.weight": ((d,), NORM), "adapter.norm.weight": ((d,), NORM)}
    trunk |= {"stage_emb.weight": ((len(stages(cfg)), d), normal(1.0))}
    trunk |= under("adapter.mlp.0", linear(ADAPTER_WIDTH, d))
    trunk |= under("adapter.mlp.2", linear(2 * d, ADAPTER_WIDTH))
    trunk |= under("pre", linear(head, d))
    for i in range(cfg["n_layers_nar"]):
        trunk |= _block(f"blocks.{i}", d, cfg["nar_kernel_size"])
    for stage, heads in stages(cfg).items():
        trunk[f"mix.{stage}"] = ((2,), normal(0.5))
        trunk[f"head_id_emb.{stage}.weight"] = ((heads, head), normal(0.5))
        for j in range(heads):
            trunk |= under(f"heads.{stage}.{j}", linear(v, head, gain=LOGIT_STD))
    return out | under("nar.", trunk)


def _eos_last(draw: Draw, scale: float = 1.0, value: float | None = None) -> Draw:
    """Scale or set the last row, which belongs to the end-of-speech code.

    With logits of standard deviation s the softmax denominator is V exp(s^2 / 2): that fixes the bias which
    gives a wanted probability per frame, whatever the codebook size.
    """

    def drawn(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        x = draw(rng, shape)
        x[-1] = x[-1] * scale if value is None else value
        return x

    return drawn
