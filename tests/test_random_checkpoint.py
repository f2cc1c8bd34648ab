"""The random checkpoints have upstream's formats, names and shapes, and equal arguments give equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import python
from safetensors import safe_open

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "make_random_checkpoint.py"
GOLDEN = Path(os.environ.get("SOPRO_NP_GOLDEN", ROOT / "tests" / "golden"))
ARCHS = ["v1", "v1.5"]
TEXT = "Hello, world! 123"


def run_tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return python(TOOL, *arguments)


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in the folder of the tool, whose modules it may import."""
    done = python("-c", code, cwd=TOOL.parent)
    assert done.returncode == 0, done.stderr
    return done


def make(folder: Path, arch: str, seed: int = 3, *more: str) -> Path:
    done = run_tool("--arch", arch, "--size", "tiny", "--seed", str(seed), "-o", folder, *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "parameters" in done.stderr
    return folder


@pytest.fixture(scope="module", params=ARCHS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, make(tmp_path_factory.mktemp("random") / "model", request.param)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Metadata and shapes of a .safetensors file."""
    with safe_open(path, "numpy") as file:
        return file.metadata(), {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def pattern(name: str) -> str:
    """A tensor's name with layer numbers and stage letters replaced by placeholders."""
    return re.sub(r"\.[BCDE](?=\.|$)", ".S", re.sub(r"\d+", "N", name))


def ranks(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Name pattern -> number of axes."""
    return {pattern(name): len(shape) for name, shape in shapes.items()}


def test_sopro_has_upstreams_names_and_shapes(made: tuple[str, Path]) -> None:
    """Widths are golden's own; numbers of layers, stages and text tokens differ."""
    arch, folder = made
    golden = GOLDEN / ("sopro_v1" if arch == "v1" else "sopro_v15") / "tiny" / "checkpoint.safetensors"
    metadata, shapes = header(folder / "sopro" / "model.safetensors")
    golden_metadata, golden_shapes = header(golden)
    cfg, golden_cfg = json.loads(metadata["cfg"]), json.loads(golden_metadata["cfg"])
    assert {k: type(v) for k, v in cfg.items()} == {k: type(v) for k, v in golden_cfg.items()}
    assert ranks(shapes) == ranks(golden_shapes)
    for counted in ("text_enc.embed.emb.weight", "nar.stage_emb.weight"):  # (any number, width)
        if counted in shapes:
            assert shapes.pop(counted)[1:] == golden_shapes.pop(counted)[1:]
    by_pattern: list[dict[str, set]] = [{}, {}]
    for found, side in zip(by_pattern, (shapes, golden_shapes), strict=True):
        for name, shape in side.items():
            counts_heads = name.startswith("nar.head_id_emb.")
            found.setdefault(pattern(name), set()).add(shape[1:] if counts_heads else shape)
    assert by_pattern[0] == by_pattern[1]


def test_sopro_layers_follow_the_config(made: tuple[str, Path]) -> None:
    metadata, shapes = header(made[1] / "sopro" / "model.safetensors")
    cfg = json.loads(metadata["cfg"])
    layers = {int(name.split(".")[2]) for name in shapes if name.startswith("ar.blocks.")}
    assert layers == set(range(cfg["n_layers_ar"]))
    attended = {int(name.split(".")[2]) for name in shapes if name.startswith("ar.x_attns.")}
    assert attended == {i for i in layers if (i + 1) % cfg["ar_text_attn_freq"] == 0}
    heads = re.compile(r"nar\.heads\.\w\.\d+\.weight|stages\.\w\.heads\.\d+\.weight")
    assert sum(bool(heads.fullmatch(name)) for name in shapes) == cfg["num_codebooks"] - 1


def test_sopro_values_are_not_degenerate(made: tuple[str, Path]) -> None:
    with safe_open(made[1] / "sopro" / "model.safetensors", "numpy") as file:
        for name in file.keys():  # noqa: SIM118
            values = file.get_tensor(name)
            assert values.dtype == np.float32, name
            assert np.isfinite(values).all(), name
            assert np.all(values != 0), name
            assert values.size < 4 or values.std() > 0.01, name


def test_full_sizes_are_the_published_ones() -> None:
    """Counted from the plan: nothing of that size is drawn or written here."""
    code = (
        "from random_checkpoint import sopro, mimi; from random_checkpoint.tensors import parameters\n"
        "import numpy as np\n"
        "print(*(parameters(sopro.plan(a, sopro.config(a, size), 128257))"
        "        for size in ('full', 'published') for a in ('v1', 'v1.5')),"
        "parameters(mimi.plan(mimi.config('full', 'f32'), np.random.default_rng(0))))"
    )
    done = run_code(code)
    assert [int(n) for n in done.stdout.split()] == [161_873_012, 132_260_272, 168_990_838, 135_225_520, 96_151_393]


def test_a_whole_folder_is_small(made: tuple[str, Path]) -> None:
    names = ["mimi/config.json", "mimi/model.safetensors", "ref.wav", "sopro/model.safetensors"]
    names += ["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]
    assert list(digests(made[1])) == names
    assert sum((made[1] / name).stat().st_size for name in names) < 3_000_000


def test_equal_arguments_give_equal_bytes(made: tuple[str, Path], tmp_path: Path) -> None:
    arch, folder = made
    assert digests(make(tmp_path / "again", arch)) == digests(folder)
    other = digests(make(tmp_path / "other", arch, 4))
    changed = {name for name, digest in digests(folder).items() if other[name] != digest}
    assert changed == {"mimi/model.safetensors", "sopro/model.safetensors", "ref.wav"}


def test_half_precision_halves_the_tensors(made: tuple[str, Path], tmp_path: Path) -> None:
    arch, folder = made
    half = make(tmp_path / "half", arch, 3, "--dtype", "f16")
    assert json.loads((half / "mimi" / "config.json").read_text())["dtype"] == "float16"
    for part in ("sopro", "mimi"):
        file = Path(part) / "model.safetensors"
        with safe_open(folder / file, "numpy") as wide, safe_open(half / file, "numpy") as narrow:
            assert set(wide.keys()) == set(narrow.keys())
            for name in wide.keys():  # noqa: SIM118
                assert np.array_equal(wide.get_tensor(name).astype(np.float16), narrow.get_tensor(name)), name


def test_mimi_has_the_names_of_a_saved_one(made: tuple[str, Path]) -> None:
    metadata, shapes = header(made[1] / "mimi" / "model.safetensors")
    golden_metadata, golden_shapes = header(GOLDEN / "mimi" / "tiny" / "model.safetensors")
    assert metadata == golden_metadata == {"format": "pt"}
    extra = {f"acoustic_residual_vector_quantizer.layers.{i}." for i in (3, 4, 5, 6)}  # golden has 4 codebooks
    assert {n for n in shapes if not any(e in n for e in extra)} == set(golden_shapes)
    assert ranks(shapes) == ranks(golden_shapes)
    cfg = json.loads((made[1] / "mimi" / "config.json").read_text())
    assert set(cfg) == set(json.loads((GOLDEN / "mimi" / "tiny" / "config.json").read_text()))
    assert 2 * int(np.prod(cfg["upsampling_ratios"])) == 1920
    assert cfg["sampling_rate"] == 24000


def test_mimi_has_unused_codebook_entries(made: tuple[str, Path]) -> None:
    prefix = "quantizer.acoustic_residual_vector_quantizer.layers.0.codebook."
    with safe_open(made[1] / "mimi" / "model.safetensors", "numpy") as file:
        usage, sums = file.get_tensor(prefix + "cluster_usage"), file.get_tensor(prefix + "embed_sum")
    used = usage > 0
    assert 0 < np.count_nonzero(~used) < 5
    assert usage[used].min() >= 0.5
    assert usage.max() <= 2.0
    assert np.abs(sums / np.maximum(usage, 1e-5)[:, None]).max() < 3.0


def test_transformers_loads_and_runs_the_codec(made: tuple[str, Path]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, report = transformers.MimiModel.from_pretrained(made[1] / "mimi", output_loading_info=True)
    assert not any(report.values()), report
    with wave.open(str(made[1] / "ref.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    with torch.no_grad():
        codes = model.eval().encode(torch.from_numpy(pcm / np.float32(32768))[None, None]).audio_codes
        audio = model.decode(codes).audio_values[0, 0].numpy()
    assert codes.shape == (1, 8, 50)
    assert audio.shape == (96000,)
    assert all(len(np.unique(row)) >= 5 for row in codes[0].numpy())
    assert 0.05 < np.abs(audio).max() < 1.0
    assert audio.std() > 0.01


def test_tokenizer_matches_the_library(made: tuple[str, Path]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(made[1] / "tokenizer" / "tokenizer.json"))
    with safe_open(made[1] / "sopro" / "model.safetensors", "numpy") as file:
        assert tokenizer.get_vocab_size() == file.get_slice("text_enc.embed.emb.weight").get_shape()[0] == 513
    encoded = tokenizer.encode(TEXT)
    assert encoded.tokens == ["<|begin_of_text|>", *"Hello", ",", "Ġ", "wor", "l", "d", "!", "Ġ", *"123"]
    for text in (TEXT, "The others' words.\n\nÉté 日本 😀\t x", "  two  spaces ", "don't WE'LL"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def text_of(entry: str) -> str:
    """What an entry of a byte-level vocabulary says; nothing, if it is a part of a letter."""
    from sopro_np.convert.tokenizer import byte_characters

    alphabet = {char: byte for byte, char in enumerate(byte_characters())}
    return bytes(alphabet[char] for char in entry).decode("utf-8", "ignore")


@pytest.mark.parametrize("size", ["tiny", "full", "published"])
def test_every_merge_makes_a_new_entry(size: str) -> None:
    sys.path.insert(0, str(TOOL.parent))
    try:
        from random_checkpoint.tokenizer import SIZES, bpe
    finally:
        sys.path.remove(str(TOOL.parent))
    entries, published = SIZES[size][0] - SIZES[size][1], size == "published"
    vocabulary, merges = bpe(entries, published)
    if published:  # a quarter at least is of other scripts
        assert sum(any(c >= "\u0370" for c in text_of(entry)) for entry in vocabulary) > entries / 4
    assert list(vocabulary.values()) == list(range(entries))
    assert [vocabulary[left + right] for left, right in merges] == list(range(256, entries))
    assert all(max(vocabulary[left], vocabulary[right]) < vocabulary[left + right] for left, right in merges)


def test_tokenizer_config_names_the_special_tokens(made: tuple[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(made[1] / "tokenizer")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (496, 497, 512)
    assert tokenizer.convert_tokens_to_ids("<|finetune_right_pad_id|>") == 500


def test_reference_is_four_seconds_with_pauses(made: tuple[str, Path]) -> None:
    with wave.open(str(made[1] / "ref.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 24000, 96000)
        wav = np.frombuffer(file.readframes(96000), "<i2") / 32767
    level = np.sqrt((wav.reshape(-1, 2400) ** 2).mean(axis=1))  # of every tenth of a second
    voiced = np.flatnonzero(level > 0.02)
    assert np.abs(wav).max() == pytest.approx(0.5, abs=1e-3)
    assert voiced.size > 20
    assert np.any(level[voiced[0] : voiced[-1]] < 0.005)


def test_an_existing_folder_is_refused_or_updated(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "v1")
    (folder / "notes.txt").write_text("mine")
    before = digests(folder)
    refused = run_tool("--arch", "v1", "--size", "tiny", "--seed", "9", "-o", folder)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
    assert "--force" in refused.stderr
    assert digests(folder) == before
    make(folder, "v1.5", 9, "--force")
    after = digests(folder)
    assert after["notes.txt"] == before["notes.txt"]
    assert after["ref.wav"] != before["ref.wav"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing temporary is left


BAD = [("--arch", "v2"), ("--seed", "-1"), ("--size", "huge"), ("-o", __file__)]


@pytest.mark.parametrize(("option", "value"), BAD)
def test_bad_arguments_are_refused(option: str, value: str, tmp_path: Path) -> None:
    good = {"--arch": "v1", "--size": "tiny", "--seed": "0", "-o": str(tmp_path / "out")}
    done = run_tool(*(part for pair in (good | {option: value}).items() for part in pair))
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_tool_needs_numpy_only() -> None:
    """Its process must not even load safetensors, torch, tokenizers or soundfile."""
    code = (
        "import sys, make_random_checkpoint\n"
        "print(sorted({'safetensors', 'torch', 'tokenizers', 'soundfile'} & set(sys.modules)))"
    )
    assert run_code(code).stdout.strip() == "[]"
