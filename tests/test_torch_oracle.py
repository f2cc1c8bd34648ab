"""The torch oracle against the golden vectors, tensor by tensor; no vector goes unlooked at."""

from __future__ import annotations

import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from tools.oracle import (  # noqa: E402
    ARCHITECTURES,
    ConfigV1,
    ConfigV15,
    NucleusSampler,
    Sopro,
    checkpoint_tensors,
    randomise,
    repeated_tail,
    save_checkpoint,
    v1,
    v15,
)
from tools.oracle import blocks as common_blocks  # noqa: E402
from tools.oracle.trace import PREFIXES, TraceInputs, trace  # noqa: E402

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "golden"  # has the larger `mid` cases, on some machines
GOLDEN = Path(os.environ.get("SOPRO_NP_GOLDEN", HERE / "golden"))

INPUTS = ("text_ids", "ref_tokens", "ar.forced", "nar.T*.rvq1")
NOT_COMPARED = ("stream.argmax.*",)  # upstream's streamer, which is not equal to its own offline output
MIMI_NOT_COMPARED = ("upstream_stream.*", "dec.*.wav_if_sliding_window_were_applied")


def case_dirs(arch: str) -> list[Path]:
    """The golden cases of an architecture, with `mid` from the shared folder where there is one."""
    found = {path.name: path for path in sorted((GOLDEN / arch).glob("*")) if path.is_dir()}
    shared_mid = SHARED / arch / "mid"
    if GOLDEN == HERE / "golden" and shared_mid.is_dir():
        found.setdefault("mid", shared_mid)
    return list(found.values())


SOPRO_CASES = [pytest.param(d, id=f"{arch}-{d.name}") for arch in ARCHITECTURES for d in case_dirs(arch)]
MIMI_CASES = [pytest.param(d, id=d.name) for d in case_dirs("mimi")]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_close(name: str, actual: Tensor, expected: Tensor, tolerance=5e-5, floor=1.0) -> None:
    """Integers exactly; floats within tolerance * max(floor, max|expected|)."""
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)} != {tuple(expected.shape)}"
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), f"{name}: {int((actual != expected).sum())} values differ"
        return
    error = (actual - expected).abs().max().item()
    limit = tolerance * max(floor, expected.abs().max().item())
    assert error <= limit, f"{name}: error {error:.3g} > {limit:.3g}"


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def load_case(directory: Path) -> tuple[Sopro, dict[str, Tensor], dict]:
    model = ARCHITECTURES[directory.parent.name].from_checkpoint(directory / "checkpoint.safetensors")
    case = json.loads((directory / "case.json").read_text())
    return model, load_file(directory / "vectors.safetensors"), case


