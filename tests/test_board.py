"""Files for boards: without what only hears, with a vocabulary of one script, with 16-bit tables."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serving
import tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

sys.path.insert(0, str(tiny.ROOT / "tools"))

from random_checkpoint import tokenizer as random_tokenizer

from sopro_np.bench import run
from sopro_np.cli.main import main
from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import BUILT_IN, Recipe, load_recipe
from sopro_np.convert.tokenizer import byte_characters, compile_tokenizer
from sopro_np.convert.vocabulary import limited
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import ConvertError, FormatError, UsageError
from sopro_np.serve.voices import UnknownVoice, VoiceShelf
from sopro_np.tokenizer import PREFIX, Tokenizer

reference = pytest.importorskip("tokenizers")

ALL = (("*", "int8"),)
SAID = "Two words, thrée!"
REMEDY = "sopro-np voice REC -m FULL -o NAME.voice.safetensors"
FOREIGN = "Привет, Ω 你好 שלום"


def build(folder: Path, recipe: Recipe, name: str = "model.safetensors", arch: str = "v1.5") -> Path:
    source = tiny.checkpoint(arch)
    convert(folder / name, recipe, tiny.sopro_file(arch), source / "mimi", source / "tokenizer")
    return folder / name


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model whole, limited in each way alone, and as the built-in recipe has it; the voice of its recording."""
    folder = tmp_path_factory.mktemp("board")
    ways: dict[str, dict[str, Any]] = {
        "whole": {}, "speaks": {"speak_only": True}, "latin": {"vocabulary": "latin"}, "tables": {"tables": "fp16"},
    }  # fmt: skip
    made = {name: build(folder, Recipe(name, ALL, **way), f"{name}.safetensors") for name, way in ways.items()}
    made["board"] = build(folder, BUILT_IN["board"], "board.safetensors")
    with open_model(made["whole"], 1) as tts:
        tts.voice(tiny.checkpoint("v1.5") / "ref.wav").save(made.setdefault("voice", folder / "me.voice.safetensors"))
    return made


def said(file: Path, voice: Path, **options: Any) -> np.ndarray:
    with open_model(file, 1) as tts:
        return tts.synthesize(SAID, tts.load_voice(voice), seed=3, max_frames=12, guard=False, **options)


# ---------------------------------------------------------------- what is in a file


def test_what_only_hears_is_left_out(files: dict[str, Path]) -> None:
    """Nothing else is, the voice of the full file is taken, and the same is said, bit for bit."""
    with safe_open(files["whole"], "np") as whole, safe_open(files["speaks"], "np") as speaks:
        gone, metadata = set(whole.keys()) - set(speaks.keys()), speaks.metadata()
        assert all(np.array_equal(speaks.get_tensor(name), whole.get_tensor(name)) for name in set(speaks.keys()))
    heads = {name.split(".")[1] for name in gone}
    assert heads == {"encoder", "encoder_transformer", "downsample", "quantizer"}
    assert {name.rsplit(".", 1)[0] for name in gone if ".quantizer." in name} == {
        "mimi.quantizer.semantic.input", "mimi.quantizer.acoustic.input",
    }  # fmt: skip
    assert metadata["speak_only"] == "true" and metadata["format_version"] == "2"
    assert np.array_equal(said(files["speaks"], files["voice"]), said(files["whole"], files["voice"]))


def test_limited_vocabulary_says_the_same(files: dict[str, Path]) -> None:
    for normalise in (True, False):
        sound = said(files["whole"], files["voice"], normalise=normalise)
        assert np.array_equal(said(files["latin"], files["voice"], normalise=normalise), sound)


def test_tables_of_16_bit(files: dict[str, Path]) -> None:
    """Exactly the rounded table is added."""
    with open_model(files["whole"], 1) as whole, open_model(files["tables"], 1) as tables:
        for part in ("text", "condition"):
            full, half = (getattr(tts.model, part).positions for tts in (whole, tables))
            assert half.dtype == np.float16 and np.array_equal(half, full.astype(np.float16))
        ids = whole.tokenizer.encode(SAID)
        step = tables.model.text.embed(ids) - whole.model.text.embed(ids)
        assert 0 < np.abs(step).max() <= 2**-11


