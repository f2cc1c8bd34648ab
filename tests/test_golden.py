"""The engine against golden vectors of the original code, through the real converter, tensor by tensor."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from conftest import HERE, assert_close, by_each
from safetensors.numpy import load_file, save_file

from sopro_np import ops
from sopro_np.convert import sopro as converter
from sopro_np.convert.convert import convert
from sopro_np.convert.plan import Part, Planner
from sopro_np.convert.recipe import load_recipe
from sopro_np.convert.source import open_source
from sopro_np.engine import open_model
from sopro_np.layers import ConvBlock, CrossAttention, DepthwiseConv, LayerNorm, Linear, RMSNorm
from sopro_np.model.ar import Autoregressor
from sopro_np.model.condition import Film
from sopro_np.model.voice import SpeakerEncoder
from sopro_np.ops.quant import quantize
from sopro_np.ops.sampling import choose, distribution
from sopro_np.options import Options
from sopro_np.sampler import PENALTY_WINDOW, Sampler, Uniform, repeated_tail
from sopro_np.session import Session
from tools.trace import trace

GOLDEN = Path(os.environ.get("SOPRO_NP_GOLDEN", HERE / "golden"))
SHARED = HERE.parents[1] / "shared" / "golden"  # holds the larger `mid` cases, on some machines
# Upstream's streamers differ from its own offline output, and its window is never applied: not our target.
NOT_OURS = ("*.stream.argmax.*", "upstream_stream.*", "*_if_sliding_window_were_applied")


def cases(kind: str) -> list[Path]:
    """Folders of one architecture that hold vectors, by their names."""
    folders = sorted((GOLDEN / kind).glob("*"))
    if "SOPRO_NP_GOLDEN" not in os.environ:
        folders.append(SHARED / kind / "mid")
    return [folder for folder in folders if (folder / "vectors.safetensors").is_file()]


KINDS = ("sopro_v1", "sopro_v15", "mimi")
CASES = [pytest.param(folder, id=f"{kind}-{folder.name}") for kind in KINDS for folder in cases(kind)]
STOP_CASES = [pytest.param(folder, id=folder.name) for folder in cases("sopro_v1")]


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_cases(kind: str):
    assert cases(kind), f"no golden case in {GOLDEN / kind}"


@by_each
@pytest.mark.parametrize("folder", CASES)
def test_every_stage(folder: Path):
    """Floats within SPEC's tolerance, integers equal, and no vector left unlooked at."""
    golden = load_file(folder / "vectors.safetensors")
    ours = trace(folder)
    compared = [name for name in golden if not any(fnmatch(name, pattern) for pattern in NOT_OURS)]
    assert sorted(set(compared) - set(ours)) == []
    for name in compared:
        assert_close(name, ours[name], golden[name])


# ---------------------------------------------------------------- single blocks