def input_sets(vectors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The vectors of each input set, without their `in<i>.` prefix."""
    sets: dict[int, dict[str, Tensor]] = {}
    for name, tensor in vectors.items():
        if match := re.match(r"in(\d+)\.(.*)", name):
            sets.setdefault(int(match[1]), {})[match[2]] = tensor
    return sets


def trace_inputs(golden: dict[str, Tensor], case: dict) -> TraceInputs:
    return TraceInputs(
        text_ids=golden["text_ids"],
        ref_tokens=golden["ref_tokens"],
        forced=golden["ar.forced"],
        rvq1={length: golden[f"nar.T{length}.rvq1"] for length in case["nar_T"]},
        styles=case["style_strengths"],
        main_style=case["main_style_strength"],
        max_frames=case["max_frames"],
        generate_frames=[int(n.split("max")[-1].split(".")[0]) for n in golden if n.startswith("generate.")],
    )


def test_there_are_cases():
    assert SOPRO_CASES and MIMI_CASES, f"no golden cases in {GOLDEN}"


@pytest.mark.parametrize("directory", SOPRO_CASES)
def test_every_stage(directory: Path):
    model, vectors, case = load_case(directory)
    assert_close("pe", model.frame_positions.table[vectors["pe.rows"]], vectors["pe.values"])
    sets = input_sets(vectors)
    assert sum(map(len, sets.values())) + 2 == len(vectors), "a vector outside the input sets besides pe.*"
    for number, golden in sets.items():
        actual = trace(model, trace_inputs(golden, case))
        compared = {name for name in golden if not matches(name, INPUTS + NOT_COMPARED)}
        assert set(actual) == compared
        for name in compared:
            assert_close(f"in{number}.{name}", actual[name], golden[name])


@pytest.mark.parametrize("directory", [p for p in SOPRO_CASES if "sopro_v1-" in p.id])
def test_v1_stop_rule(directory: Path):
    """Number of frames for thresholds around the median of p, patience 1 to 3."""
    model, vectors, case = load_case(directory)
    runs = {name: run for name, run in case["greedy_runs"].items() if ".stop." in name}
    assert bool(runs) == model.cfg.use_stop_head
    for number, golden in input_sets(vectors).items():
        cond = golden[f"cond.s{case['main_style_strength']}.out"]
        for name, run in runs.items():
            head, _, prefix_name = name.split(".")[:3]
            if head != f"in{number}":
                continue
            prefix = model.prefix(golden["ref_tokens"], **PREFIXES[prefix_name])
            rule = {key: run[key] for key in ("stop_threshold", "stop_patience", "min_gen_frames")}
            frames = list(model.ar_stream(cond, golden["text.seq"], prefix, **rule))
            assert len(frames) == run["steps"], name


def build_block(kind: str, hp: dict, generation) -> nn.Module:
    """The oracle module of a block case; attention comes from its generation's file."""
    d = hp.get("d")
    match kind:
        case "RMSNorm":
            return common_blocks.RMSNorm(d, hp["eps"])
        case "GLU":
            return common_blocks.GLU(d)
        case "DepthwiseConv1d" | "SSMLiteBlock":
            shape = (d, hp["kernel_size"], hp["dilation"], hp["causal"])
            return getattr(common_blocks, kind)(*shape)
        case "AttentiveStatsPool":
            return common_blocks.AttentiveStatsPool(d)
        case "SpeakerFiLM":
            return common_blocks.SpeakerFiLM(hp["sv_dim"], d)
        case "Token2SV":
            return common_blocks.Token2SV(hp["Q"], hp["V"], hp["out_dim"], d)
        case "CodebookEmbedding.embed_shift_by_k":
            return common_blocks.CodebookEmbedding(hp["Q"], hp["V"], hp["D"])
        case "NARStageAdapter":
            return v15.NARStageAdapter(d, hp["hidden"])
        case "TextXAttnBlock":
            return generation.TextXAttnBlock(d, hp["heads"])
        case "RefXAttnBlock":
            return generation.RefXAttnBlock(d, hp["heads"], hp["gmax"])
        case "RefXAttnStack":
            gmax = () if generation is v1 else (hp["gmax"],)
            return generation.RefXAttnStack(d, hp["heads"], hp["layers"], *gmax)
    raise AssertionError(f"unknown kind {kind}")


def run_block(block: nn.Module, hp: dict, inputs: dict[str, Tensor], output: str) -> Tensor:
    """Call a block the way its output's name asks for."""
    x = inputs.get("x", inputs.get("tokens"))
    if output == "y_steps":
        conv = block.dw if isinstance(block, common_blocks.SSMLiteBlock) else block
        tail, rows = conv.start(), []
        for row in x:
            y, tail = block.step(row[None], tail)
            rows.append(y)
        return torch.cat(rows)
    if match := re.fullmatch(r"k(\d+)", output):
        return block.shifted(x, int(match[1]))
    if match := re.fullmatch(r"y_strength(.*)", output):
        return block(x, inputs["spk"], float(match[1]))
    if "context" in inputs:
        context = inputs["context"]
        return block(x, block.kv(context) if hasattr(block, "kv") else context)
    if "stage_vec" in inputs:
        return block(x, inputs["stage_vec"])
    return block(x, hp["length"]) if "length" in hp else block(x)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.inference_mode()
def test_blocks(arch: str):
    tensors = load_file(GOLDEN / "blocks" / f"{arch}.safetensors")
    for case in json.loads((GOLDEN / "blocks" / f"{arch}.json").read_text()):
        name, hp = case["name"], case["hp"]
        parts: dict[str, dict[str, Tensor]] = {"w": {}, "in": {}, "out": {}}
        for key in [key for key in tensors if key.startswith(f"{name}/")]:
            _, part, field = key.split("/")
            parts[part][field] = tensors.pop(key)
        if case["kind"] == "SinusoidalPositionalEmbedding":
            positions = parts["in"]["positions"]
            table = common_blocks.sinusoid_table(int(positions.max()) + 1, hp["d"])
            assert_close(name, table[positions], parts["out"]["rows"], 2e-5)  # one ulp of one frequency
            continue
        block = build_block(case["kind"], hp, {"sopro_v1": v1, "sopro_v15": v15}[arch])
        block.load_state_dict(parts["w"], strict=True)
        block.eval()
        for output, expected in parts["out"].items():
            actual = run_block(block, hp, parts["in"], output)
            assert_close(f"{name}/{output}", actual, expected, 1e-5, floor=1e-6)
    assert not tensors, f"not compared: {sorted(tensors)[:5]}"


def test_sampling():
    tensors = load_file(GOLDEN / "common" / "sampling.safetensors")
    truth = json.loads((GOLDEN / "common" / "sampling.json").read_text())
    for case in truth["sample_token"]:
        settings = dict(case["settings"])
        sampler = NucleusSampler(penalty=settings.pop("repetition_penalty"), **settings)
        number = case["case"]
        probs = sampler.probabilities(tensors[f"{number}.logits"], case["history"])
        assert_close(f"probs {number}", probs, tensors[f"{number}.probs"], 1e-6)
        assert int((probs > 0).sum()) == case["support"]
    for row in truth["repeated_tail"]:
        assert repeated_tail(row["history"], row["max_n"]) == row["result"], row


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_random_model_survives_its_checkpoint(arch: str, tmp_path: Path):
    small = {"num_codebooks": 4, "codebook_size": 11, "d_model": 24, "n_layers_ar": 2, "n_layers_nar": 1}
    stages = {"stage_B": (2, 2), "stage_C": (3, 3), "stage_D": (4, 4), "stage_E": (4, 4)}
    cfg = {"sopro_v1": ConfigV1, "sopro_v15": ConfigV15}[arch](**small, **stages)
    model = randomise(ARCHITECTURES[arch](cfg, 17), torch.Generator().manual_seed(7))
    for name, array in checkpoint_tensors(model).items():
        assert np.all(array != 0) and (array.size == 1 or np.ptp(array) > 0), f"{name} is degenerate"
    save_checkpoint(model, tmp_path / "model.safetensors")
    again = ARCHITECTURES[arch].from_checkpoint(tmp_path / "model.safetensors")
    assert again.cfg == cfg
    ids, ref = torch.tensor([3, 16]), torch.tensor([[1, 2, 3, 10]])
    assert torch.equal(model.generate(ids, ref, 5), again.generate(ids, ref, 5))


def trace_mimi(mimi: nn.Module, name: str, given: Tensor) -> dict[str, Tensor]:
    """Stage outputs of one codec case by their golden names; `given` is a waveform (n,) or codes (Q, T)."""
    seen: dict[str, Tensor] = {}

    def keep(label: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_module, _inputs, output) -> None:  # transformers' layers answer with tuples and outputs
            tensor = output if isinstance(output, Tensor) else output[0]
            seen[f"{name}.{label}"] = tensor[0].T if "transformer" in label else tensor[0]

        return module.register_forward_hook(hook)

    encode = name.startswith("enc.")
    side = "encoder" if encode else "decoder"
    seanet, transformer = getattr(mimi, side), getattr(mimi, f"{side}_transformer")
    quantizer = mimi.quantizer
    modules = {"transformer": transformer, "transformer.after_layer0": transformer.layers[0]}
    modules |= {f"seanet.layer{i}": layer for i, layer in enumerate(seanet.layers)}
    if encode:
        modules |= {"seanet": seanet, "downsample": mimi.downsample}
        modules["sem_proj"] = quantizer.semantic_residual_vector_quantizer.input_proj
        modules["aco_proj"] = quantizer.acoustic_residual_vector_quantizer.input_proj
    else:
        modules["upsample"] = mimi.upsample
    handles = [keep(label, module) for label, module in modules.items() if module is not None]
    if encode:
        seen[f"{name}.codes"] = mimi.encode(given[None, None]).audio_codes[0]
    else:
        seen[f"{name}.quantizer"] = quantizer.decode(given[None])[0]
        seen[f"{name}.wav"] = mimi.decode(given[None]).audio_values[0, 0]
    for handle in handles:
        handle.remove()
    if not encode:
        for k in range(1, len(given)):
            seen[f"{name}.wav_first{k}q"] = mimi.decode(given[None, :k]).audio_values[0, 0]
    return seen


@pytest.mark.parametrize("directory", MIMI_CASES)
@torch.inference_mode()
def test_mimi(directory: Path):
    transformers = pytest.importorskip("transformers")
    options = {"dtype": torch.float32, "local_files_only": True}
    mimi = transformers.MimiModel.from_pretrained(directory, **options).eval()
    vectors = load_file(directory / "vectors.safetensors")
    remaining = {name for name in vectors if not matches(name, MIMI_NOT_COMPARED)}
    for given in [name for name in vectors if matches(name, ("enc.*.wav", "dec.*.codes"))]:
        actual = trace_mimi(mimi, given.rpartition(".")[0], vectors[given])
        for name in (actual.keys() & remaining) - {given}:
            assert_close(name, actual[name], vectors[name])
        remaining -= {given, *actual}
    assert not remaining, f"not compared: {sorted(remaining)[:5]}"