def test_files_without_anything_new_are_read_by_older_programs(files: dict[str, Path]) -> None:
    with safe_open(files["whole"], "np") as file:
        metadata = file.metadata()
    assert metadata["format_version"] == "1" and not {"speak_only", "vocabulary"} & set(metadata)
    assert json.loads(metadata["recipe"]) == {"name": "whole", "rules": [["*", "int8"]]}
    settings = tiny.header(files["whole"])
    assert "alphabet" not in json.loads(open_model(files["whole"]).file["tokenizer.settings"].tobytes()), settings[1]


@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_board_speaks(tmp_path: Path, arch: str) -> None:
    file = build(tmp_path, BUILT_IN["board"], arch=arch)
    voice = tmp_path / "me.voice.safetensors"
    tiny.voice(arch).save(voice)
    wav = said(file, voice)
    assert len(wav) and np.isfinite(wav).all() and np.abs(wav).max() > 0
    with open_model(file, 1) as tts:
        assert not tts.mimi.hears and tts.warm_up() > 0


def test_info_tells(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(files["board"])]) == 0
    out = capsys.readouterr().out
    assert "recipe board" in out and "only speaks" in out and "Latin text" in out
    assert main(["info", "--json", str(files["board"])]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["speak_only"], facts["vocabulary"]) == (True, "latin")
    assert main(["info", "--json", str(files["whole"])]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["speak_only"], facts["vocabulary"]) == (False, None)


def test_bench_leaves_out_the_voice(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "cold_start", lambda *_: (0.0,))  # other processes, which say nothing about this
    monkeypatch.setattr(run, "stream_memory", lambda *_: {})
    result = run.bench(files["board"], frames=2, runs=1, threads=1, ops_name="numpy")
    assert "voice_s" not in result and result["rtf"] > 0


# ---------------------------------------------------------------- asked for a voice


def commands(files: dict[str, Path], folder: Path) -> dict[str, list[str]]:
    ref, model = str(tiny.checkpoint("v1.5") / "ref.wav"), str(files["board"])
    lines = folder / "lines.txt"
    lines.write_text("One.\nTwo.\n")
    return {
        "say": ["say", "Hello.", "--model", model, "--ref", ref, "-o", str(folder / "out.wav")],
        "voice": ["voice", ref, "-m", model, "-o", str(folder / "new.voice.safetensors")],
        "batch": ["batch", str(lines), "--model", model, "--ref", ref, "-o", str(folder / "out")],
    }  # fmt: skip