class Block:
    """One case of `blocks`: its weights by upstream's names, and our layers made of them."""

    def __init__(self, generation: str, hp: dict, weights: dict[str, np.ndarray]) -> None:
        self.v1, self.hp, self.w = generation == "sopro_v1", hp, weights

    def norm(self, name: str) -> RMSNorm:
        return RMSNorm(self.w[f"{name}weight"])

    def linear(self, name: str, act: str | None = None) -> Linear:
        weight = ops.pack(quantize(self.w[f"{name}.weight"], "fp32"), act)
        return Linear(weight, self.w.get(f"{name}.bias"), act)

    def depthwise(self, name: str = "", kernel: int | None = None) -> DepthwiseConv:
        weight, dilation = self.w[f"{name}dw.weight"][:, 0].T.copy(), self.hp.get("dilation", 1)
        reach = (len(weight) - 1) * dilation
        past = reach if self.hp.get("causal") else reach // 2
        return DepthwiseConv(weight, self.w[f"{name}dw.bias"], dilation, past, reach - past)

    def conv_block(self) -> ConvBlock:
        gate, ff_norm = self.linear("glu.pro", "glu"), self.norm("ff.0.")
        ff = self.linear("ff.1", "gelu"), self.linear("ff.3")
        return ConvBlock(self.norm("norm."), gate, self.depthwise("dw."), ff_norm, *ff)

    def attention(self, prefix: str, gmax: float, reference: bool) -> CrossAttention:
        """Text attention, or a layer of reference attention, which matches the loudness."""
        if self.v1:
            names, w = ("query", "key", "value"), self.w
            weights = np.split(w[f"{prefix}attn.in_proj_weight"], 3)
            biases = np.split(w[f"{prefix}attn.in_proj_bias"], 3)
            for name, weight, bias in zip(names, weights, biases, strict=True):
                w |= {f"{prefix}{name}.weight": weight, f"{prefix}{name}.bias": bias}
            projections = [self.linear(f"{prefix}{name}") for name in (*names, "attn.out_proj")]
        else:
            names = ("q_proj", "k_proj", "v_proj", "out_proj")
            projections = [self.linear(f"{prefix}{name}") for name in names]
        match, clamp = ("output", None) if self.v1 else ("values", 10.0)
        return CrossAttention(
            self.norm(f"{prefix}nq."), self.norm(f"{prefix}nkv."), *projections,
            np.float32(gmax * np.tanh(self.w[f"{prefix}gate"])), self.hp["heads"],
            *((match, clamp) if reference else ()),
        )  # fmt: skip

    def speaker(self, pool: str) -> SpeakerEncoder:
        """Token2SV, or (`pool` = "") its pooling alone."""
        whole = bool(pool)
        return SpeakerEncoder(
            quantize(self.w["emb.weight"], "fp32") if whole else None,
            converter._softmax(self.w["cb_weights"]).astype(np.float32) if whole else None,
            self.hp.get("V", 0),
            (self.depthwise("enc.0."), self.depthwise("enc.3.")) if whole else (),
            self.linear(f"{pool}attn.0", "tanh"),
            self.linear(f"{pool}attn.2"),
            self.linear("proj") if whole else None,
        )

    def run(self, kind: str, given: dict[str, np.ndarray], output: str, tmp_path: Path) -> np.ndarray:
        """The output of that name."""
        hp, x = self.hp, given.get("x")
        match kind:
            case "RMSNorm":
                return self.norm("")(x)
            case "GLU":
                return self.linear("pro", "glu")(x)
            case "DepthwiseConv1d" | "SSMLiteBlock":
                layer = self.depthwise() if kind == "DepthwiseConv1d" else self.conv_block()
                tail, step = layer.new_state(), 1 if output == "y_steps" else len(x)
                return np.concatenate([layer(x[a : a + step], tail) for a in range(0, len(x), step)])
            case "AttentiveStatsPool":
                return self.speaker("").pool(x[: hp["length"]])
            case "Token2SV":
                return self.speaker("pool.")(given["tokens"])
            case "TextXAttnBlock" | "RefXAttnBlock" | "RefXAttnStack":
                prefixes = [f"blocks.{i}." for i in range(hp["layers"])] if "layers" in hp else [""]
                for prefix in prefixes:
                    layer = self.attention(prefix, hp.get("gmax", 1.0), kind != "TextXAttnBlock")
                    x = layer(x, layer.cross_kv(given["context"]))
                return x
            case "SpeakerFiLM":
                norm = LayerNorm(self.w["norm.weight"], self.w["norm.bias"], hp["ln_eps"])
                film = Film(self.linear("mlp.0", "gelu"), self.linear("mlp.2", "tanh"), norm)
                return film(x, film.affine(given["spk"], float(output.removeprefix("y_strength"))))
            case "NARStageAdapter":
                save_file({f"nar.adapter.{n}": w for n, w in self.w.items()}, tmp_path / "a.safetensors")
                part = Part("m")
                converter._stage_film(
                    Planner(open_source(tmp_path / "a.safetensors"), part), 0, given["stage_vec"], hp["d"]
                )
                return ops.rms_norm(x, part.arrays["m.nar.0.gain"], shift=part.arrays["m.nar.0.shift"])
            case "CodebookEmbedding.embed_shift_by_k":
                k = int(output.removeprefix("k"))
                only_k = np.eye(k, dtype=np.float32)[-1]
                table = quantize(self.w["emb.weight"], "fp32")
                ar = Autoregressor(table, only_k, (), {}, None, None)
                codes = ar.new_state(given["tokens"][:-1]).codes
                return ar.inputs(np.zeros((len(given["tokens"]), hp["D"]), np.float32), codes, k)
            case "SinusoidalPositionalEmbedding":
                positions = given["positions"]
                return converter.sinusoid(int(positions.max()) + 1, hp["d"])[positions]
        raise AssertionError(f"unknown kind {kind}")


@by_each
@pytest.mark.parametrize("generation", ["sopro_v1", "sopro_v15"])
def test_blocks(generation: str, tmp_path: Path):
    tensors = load_file(GOLDEN / "blocks" / f"{generation}.safetensors")
    for case in json.loads((GOLDEN / "blocks" / f"{generation}.json").read_text()):
        parts: dict[str, dict[str, np.ndarray]] = {"w": {}, "in": {}, "out": {}}
        for name in [name for name in tensors if name.startswith(f"{case['name']}/")]:
            _, part, field = name.split("/")
            parts[part][field] = tensors.pop(name)
        assert sorted(parts["out"]) == sorted(case["outputs"])
        for output, expected in parts["out"].items():
            ours = Block(generation, case["hp"], parts["w"]).run(case["kind"], parts["in"], output, tmp_path)
            # A position is multiplied by a frequency: its last bit is worth 1.5e-5 at position 5000 (SPEC 8).
            tolerance = 2e-5 if case["kind"] == "SinusoidalPositionalEmbedding" else 1e-5
            assert_close(f"{case['name']}/{output}", ours, expected, tolerance, floor=1e-6)
    assert not tensors, f"not compared: {sorted(tensors)[:5]}"


# ---------------------------------------------------------------- v1's stop rule


