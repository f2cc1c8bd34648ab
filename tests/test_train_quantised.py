"""Training for few bits and few channels: fake quantisation against the engine, pruning, distillation."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import tiny
from conftest import normal
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import MimiConfig, MimiModel  # noqa: E402

from sopro_np.convert.convert import convert  # noqa: E402
from sopro_np.convert.mimi import plan_mimi  # noqa: E402
from sopro_np.convert.recipe import Recipe, load_recipe  # noqa: E402
from sopro_np.convert.sopro import plan_sopro  # noqa: E402
from sopro_np.engine import open_model  # noqa: E402
from sopro_np.errors import ConvertError  # noqa: E402
from sopro_np.evaluate.fidelity import ForcedInputs, logit_snr, run_forced  # noqa: E402
from sopro_np.evaluate.signals import snr  # noqa: E402
from sopro_np.ops import reference  # noqa: E402
from sopro_np.ops.quant import quantize, quantize_rows, unpack_int4  # noqa: E402
from sopro_np.tensorfile import TensorFile  # noqa: E402
from sopro_np.weights import Weights  # noqa: E402
from tools.train import distil_codec, distil_sopro, fake, prune, sampled  # noqa: E402
from tools.train.config import load_config  # noqa: E402
from tools.train.mimi import load_model  # noqa: E402
from tools.train.oracle import read_sopro  # noqa: E402
from tools.train.training import Trainer  # noqa: E402

SIZES = st.one_of(st.integers(1, 9), st.integers(10, 70))
SEEDS = st.integers(0, 2**32 - 1)
INTEGERS = st.sampled_from(["int8", "int4"])
ARCHITECTURES = {"v1": "sopro_v1", "v1.5": "sopro_v15"}


@given(n=st.integers(1, 9), c=SIZES, k=st.integers(1, 4), scheme=INTEGERS, seed=SEEDS)
def test_integers_are_the_engines(n: int, c: int, k: int, scheme: str, seed: int) -> None:
    """Of weights and of activations, their scales too, bit for bit; rows and groups of zeros as well."""
    w, x = normal(seed, n, k * c), normal(seed + 1, 5, c)
    w[0], w[:, ::3], x[0] = 0, 0, 0
    form, stored = fake.FORMATS[scheme], quantize(w, scheme, k)
    q, scale = form.encode(torch.from_numpy(w), k)
    data = stored.data if scheme == "int8" else unpack_int4(stored.data.reshape(n, k, -1), c).reshape(n, -1)
    assert np.array_equal(q.numpy(), data) and np.array_equal(scale.numpy(), stored.scale)
    assert np.array_equal(form.weight(torch.from_numpy(w), k).numpy(), stored.dequantize())
    q, scale = fake.encode_rows(torch.from_numpy(x))
    data, scales = quantize_rows(x)
    assert np.array_equal(q.numpy(), data) and np.array_equal(scale[:, 0].numpy(), scales)


@given(n=st.integers(1, 9), c=SIZES, k=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
       scheme=st.sampled_from(sorted(set(fake.FORMATS) - {"int4-64", "int4-128"})), seed=SEEDS)  # fmt: skip
def test_products_are_the_engines(n: int, c: int, k: int, stride: int, dilation: int, scheme: str, seed: int) -> None:
    """Convolutions, transposed ones as the converter lays them out, and linear layers; gradients straight through."""
    form, x = fake.FORMATS[scheme], normal(seed, 4 + (k - 1) * dilation, c)
    conv = torch.nn.Conv1d(c, n, k, stride, dilation=dilation)
    transposed = torch.nn.ConvTranspose1d(c, n, k + stride, stride)
    linear = torch.nn.Linear(c, n)
    stored = {
        conv: (conv.weight.detach().numpy().transpose(0, 2, 1).reshape(n, k * c), k),
        transposed: (fake.phases(transposed.weight.detach(), stride).numpy(), -(-(k + stride) // stride)),
        linear: (linear.weight.detach().numpy(), 1),
    }
    for module, (rows, taps) in stored.items():
        weight, bias = quantize(rows, scheme, taps), module.bias.detach().numpy()
        given_ = torch.from_numpy(x).requires_grad_()
        float_ = (module(given_) if module is linear else module(given_.mT).mT).detach()
        module.__class__, module.formats = fake.FAKES[type(module)], (form,)
        found = module(given_) if module is linear else module(given_.mT).mT
        if module is transposed:  # the first frames; the engine has no more
            past = np.zeros((taps - 1, c), np.float32)
            expected = reference.conv(x, weight, np.tile(bias, stride), past=past).reshape(-1, n)
            found, float_ = found[: len(expected)], float_[: len(expected)]
        else:
            expected = reference.conv(x, weight, bias, *((stride, dilation) if module is conv else ()))
        size = np.abs(expected).max() + 1
        assert np.allclose(found.detach().numpy(), expected, rtol=0, atol=3e-6 * size), type(module)
        found.square().sum().backward()
        own, wanted = module.weight.grad, gradient(module, x, found.detach(), form, len(expected))
        assert torch.allclose(own, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max() + 1))
        assert given_.grad is not None and (scheme != "fp32" or torch.allclose(found, float_, atol=1e-5))


def gradient(module: torch.nn.Module, x: np.ndarray, y: torch.Tensor, form: fake.Format, rows: int) -> torch.Tensor:
    """Of sum(y^2) by a weight that is what it was rounded to, times rounded activations."""
    weight = as_given(module).detach().requires_grad_()
    seen = form.rows(torch.from_numpy(x))
    if isinstance(module, torch.nn.Linear):
        found = seen @ weight.T
    elif isinstance(module, torch.nn.Conv1d):
        found = torch.nn.functional.conv1d(seen.mT, weight, None, module.stride, 0, module.dilation).mT
    else:
        found = torch.nn.functional.conv_transpose1d(seen.mT, weight, None, module.stride).mT[:rows]
    (found * 2 * y).sum().backward()
    return weight.grad


@given(n=st.integers(1, 5), c=SIZES, k=st.integers(1, 3), group=st.sampled_from([32, 64, 128]), seed=SEEDS)
def test_groups_and_scales_of_formats_to_come(n: int, c: int, k: int, group: int, seed: int) -> None:
    """Within half a step of a scale that fp16 holds, the step of a group being its largest weight's seventh."""
    w = normal(seed, n, k * c)
    form = fake.Integers(7, group, half=True)
    q, scale = form.encode(torch.from_numpy(w), k)
    assert torch.equal(scale, scale.half().float()) and scale.shape == (n, k * -(-c // group))
    error = np.abs(form.weight(torch.from_numpy(w), k).numpy() - w).reshape(n, k, c)
    for g in range(-(-c // group)):
        step = np.abs(w.reshape(n, k, c)[..., g * group : (g + 1) * group]).max(-1) / 7
        assert (error[..., g * group : (g + 1) * group] <= 0.51 * step[..., None] + 1e-7).all()
    assert q.abs().max() <= 7


def as_given(module: torch.nn.Module) -> torch.Tensor:
    """A fake module's rounded weight, in torch's shape."""
    if isinstance(module, torch.nn.Linear):
        return module.matrix()
    if isinstance(module, torch.nn.Conv1d):
        return module.matrix().reshape_as(module.weight.mT).mT
    return fake.from_phases(module.matrix(), module.weight, module.stride[0])


@given(c=SIZES, below=st.floats(-3, 3), seed=SEEDS)
def test_rows_with_a_zero_point(c: int, below: float, seed: int) -> None:
    """A byte's 256 values from the least to the most, 0 among them and exact; half a step of error at most."""
    x = normal(seed, 6, c) + np.float32(below)
    x[0], x[:, ::4] = 0, 0
    q, scale = fake.encode_rows(torch.from_numpy(x), asymmetric=True)
    step = (x.max(1).clip(0) - x.min(1).clip(max=0)) / 255
    assert np.allclose(scale[:, 0], step, rtol=1e-6, atol=1e-12)
    assert (q.amax(1) - q.amin(1) <= 255).all() and not q[:, ::4].any() and torch.equal(q, q.round())
    found = fake.Integers(127, asymmetric=True).rows(torch.from_numpy(x)).numpy()
    assert np.array_equal(found, (q * scale).numpy())
    assert (np.abs(found - x) <= 1.001 * step[:, None] + 1e-7).all()  # the zero point is rounded, too


MIXED = Recipe("mixed", (("sopro.*.query", "int4"), ("*.key", "bf16"), ("mimi.decoder.*", "int4"), ("*", "int8")))


@pytest.mark.parametrize("arch", tiny.ARCHS)
@pytest.mark.parametrize("recipe", [load_recipe("int8"), load_recipe("int4"), MIXED], ids=lambda r: r.name)
def test_every_matrix_is_the_converted_files(arch: str, recipe: Recipe, tmp_path: Path) -> None:
    """The converter's tables name the torch tensors: what a module multiplies with is what the file holds."""
    sopro, mimi = tiny.sopro_file(arch), tiny.checkpoint(arch) / "mimi"
    plain = replace(recipe, rounding="plain")
    convert(tmp_path / "m.safetensors", plain, sopro, mimi, tiny.checkpoint(arch) / "tokenizer")
    weights = Weights(TensorFile(tmp_path / "m.safetensors"))
    for part, model in (
        (plan_sopro(sopro), read_sopro(ARCHITECTURES[arch], sopro)),
        (plan_mimi(mimi), load_model(mimi)),
    ):
        fake.quantise(model, part, recipe)
        names, sources = list(model.state_dict()), dict.fromkeys(m.source for m in part.matrices)
        for source in sources:
            modules = [model.get_submodule(name.rpartition(".")[0]) for name in fnmatch.filter(names, source)]
            rows = torch.cat([module.matrix() for module in modules]).detach().numpy()
            files = [m for m in part.matrices if m.source == source]
            stored = [weights.table(m.name, m.rows, m.inputs, m.taps).dequantize() for m in files]
            assert np.array_equal(rows, np.concatenate(stored)), source


# ---------------------------------------------------------------- of what a model says of itself


@pytest.fixture(scope="module", params=tiny.ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def work(arch: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a tiny model says of itself."""
    folder = tmp_path_factory.mktemp("distil")
    sampled.make(config(arch, folder), folder)
    return folder


def config(arch: str, folder: Path) -> SimpleNamespace:
    """All stages at toy size."""
    voice = folder / "v.voice.safetensors"
    if not voice.exists():
        tiny.voice(arch, "fp32").save(voice)
    checkpoint = tiny.checkpoint(arch)
    settings = {
        "sample.model": str(tiny.model_file(arch, "fp32")), "sample.voices": [str(voice)], "sample.utterances": 6,
        "sample.most_frames": 12, "data.validation_every": 3,
        "distil.sopro.teacher": str(tiny.sopro_file(arch)), "distil.codec.teacher": str(checkpoint / "mimi"),
        "distil.sopro.reference_frames": [4, 8], "distil.sopro.batch": 4, "distil.sopro.steps": 3,
        "distil.sopro.measured": 3, "distil.codec.batch": 2, "distil.codec.frames": 4, "distil.codec.steps": 3,
        "distil.codec.measured": 3,
    }  # fmt: skip
    return load_config(None, tuple(f"{k}={json.dumps(v)}" for k, v in settings.items()))


def test_interrupted_samples_are_the_same(arch: str, work: Path, tmp_path: Path) -> None:
    cfg = config(arch, tmp_path)
    cfg.sample.voices = config(arch, work).sample.voices
    cfg.sample.utterances = 4
    sampled.make(cfg, tmp_path)
    with open(tmp_path / "sampled" / "codes.u16", "ab") as file:
        file.write(b"junk")
    cfg.sample.utterances = 6
    sampled.make(cfg, tmp_path)
    for name in ("codes.u16", "index.jsonl"):
        assert (tmp_path / "sampled" / name).read_bytes() == (work / "sampled" / name).read_bytes()
    held = sampled.Sampled(work, 3)
    assert sorted(held.train + held.validation) == list(range(6)) and held.validation == [0, 3]
    crop = held.crop([1], 40, np.random.default_rng(1))  # longer than what was said
    assert torch.equal(crop[: len(held.codes(1))], held.codes(1)) and torch.equal(crop[-1], held.codes(1)[-1])


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_a_rounded_sopro_says_what_the_engine_says(arch: str, recipe: str, work: Path, tmp_path: Path) -> None:
    """Logits of teacher-forced codes, of all parts at once: the rounded student is nearer to the engine than floats."""
    held, path = sampled.Sampled(work, 3), tiny.sopro_file(arch)
    codes, voice = held.codes(1), tiny.voice(arch, "fp32").codes
    folder, plain = tiny.checkpoint(arch), replace(load_recipe(recipe), rounding="plain")
    convert(tmp_path / "m.safetensors", plain, path, folder / "mimi", folder / "tokenizer")
    tts = open_model(tmp_path / "m.safetensors", threads=1, ops="numpy")
    forced = ForcedInputs(held.entries[1]["text"], None, voice, codes.numpy())
    engine = run_forced(tts, forced, free=False)
    model, batched = distil_sopro.read(path)
    batch = distil_sopro.batch_of(held, [1], len(voice), np.random.default_rng(0))
    batch = batch._replace(ref=torch.from_numpy(voice.astype(np.int64))[None])
    snr = []
    for rounded in (False, True):
        if rounded:
            fake.quantise(model, plan_sopro(path), load_recipe(recipe))
        with torch.inference_mode():
            shares = dict.fromkeys(model.stage_books, slice(0, 1))
            found = distil_sopro.answers(batched, batch, batch.ref, batch.codes, shares)
        others = torch.stack([found.others[k] for k in sorted(found.others)], 1).numpy()
        snr.append((logit_snr(engine.ar, found.first[: len(codes)].numpy()), logit_snr(engine.nar, others)))
    assert min(snr[1]) > 35 and all(b > a + 15 for a, b in zip(*snr, strict=True)), snr


@pytest.mark.parametrize("recipe", ["int8", "int4", MIXED], ids=str)
def test_a_rounded_codec_decodes_what_the_engine_decodes(recipe: str | Recipe, tmp_path: Path) -> None:
    recipe = replace(load_recipe(recipe) if isinstance(recipe, str) else recipe, rounding="plain")
    mimi = tiny.checkpoint("v1.5") / "mimi"
    convert(tmp_path / "m.safetensors", recipe, mimi=mimi)
    model = load_model(mimi).eval()
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 64, (1, 6, 8)))
    engine = open_model(tmp_path / "m.safetensors", threads=1, ops="numpy").decode(codes[0].numpy())
    snrs = []
    for rounded in (False, True):
        if rounded:
            fake.quantise(model, plan_mimi(mimi), recipe)
        with torch.inference_mode():
            snrs.append(snr(engine, distil_codec.decoded(model, codes)[1][0].numpy()))
    assert snrs[1] > max(40, snrs[0] + 15), snrs


# ---------------------------------------------------------------- pruning


@given(size=st.integers(2, 12), extra=st.integers(1, 6), seed=SEEDS)
def test_what_others_say_as_well_goes_first(size: int, extra: int, seed: int) -> None:
    """Channels that are sums of others cost nothing: as many as there are can go, and readers lose next to nothing."""
    x = normal(seed, 300, size).astype(np.float64)
    mixed = np.concatenate([x, x @ normal(seed + 1, size, extra)], 1)[
        :, np.random.default_rng(seed).permutation(size + extra)
    ]
    readers = [normal(seed + i, 3, size + extra).astype(np.float64) for i in (2, 3)]
    moment = mixed.T @ mixed
    with patch.object(prune, "DAMPING", 1e-5):
        kept = prune.survivors([moment, moment], [w.T @ w for w in readers], size)
        merged = prune.making_up(moment, kept)
    assert len(set(kept)) == size
    for w in readers:
        error = mixed @ w.T - mixed[:, kept] @ (w @ merged).T
        assert np.square(error).mean() < 1e-3 * np.square(mixed @ w.T).mean()
    x[:, 0] = 0
    with patch.object(prune, "DAMPING", 1e-9):
        left = prune.survivors([x.T @ x], [readers[0][:, :size].T @ readers[0][:, :size]], size - 1)
    assert 0 not in left


def test_making_up_is_worth_it() -> None:
    """Against the same number of channels chosen by size and merely cut out."""
    x = normal(1, 500, 12).astype(np.float64) @ normal(2, 12, 12).astype(np.float64)
    w = normal(3, 5, 12).astype(np.float64)
    moment, wanted = x.T @ x, x @ w.T
    kept = prune.survivors([moment], [w.T @ w], 6)
    ours = x[:, kept] @ (w @ prune.making_up(moment, kept)).T - wanted
    largest = np.argsort(-np.square(w).sum(0) * np.diag(moment))[:6]
    cut = x[:, largest] @ w[:, largest].T - wanted
    assert np.square(ours).mean() < 0.5 * np.square(cut).mean()


def doubled(folder: Path, target: Path) -> None:
    """A Mimi with every channel of its SEANets twice, read with shares of the old weights: it computes the same."""
    model = load_model(folder).eval()
    rng = np.random.default_rng(1)
    for half in ("encoder", "decoder"):
        for group in prune.of_seanet(getattr(model, half), half):
            for name in group.writers:
                writer = model.get_submodule(name)
                axis = 1 if isinstance(writer, torch.nn.ConvTranspose1d) else 0
                writer.weight.data = torch.cat([writer.weight.data] * 2, axis)
                writer.bias.data = torch.cat([writer.bias.data] * 2)
            for name in group.readers:
                reader = model.get_submodule(name)
                share = float(rng.uniform(0.2, 0.8))
                axis = 0 if isinstance(reader, torch.nn.ConvTranspose1d) else 1
                reader.weight.data = torch.cat([share * reader.weight.data, (1 - share) * reader.weight.data], axis)
    config_ = deepcopy(model.config)
    config_.num_filters *= 2
    twice = type(model)(config_)
    twice.load_state_dict(model.state_dict())
    twice.save_pretrained(target)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("shortcut", [False, True])
def test_a_doubled_codec_is_pruned_to_what_it_was(blocks: int, shortcut: bool, tmp_path: Path) -> None:
    """Streams are cut at the same channels wherever they are read or added to; encoder and decoder."""
    settings = json.loads((tiny.checkpoint("v1.5") / "mimi" / "config.json").read_text())
    settings |= {"num_residual_layers": blocks, "use_conv_shortcut": shortcut, "upsampling_ratios": [8, 6, 20]}
    torch.manual_seed(1)
    small = MimiModel(MimiConfig(**settings))
    small.save_pretrained(tmp_path / "small")
    doubled(tmp_path / "small", tmp_path / "large")
    large = load_model(tmp_path / "large").eval()
    codes = torch.from_numpy(np.random.default_rng(2).integers(0, 64, (2, 8, 8)))
    with patch.object(prune, "DAMPING", 1e-4):
        back, kept = distil_codec.pruned(large, settings["num_filters"], [codes])
    assert [len(k) for k in kept] == [settings["num_filters"] * 2**i for i in (3, 2, 1, 0)]
    with torch.inference_mode():
        wave = distil_codec.decoded(large, codes)[1]
        assert snr(wave.numpy().ravel(), distil_codec.decoded(back, codes)[1].numpy().ravel()) > 40
        latents = distil_codec.encoded(large, wave)
        assert snr(latents.numpy().ravel(), distil_codec.encoded(back, wave).numpy().ravel()) > 40


# ---------------------------------------------------------------- the stages


def test_a_pruned_model_is_an_ordinary_one(arch: str, work: Path, tmp_path: Path) -> None:
    """Pruned, saved, loaded by transformers, converted and heard; narrower everywhere, and not far from its teacher."""
    cfg = config(arch, work)
    cfg.distil.sopro.steps = cfg.distil.codec.steps = 1
    for stage in (distil_sopro.prune_stage, distil_codec.prune_stage):
        stage(cfg, work)
    model = MimiModel.from_pretrained(work / "prune-codec" / "mimi").eval()
    assert model.config.num_filters == 2 == model.decoder.layers[-1].conv.in_channels
    sopro = distil_sopro.read(work / "prune-sopro" / "model.safetensors")[0]
    widths = {m.ff[1].out_features for m in sopro.modules() if isinstance(m, prune.SSMLiteBlock)}
    assert widths == {2 * sopro.cfg.d_model}
    convert(
        tmp_path / "m.safetensors", load_recipe("int8"), work / "prune-sopro" / "model.safetensors",
        work / "prune-codec" / "mimi", tiny.checkpoint(arch) / "tokenizer",
    )  # fmt: skip
    full = tiny.model_file(arch, "int8").stat().st_size
    assert (tmp_path / "m.safetensors").stat().st_size < full
    tts = open_model(tmp_path / "m.safetensors", threads=1)
    voice = tts.voice(tiny.checkpoint(arch) / "ref.wav")
    wave = tts.synthesize("Hello there.", voice=voice, max_frames=5, seed=1)
    assert len(wave) and np.isfinite(wave).all()
    assert snr(*forced(arch, work, work / "prune-sopro" / "model.safetensors")) > 3
    whole = tiny.model(arch, "fp32")  # its ears are better: codes mean the same to both
    lent = tts.voice_from_codes(whole.voice(tiny.checkpoint(arch) / "ref.wav").codes)
    assert len(tts.synthesize("Hello there.", voice=lent, max_frames=5, seed=1))
    cfg.distil.codec.student, cfg.distil.sopro.student = (
        str(work / name) for name in ("prune-codec/mimi", "prune-sopro/model.safetensors")
    )
    for stage in (distil_sopro.quantise_stage, distil_codec.quantise_stage):
        stage(cfg, work)
    assert MimiModel.from_pretrained(work / "quantise-codec" / "mimi").config.num_filters == 2
    cfg.prune.codec = 0.25
    with pytest.raises(SystemExit, match="prune-codec: was made"):
        distil_codec.prune_stage(cfg, work)


def test_feed_forwards_must_fit_together(arch: str, tmp_path: Path) -> None:
    """Any width is taken, and only one."""
    source = tiny.sopro_file(arch)
    with safe_open(source, "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    for name in ("weight", "bias"):
        tensors[f"ar.blocks.0.ff.1.{name}"] = tensors[f"ar.blocks.0.ff.1.{name}"][:5].copy()
    save_file(tensors, tmp_path / "s.safetensors", metadata)
    with pytest.raises(ConvertError, match=r"ar\.blocks\.0\.ff\.3\.weight has shape"):
        plan_sopro(tmp_path / "s.safetensors")


def test_lessons_and_teachers_must_be_there(arch: str, tmp_path: Path) -> None:
    cfg = config(arch, tmp_path)
    with pytest.raises(SystemExit, match=r"tools\.train sample"):
        distil_sopro.quantise_stage(cfg, tmp_path)
    cfg.prune.sopro = 50
    with pytest.raises(SystemExit, match=r"prune\.sopro = 50"):
        distil_sopro.prune_stage(cfg, tmp_path)
    cfg.distil.codec.teacher = str(tmp_path / "nothing")
    with pytest.raises(SystemExit, match=r"distil\.codec\.teacher"):
        distil_codec.quantise_stage(cfg, tmp_path)


def forced(arch: str, work: Path, student: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the teacher and of a student, of the same codes."""
    held, found = sampled.Sampled(work, 3), []
    for path in (tiny.sopro_file(arch), student):
        model, batched = distil_sopro.read(path)
        batch = distil_sopro.batch_of(held, [1], 8, np.random.default_rng(0))
        with torch.inference_mode():
            shares = dict.fromkeys(model.stage_books, slice(0, 1))
            found.append(distil_sopro.answers(batched, batch, batch.ref, batch.codes, shares).first.numpy().ravel())
    return found[0], found[1]


Kind = Callable[[SimpleNamespace, Path, Path], Trainer]


def all_int4(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text('{"name": "all", "rules": [["*", "int4"]]}')
    return folder / "recipe.json"


def sopro_trainer(cfg: SimpleNamespace, work: Path, folder: Path) -> Trainer:
    own = cfg.distil.sopro
    return distil_sopro.SoproDistiller(
        "s", own, folder, sampled.Sampled(work, 3), Path(own.teacher), str(all_int4(folder))
    )


def codec_trainer(cfg: SimpleNamespace, work: Path, folder: Path) -> Trainer:
    own = cfg.distil.codec
    return distil_codec.CodecDistiller(
        "c", own, folder, sampled.Sampled(work, 3), Path(own.teacher), str(all_int4(folder))
    )


KINDS = [("v1", sopro_trainer), ("v1.5", sopro_trainer), ("v1.5", codec_trainer)]


@pytest.mark.parametrize(("arch", "kind"), KINDS, indirect=["arch"])
def test_interrupted_distillation_gives_the_same_weights(kind: Kind, arch: str, work: Path, tmp_path: Path) -> None:
    cfg = config(arch, work)
    cfg.distil.codec.frozen = ["decoder.layers.0.*"]
    first = kind(cfg, work, tmp_path)
    untrained = {name: tensor.clone() for name, tensor in first.modules.state_dict().items()}
    for _ in range(2):
        assert all(np.isfinite(value) for value in first.train_step().values())
    changed = [name for name, tensor in first.modules.state_dict().items() if not torch.equal(tensor, untrained[name])]
    assert len(changed) > len(untrained) / 4
    assert not any(name.startswith("decoder.layers.0.") for name in changed)
    first.checkpoints.save(first.step)
    first.train_step()
    second = kind(cfg, work, tmp_path)
    assert second.step == 2
    second.run()
    for (name, a), b in zip(first.modules.state_dict().items(), second.modules.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert (tmp_path / "model.safetensors").exists() or (tmp_path / "mimi" / "config.json").exists()


@pytest.mark.parametrize(("arch", "kind"), KINDS, indirect=["arch"])
def test_a_student_comes_nearer_to_its_teacher(kind: Kind, arch: str, work: Path, tmp_path: Path) -> None:
    """int4 everywhere, by validation figures: twelve steps leave less of the distance than rounding made."""
    cfg = config(arch, work)
    for own in (cfg.distil.sopro, cfg.distil.codec):
        own.steps, own.warmup, own.learning_rate = 12, 2, 2e-3
        own.corruption, own.windows = [0.0, 0.01], [240]
    trainer = kind(cfg, work, tmp_path)
    figures = []
    for steps in (0, 12):
        for _ in range(steps):
            trainer.train_step()
        with torch.no_grad():
            figures.append(trainer.validate())
    for name in ("ar", "nar") if kind is sopro_trainer else ("mel", "complex"):
        assert figures[1][name] < 0.95 * figures[0][name], (name, figures)