@pytest.mark.parametrize("command", ["say", "voice", "batch"])
def test_a_recording_is_refused(
    files: dict[str, Path], tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, the remedy, and nothing is there that was not there before."""
    words = commands(files, tmp_path)[command]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "only speaks" in error and REMEDY in error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "lines.txt"]


def test_the_remedy_works(files: dict[str, Path], tmp_path: Path) -> None:
    ref, voice = str(tiny.checkpoint("v1.5") / "ref.wav"), str(tmp_path / "a.voice.safetensors")
    assert main(["voice", ref, "-m", str(files["whole"]), "-o", voice, "-q"]) == 0
    out = tmp_path / "out.wav"
    words = ["say", "Hello.", "--model", str(files["board"]), "--voice", voice, "--max-frames", "4", "-q"]
    assert main([*words, "-o", str(out)]) == 0 and out.stat().st_size > 44


def test_from_python_too(files: dict[str, Path]) -> None:
    with open_model(files["board"], 1) as tts:
        for ask in (lambda: tts.voice(np.zeros(24000, np.float32)), lambda: tts.voice("nowhere.wav"),
                    lambda: tts.mimi.encode(np.ones(24000, np.float32)), lambda: tts.mimi.most_frames):  # fmt: skip
            with pytest.raises(UsageError, match="only speaks"):
                ask()


def test_a_server_has_no_voices_of_recordings(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "echo.wav").write_bytes(b"")  # a name of OpenAI's is the default only if nothing has it
    (tmp_path / "ann.wav").write_bytes((tiny.checkpoint("v1.5") / "ref.wav").read_bytes())
    (tmp_path / "me.voice.safetensors").write_bytes(files["voice"].read_bytes())
    with open_model(files["board"], 1) as tts, open_model(files["whole"], 1) as whole:
        shelf = VoiceShelf(tts, tmp_path, aliases={"nova": "ann"})
        assert shelf.names() == ["me"] and shelf.unheard() == ["ann", "echo"] and len(shelf.get("me").codes)
        for name in ("ann", "ANN", "nova", "echo"):
            with pytest.raises(UnknownVoice, match="only speaks"):
                shelf.get(name)
        with pytest.raises(UnknownVoice, match="there is no voice 'bob'"):
            shelf.get("bob")
        for data in ((tmp_path / "ann.wav").read_bytes(), b"no sound"):
            with pytest.raises(UsageError, match="only speaks"):
                shelf.add("new", data)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ann.wav", "echo.wav", "me.voice.safetensors"]
        full = VoiceShelf(whole, tmp_path)
        assert full.names() == ["ann", "echo", "me"] and full.unheard() == []


def test_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list says that nothing can be added, an upload and a recording get the remedy, others are served."""
    tts = serving.quick("v1.5")
    parts = tts._open
    assert parts.mimi is not None
    monkeypatch.setattr(tts, "_parts", dataclasses.replace(parts, mimi=dataclasses.replace(parts.mimi, encoding=None)))
    with serving.serving(tmp_path) as live:
        listed = live.shared.get("/v1/audio/voices").json()
        assert listed["hears"] is False and [voice["id"] for voice in listed["voices"]] == [serving.VOICE]
        sample = {"audio_sample": ("two.wav", (tmp_path / "two.wav").read_bytes())}
        added = live.shared.post("/v1/audio/voices", data={"name": "new", "consent": "yes"}, files=sample)
        asked = live.post(input="Hello.", voice="two")
        assert (added.status_code, asked.status_code) == (400, 404)
        assert all(REMEDY in serving.error_of(answer)["message"] for answer in (added, asked))
        assert live.post(input="Hello.", voice=serving.VOICE).status_code == 200
        assert not (tmp_path / "new.voice.safetensors").exists()


# ---------------------------------------------------------------- the vocabulary


def spec(scripts: bool = True, **model: Any) -> dict[str, Any]:
    """A tokenizer.json with words of ten scripts, as the random checkpoints of size `published` have."""
    content = random_tokenizer.tokenizer("tiny")
    vocabulary, merges = random_tokenizer.bpe(6000, scripts)
    content["model"] |= {"vocab": vocabulary, "merges": merges} | model
    content["added_tokens"] = [{**t, "id": 6000 + i} for i, t in enumerate(content["added_tokens"])]
    foreign = {**content["added_tokens"][0], "id": 6000 + len(content["added_tokens"]), "content": "конец"}
    content["added_tokens"].append(foreign)
    return content


def pair(content: dict[str, Any], folder: Path) -> tuple[Tokenizer, Any, np.ndarray, dict[str, np.ndarray]]:
    """Ours, limited to Latin; the reference, not limited; the ids that are left; and the tables."""
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(content))
    tables, ids = limited(compile_tokenizer(file, bos=1, eos=2), "latin")
    return Tokenizer(tables), reference.Tokenizer.from_file(str(file)), ids, tables


KINDS: dict[str, dict[str, Any]] = {
    "taken whole": {},
    "merged": {"ignore_merges": False},
    "normalised": {},
    "gaps": {},
    "unknown": {},
}


@pytest.fixture(scope="module", params=KINDS)
def limited_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    content = spec(**KINDS[request.param])
    if request.param == "normalised":
        content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}
    if request.param in ("gaps", "unknown"):  # bytes without an id: their neighbours meet, or unk does
        lost = {byte_characters()[byte] for byte in (0x65, 0xC3, 0x20)}
        model = content["model"]
        model["vocab"] = {t: k for k, t in enumerate(t for t in model["vocab"] if not lost & set(t))}
        known = model["vocab"]
        model["merges"] = (
            [m for m in model["merges"] if {*m.split(), m.replace(" ", "")} <= known.keys()]
            if all(isinstance(m, str) for m in model["merges"])
            else [m for m in model["merges"] if {m[0], m[1], m[0] + m[1]} <= known.keys()]
        )
        size = len(known)
        content["added_tokens"] = [{**t, "id": size + i} for i, t in enumerate(content["added_tokens"])]
        if request.param == "unknown":
            model["unk_token"] = "a"
    return pair(content, tmp_path_factory.mktemp("vocabulary"))