@by_each
@pytest.mark.parametrize("folder", STOP_CASES)
def test_stop_rule(folder: Path, tmp_path: Path):
    """Thresholds around the middle of p, patience 1 to 3: the number of frames before it stops."""
    golden, case = load_file(folder / "vectors.safetensors"), json.loads((folder / "case.json").read_text())
    convert(tmp_path / "m.safetensors", load_recipe("fp32"), sopro=folder / "checkpoint.safetensors")
    tts = open_model(tmp_path / "m.safetensors")
    runs = {name: run for name, run in case["greedy_runs"].items() if ".stop." in name}
    assert bool(runs) == case["cfg"]["use_stop_head"]
    for name, run in runs.items():
        inputs, _, prefix = name.split(".")[:3]
        codes = golden[f"{inputs}.greedy.pure.{prefix}.tokens"]
        rows = golden[f"{inputs}.cond.s{case['main_style_strength']}.out"]
        rule = {"stop_threshold": run["stop_threshold"], "stop_patience": run["stop_patience"]}
        rule["min_gen_frames"] = run["min_gen_frames"]
        stop = tts.model.stop.new_state(Options(**rule))
        frames = zip(codes, rows, strict=True)
        ends = (t + 1 for t, (code, row) in enumerate(frames) if stop.ends_after(t, int(code), row))
        assert next(ends, len(codes)) == run["steps"], name
        if prefix == "prefix":  # the length that a session uses: the whole way
            voice, ids = tts.voice_from_codes(golden[f"{inputs}.ref_tokens"]), golden[f"{inputs}.text_ids"]
            options = Options(max_frames=case["max_frames"], style_strength=case["main_style_strength"], **rule)
            utterance = tts.model.start(ids, voice, options.style_strength)
            session = Session(tts.model, utterance, options, tts.runtime, sampler=lambda logits: int(logits.argmax()))
            spoken = np.concatenate(list(session.blocks()))[:, 0]
            assert np.array_equal(spoken, codes[: run["steps"]]), name
            stopped = run["steps"] < case["max_frames"] or stop.streak >= rule[2]
            assert session.finish_reason == ("stop" if stopped else "length"), name


# ---------------------------------------------------------------- sampling

SAMPLING = json.loads((GOLDEN / "common" / "sampling.json").read_text())
DRAWS = 5_000


def distributions() -> Iterator[tuple[dict, np.ndarray, np.ndarray]]:
    """Every case with our distribution and the golden one."""
    tensors = load_file(GOLDEN / "common" / "sampling.safetensors")
    for case in SAMPLING["sample_token"]:
        s = case["settings"]
        rest = (s["temperature"], s["top_k"], s["top_p"], s["repetition_penalty"])
        p = distribution(tensors[f"{case['case']}.logits"], case["history"][-PENALTY_WINDOW:], *rest)
        yield case, p, tensors[f"{case['case']}.probs"]


def test_distributions():
    assert SAMPLING["sample_token"]
    for case, p, golden in distributions():
        assert_close(f"probabilities {case['case']}", p, golden, 1e-6)
        assert np.array_equal(p > 0, golden > 0), case["case"]
        assert int((p > 0).sum()) == case["support"], case["case"]


def test_draws_follow_the_distribution():
    """5000 draws of `choose`: never outside the support, and every frequency within five deviations."""
    drawn = [(case, golden) for case, _, golden in distributions() if "draws" in case]
    assert drawn
    for case, golden in drawn:
        uniform = Uniform(case["case"])
        codes = np.array([choose(golden, uniform.draw()) for _ in range(DRAWS)])
        counts = np.bincount(codes, minlength=len(golden))
        assert not counts[golden == 0].any(), case["case"]
        p = golden.astype(np.float64) / golden.sum(dtype=np.float64)
        deviation = np.sqrt(np.maximum(DRAWS * p * (1 - p), 1))
        assert (np.abs(counts - DRAWS * p) <= 5 * deviation).all(), case["case"]


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_choose_skips_zeros_at_both_ends(u: float):
    p = np.array([0, 0, 0.25, 0, 0.75, 0], np.float32)
    assert choose(p, u) == (2 if u == 0 else 4)


@by_each
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_sampler(spread: float):
    """400 codes in a row: each drawn from the distribution of its moment, also while it goes in circles."""
    logits = (np.random.default_rng(3).standard_normal(40) * spread).astype(np.float32)
    sampler, uniform, history, stuck = Sampler(Options(seed=11)), Uniform(11), [], 0
    for _ in range(400):
        loops = repeated_tail(history) or (len(history) > 8 and len(set(history[-9:])) == 1)
        temperature, top_p = (1.2, 0.85) if loops else (1.05, 0.9)
        stuck += loops
        p = distribution(logits, history[-PENALTY_WINDOW:], temperature, 50, top_p, 1.1)
        code = sampler(logits)
        assert p[code] > 0
        assert code == choose(p, uniform.draw())
        history.append(code)
    assert (stuck > 0) == (spread == 3.0), "the settings must show both states"
    assert len(set(history)) > 1


def test_repeated_tail():
    assert {row["result"] for row in SAMPLING["repeated_tail"]} == {True, False}
    for row in SAMPLING["repeated_tail"]:
        assert repeated_tail(row["history"], row["max_n"]) == row["result"], row
