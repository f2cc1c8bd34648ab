"""The model inside the package: speaks if no other is named, says so once, has voices of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

import sopro_np
from sopro_np import locate
from sopro_np.cli.main import main
from sopro_np.errors import SoproWarning, UsageError
from sopro_np.wav import write_wav

Warned = pytest.WarningsRecorder


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model as the embedded one, with its voice."""
    path = tmp_path / "assets" / "demo.safetensors"
    path.parent.mkdir()
    shutil.copy(tiny.model_file("v1.5"), path)
    tiny.voice("v1.5").save(path.with_name(f"{locate.EMBEDDED_VOICE}{locate.VOICE_SUFFIX}"))
    monkeypatch.setattr(locate, "EMBEDDED", path)
    monkeypatch.delenv("SOPRO_NP_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    locate._say_that_it_is_embedded.cache_clear()
    return path


def test_two_words_are_enough(embedded: Path, recwarn: Warned) -> None:
    first = sopro_np.synthesize("Hello.", seed=1, max_frames=4)
    assert first.size and np.isfinite(first).all()
    assert np.array_equal(first, sopro_np.synthesize("Hello.", voice=locate.EMBEDDED_VOICE, seed=1, max_frames=4))
    assert sum(issubclass(w.category, SoproWarning) for w in recwarn) == 1


def test_say_without_model_and_voice(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["say", "Hello.", "--max-frames", "4", "--seed", "1", "-q"]) == 0
    assert Path("sopro.wav").stat().st_size > 1000
    assert not capsys.readouterr().out
    assert main(["say", "Hello.", "--voice", "nobody"]) == 2
    assert locate.EMBEDDED_VOICE in capsys.readouterr().err, "the embedded voices are named"


def test_a_recording_or_a_voice_goes_before_the_embedded_one(embedded: Path, tmp_path: Path) -> None:
    """The codes that are spoken after are those of the recording, not of the embedded voice."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(48000).astype(np.float32)
    write_wav(tmp_path / "me.wav", noise)
    tts = sopro_np.load()
    mine = tts.voice(tmp_path / "me.wav")
    mine.save(tmp_path / "me.voice.safetensors")
    options = {"seed": 1, "max_frames": 4}
    wanted = tts.synthesize("Hello.", mine, **options)
    assert np.array_equal(wanted, sopro_np.synthesize("Hello.", ref=tmp_path / "me.wav", **options))
    assert np.array_equal(wanted, sopro_np.synthesize("Hello.", voice=tmp_path / "me.voice.safetensors", **options))
    assert not np.array_equal(wanted, sopro_np.synthesize("Hello.", **options))
    with pytest.raises(UsageError, match="not both"):
        sopro_np.synthesize("Hello.", ref="me.wav", voice="me")


def test_an_evaluation_needs_no_voice_either(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--count", "1", "--seeds", "1", "--max-frames", "4", "--json", "-", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"]["voices"] == [locate.EMBEDDED_VOICE]


def test_other_models_go_before_it_and_have_no_voice_of_their_own(
    embedded: Path, monkeypatch: pytest.MonkeyPatch, recwarn: Warned, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded voices belong to the embedded model: with another one they are refused by their fingerprints."""
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file("v1")))
    assert locate.find_model(None) == tiny.model_file("v1")
    assert not list(recwarn)
    assert main(["say", "Hello."]) == 2
    assert "--voice" in capsys.readouterr().err
    assert main(["say", "Hello.", "--voice", locate.EMBEDDED_VOICE]) == 1
    assert "another sopro checkpoint" in capsys.readouterr().err


def test_what_is_shipped() -> None:
    """Small, complete, and it ends its sentences by itself, at a pace of speech, in every voice."""
    assert locate.EMBEDDED.stat().st_size <= 8e6
    tts, text = sopro_np.load(locate.EMBEDDED), "the cat sat on the mat."
    names = locate._voices_in(locate.EMBEDDED.parent)
    assert locate.EMBEDDED_VOICE in names and 2 <= len(names) <= 4
    spoken = {name: tts.synthesize(text, tts.load_voice(name), seed=1, max_frames=100) for name in names}
    for name, wav in spoken.items():
        assert 0.8 < len(wav) / tts.sample_rate < 4, name
        assert 0.01 < wav.std() < 0.3, name
    assert len({wav.tobytes() for wav in spoken.values()}) == len(names)


def test_without_it_the_error_says_how_to_get_a_model(embedded: Path) -> None:
    embedded.unlink()
    with pytest.raises(UsageError, match="download"):
        locate.find_model(None)
