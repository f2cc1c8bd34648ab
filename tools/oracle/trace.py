"""Every stage of one utterance under the golden vectors' names, from any oracle model, golden or random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .base import KV, Sopro
from .sampling import NucleusSampler, Sampler, argmax
from .v1 import SoproV1
from .v15 import SoproV15

# Upstream's sampler at top_p 0: the argmax after the repetition penalty.
PENALISED_ARGMAX = NucleusSampler(top_p=0.0, recovery_top_p=0.0)
PREFIXES: dict[str, dict] = {
    "noprefix": {"use_prefix": False},
    "prefix": {},
    "prefix2": {"prefix_sec_fixed": 0.16},
}
NO_STOP = 2.0  # a threshold that no probability exceeds


@dataclass(frozen=True, kw_only=True)
class TraceInputs:
    """One input set: ids (L,), reference codes (R, Q), teacher-forced tokens, NAR tokens by their number."""

    text_ids: Tensor
    ref_tokens: Tensor
    forced: Tensor
    rvq1: Mapping[int, Tensor] = field(default_factory=dict)
    styles: Iterable[float] = (1.0,)
    main_style: float = 1.0
    max_frames: int = 40
    generate_frames: Iterable[int] = (5,)


@torch.inference_mode()
def trace(model: Sopro, inputs: TraceInputs) -> dict[str, Tensor]:
    """All stage outputs, named as in vectors.safetensors but without the `in<i>.` prefix."""
    ids, ref = inputs.text_ids, inputs.ref_tokens
    out: dict[str, Tensor] = {"text.embed_plus_pos": model.text_enc.embed(ids)}
    text, pool = model.encode_text(ids)
    out |= {"text.seq": text, "text.pool": pool}

    sv = model.token2sv
    mixed = sv.mix(ref)
    encoded = sv.enc(mixed)
    speaker = model.speaker(ref)
    out |= {"sv.mixed": mixed, "sv.enc": encoded, "sv.pooled": sv.pool(encoded), "sv.out": speaker}

    reference = model.reference(ref)
    out |= {"ref.mixed": model.mix_reference(ref), "ref.seq": reference.seq}
    out |= _named_kv("ref.kv", dict(enumerate(reference.kv)))

    base = model.frame_base(pool, model.condition_rows(inputs.max_frames))
    out["cond.base"] = base
    for style in inputs.styles:
        film = model.spk_film(base, speaker, style)
        attended = model.attend_reference(film, reference)
        cond = model.cond_norm(attended)
        out |= {f"cond.s{style}.{k}": v for k, v in (("film", film), ("xattn", attended), ("out", cond))}
    cond = out[f"cond.s{inputs.main_style}.out"]

    for length, rvq1 in inputs.rvq1.items():
        for step in model.nar_passes(cond, rvq1):
            out[f"nar.T{length}.{step.stage}.prev_emb"] = step.prev_emb
            out[f"nar.T{length}.{step.stage}.logits"] = torch.stack(step.logits)
        out[f"nar.T{length}.tokens"] = model.nar_refine(cond, rvq1)
    # v1's golden runs never stop by themselves; v1.5 has no such option and ends at the first EOS.
    options = {"stop_threshold": NO_STOP} if isinstance(model, SoproV1) else {}
    for frames in inputs.generate_frames:
        codes = model.generate(ids, ref, frames, style=inputs.main_style, **options)
        out[f"generate.argmax.max{frames}.tokens"] = codes

    ar = _trace_ar_v15 if isinstance(model, SoproV15) else _trace_ar_v1
    return out | ar(model, cond, text, inputs)


def _trace_ar_v15(model: SoproV15, cond: Tensor, text: Tensor, inputs: TraceInputs) -> dict[str, Tensor]:
    x = model.ar_inputs(cond, inputs.forced)
    out = _named_kv("ar.text_kv", model.ar.text_kv(text))
    out["ar.tf.x"] = x
    out["ar.tf.logits_forward"] = model.ar_forward(x, text)
    out["ar.tf.logits_step"] = model.ar_steps(x, text)
    runs: dict[str, tuple[Sampler, float]] = {
        "pure_min0": (argmax, 0),
        "pure_min12": (argmax, 12),
        "pure_nostop": (argmax, math.inf),
        "stream_min0": (PENALISED_ARGMAX, 0),
        "stream_nostop": (PENALISED_ARGMAX, math.inf),
    }
    for name, (sampler, least) in runs.items():
        _, tokens, is_eos = zip(*model.ar_stream(cond, text, sampler, least), strict=True)
        out[f"greedy.{name}.tokens"] = torch.tensor(tokens)
        out[f"greedy.{name}.is_eos"] = torch.tensor(is_eos).long()
    return out


def _trace_ar_v1(model: SoproV1, cond: Tensor, text: Tensor, inputs: TraceInputs) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, options in PREFIXES.items():
        prefix = model.prefix(inputs.ref_tokens, **options)
        windows = [model.ar_window(cond, prefix, inputs.forced[:t]) for t in range(len(cond))]
        forced = f"ar.tf.{name}"
        out[f"{forced}.P"] = torch.tensor([len(prefix)])
        out[f"{forced}.window1_first_input"] = torch.stack([window[0] for window in windows])
        out[f"{forced}.last_input"] = torch.stack([window[-1] for window in windows])
        out[f"{forced}.logits"] = torch.stack([model.ar_logits(window, text) for window in windows])
        if model.cfg.use_stop_head:
            out[f"{forced}.p_stop"] = model.stop_probability(cond, inputs.forced)

        pure, stream = (
            list(zip(*model.ar_stream(cond, text, prefix, sampler, NO_STOP), strict=True))
            for sampler in (argmax, PENALISED_ARGMAX)
        )
        out[f"greedy.pure.{name}.tokens"] = torch.tensor(pure[1])
        out[f"greedy.stream.{name}.tokens"] = torch.tensor(stream[1])
        if model.cfg.use_stop_head:
            out[f"greedy.pure.{name}.p_stop"] = torch.tensor(pure[2])
    return out


def _named_kv(prefix: str, layers: Mapping[int, KV]) -> dict[str, Tensor]:
    return {f"{prefix}{i}.{part}": t for i, kv in layers.items() for part, t in zip("kv", kv, strict=True)}