def check(limited_pair: Any, text: str) -> None:
    ours, theirs, ids, _ = limited_pair
    expected = theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode(text).tolist() == [1, *expected, 2], ascii(text)
    assert {1, 2, *expected} <= set(ids.tolist()), ascii(text)


# Texts of the alphabet: every character of it is tried in the corpus, hypothesis puts them beside one another.
LETTERS = st.characters(max_codepoint=0x24F, exclude_categories=["Cs", "Cn"])
MARKS = st.sampled_from(
    "\u0301\u0323\u0308\u2019\u201c\u2014\u20ac\u2122\u00b5\u00bd\ufb01\u212a\u1e9e\U0001f600\U0001f3fd\u200d"
)
PIECES = st.one_of(
    st.text(st.one_of(LETTERS, MARKS), max_size=12),
    st.sampled_from(
        ["the ", " hello", "World", "  ", "\n\n", "123", "don't", "<|begin_of_text|>", "naïve", "Ångström"]
    ),
)


@given(pieces=st.lists(PIECES, max_size=8))
def test_same_ids_for_latin_text(limited_pair: Any, pieces: list[str]) -> None:
    ours, text = limited_pair[0], "".join(pieces)
    text = "".join(c for c in text if not ours._unknown.search(c))
    check(limited_pair, text)


def test_same_ids_for_a_corpus(limited_pair: Any) -> None:
    """Every character of the alphabet in turn, alone, among letters and in a row; and English of this package."""
    ours = limited_pair[0]
    known = [c for c in map(chr, range(0x110000)) if not 0xD800 <= ord(c) < 0xE000 and not ours._unknown.search(c)]
    assert 10_000 < len(known) < 13_000
    for a in range(0, len(known), 40):
        row = known[a : a + 40]
        check(limited_pair, "".join(row))
        check(limited_pair, " ".join(f"a{c}e {c}" for c in row[::4]))
    for line in (tiny.ROOT / "README.md").read_text("utf-8").splitlines():
        check(limited_pair, "".join(c for c in line if not ours._unknown.search(c)))


def test_other_scripts_are_gone(tmp_path: Path) -> None:
    """Of a vocabulary of which half is other scripts about half is left; without them, all but a few bytes."""
    ours, theirs, ids, tables = pair(spec(), tmp_path)
    assert 0.4 * theirs.get_vocab_size() < len(ids) < 0.65 * theirs.get_vocab_size()
    words = {i: theirs.id_to_token(i) for i in range(theirs.get_vocab_size())}
    assert {"Ġhello", "é"} <= {words[i] for i in ids} | {"é"} and "конец" not in {words[i] for i in ids}
    assert len(tables[PREFIX + "merges"]) < 0.65 * len(
        compile_tokenizer(tmp_path / "tokenizer.json", bos=1, eos=2)[PREFIX + "merges"]
    )
    assert ours.vocab_size == theirs.get_vocab_size()  # ids stay what they were
    own, _, kept, _ = pair(spec(scripts=False), tmp_path)
    assert len(kept) > 0.97 * own.vocab_size


@given(text=st.text(max_size=20), odd=st.characters(min_codepoint=0x370, max_codepoint=0x3FF, categories=["Ll", "Lu"]))
def test_other_text_is_refused_by_name(limited_pair: Any, text: str, odd: str) -> None:
    ours = limited_pair[0]
    if odd in "\u03f3\u037f":  # which are of no other script in every version of Unicode
        return
    with pytest.raises(UsageError, match=f"U\\+{ord(odd):04X}"):
        ours.encode(odd + text[:3])


@pytest.mark.parametrize("text", [FOREIGN, "One. Two. Three. " * 20 + "Жук."])
def test_refused_before_anything_is_heard(
    files: dict[str, Path], tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.wav"
    words = ["say", text, "--no-normalise", "--model", str(files["board"]), "--voice", str(files["voice"])]
    assert main([*words, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert "vocabulary of this model file (latin)" in error and "U+04" in error
    assert list(tmp_path.iterdir()) == []
    with open_model(files["board"], 1) as tts:
        voice = tts.load_voice(files["voice"])
        asks: list[Callable[[], object]] = [
            lambda: tts.synthesize(text, voice, normalise=False),
            lambda: next(tts.stream(text, voice, normalise=False)),
            lambda: tts.codes(text, voice),
            lambda: tts.tokenizer.encode(text),
        ]
        for ask in asks:
            with pytest.raises(UsageError, match="U\\+04"):
                ask()


def test_one_line_of_many_is_left_out(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several texts the one that is refused is left out, and named."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("One.\nЖук.\nTwo.\n".encode())))
    words = ["say", "-", "--lines", "--no-normalise", "--model", str(files["board"]), "--voice", str(files["voice"])]
    assert main([*words, "--max-frames", "4", "-o", str(tmp_path / "out.wav")]) == 1
    assert "line 2" in capsys.readouterr().err and (tmp_path / "out.wav").stat().st_size > 44


# ---------------------------------------------------------------- recipes and bad input


def test_command_line_adds_to_any_recipe(tmp_path: Path) -> None:
    source, out = tiny.checkpoint("v1.5"), tmp_path / "m.safetensors"
    words = ["convert", "--sopro", str(tiny.sopro_file("v1.5")), "--mimi", str(source / "mimi"), "-o", str(out)]
    words += ["--tokenizer", str(source / "tokenizer"), "--recipe", "int8", "--speak-only", "--vocabulary", "latin"]
    assert main(words) == 0
    with safe_open(out, "np") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert recipe["name"] == "int8" and recipe["speak_only"] is True and recipe["vocabulary"] == "latin"
    file = tmp_path / "r.json"
    file.write_text(json.dumps(recipe))
    assert json.loads(load_recipe(str(file)).noted) == recipe


def test_a_vocabulary_needs_the_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "--sopro", str(tiny.sopro_file("v1.5")), "--recipe", "board"]
    assert main([*words, "-o", str(tmp_path / "m.safetensors")]) == 2
    assert "--tokenizer" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [{"speak_only": 1}, {"speak_only": "yes"}, {"vocabulary": "greek"}, {"tables": "int8"}, {"tables": []}, {"x": 1}],
)
def test_recipes_that_make_no_sense(tmp_path: Path, more: dict[str, Any]) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"name": "r", "rules": [["*", "int8"]], **more}))
    with pytest.raises(ConvertError, match=next(iter(more))):
        load_recipe(str(file))


def test_damaged_files_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    tensors, metadata, data = tiny.header(files["board"])

    def changed(**other: str) -> Path:
        path = tmp_path / "changed.safetensors"
        path.write_bytes(tiny.pack(tensors, {k: v for k, v in {**metadata, **other}.items() if v}, data))
        return path

    cases: tuple[tuple[dict[str, str], str], ...] = (
        ({"speak_only": "false"}, "mimi.*missing"),
        ({"speak_only": ""}, "mimi.*missing"),
        ({"speak_only": "yes"}, "speak_only"),
        ({"format_version": "3"}, "format version 3, this program reads 1 and 2"),
    )  # fmt: skip
    for other, problem in cases:
        with pytest.raises(FormatError, match=problem):
            Sopro(changed(**other))
    a, b = tensors["sopro.text.rows"]["data_offsets"]
    damaged = np.full((b - a) // 4, 1 << 30, "<i4").tobytes()
    data = data[:a] + damaged + data[b:]
    tts = Sopro(changed())
    with pytest.raises(FormatError, match=r"sopro\.text\.rows"):
        tts.codes("Hello.", tts.load_voice(files["voice"]))


def test_a_whole_file_that_claims_to_speak_only(files: dict[str, Path], tmp_path: Path) -> None:
    tensors, metadata, data = tiny.header(files["whole"])
    path = tmp_path / "claims.safetensors"
    path.write_bytes(tiny.pack(tensors, {**metadata, "speak_only": "true"}, data))
    with pytest.raises(FormatError, match="unexpected tensors: mimi"):
        Sopro(path)
