"""The model inside the package: speaks if no other is named, says so once, has voices of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

import sopro_np
from sopro_np import models
from sopro_np.cli.main import main
from sopro_np.errors import UsageError

Log = pytest.LogCaptureFixture


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model as the embedded one, with its voice."""
    path = tmp_path / "assets" / "demo.safetensors"
    path.parent.mkdir()
    shutil.copy(tiny.model_file("v1.5"), path)
    tiny.voice("v1.5").save(path.with_name(f"{models.EMBEDDED_VOICE}{models.VOICE_SUFFIX}"))
    monkeypatch.setattr(models, "EMBEDDED", path)
    monkeypatch.delenv("SOPRO_NP_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    models._say_that_it_is_embedded.cache_clear()
    return path


def test_two_words_are_enough(embedded: Path, caplog: Log) -> None:
    first = sopro_np.synthesize("Hello.", seed=1, max_frames=4)
    assert first.size and np.isfinite(first).all()
    assert np.array_equal(first, sopro_np.synthesize("Hello.", voice=models.EMBEDDED_VOICE, seed=1, max_frames=4))
    assert sum("embedded" in r.message for r in caplog.records) == 1


def test_say_without_model_and_voice(embedded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["say", "Hello.", "--max-frames", "4", "--seed", "1", "-q"]) == 0
    assert Path("sopro.wav").stat().st_size > 1000
    assert not capsys.readouterr().out
    assert main(["say", "Hello.", "--voice", "nobody"]) == 2
    assert models.EMBEDDED_VOICE in capsys.readouterr().err, "the embedded voices are named"


def test_a_recording_goes_before_the_embedded_voice(embedded: Path, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(48000).astype(np.float32)
    sopro_np.load().voice(noise).save(tmp_path / "other.voice.safetensors")
    said = [
        sopro_np.synthesize("Hello.", voice=voice, seed=1, max_frames=4)
        for voice in (None, tmp_path / "other.voice.safetensors")
    ]
    assert said[0].shape != said[1].shape or not np.array_equal(*said)
    with pytest.raises(UsageError, match="not both"):
        sopro_np.synthesize("Hello.", ref="me.wav", voice="me")


def test_other_models_go_before_it_and_have_no_voice_of_their_own(
    embedded: Path, monkeypatch: pytest.MonkeyPatch, caplog: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded voices belong to the embedded model: with another one they are refused by their fingerprints."""
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file("v1")))
    assert models.find_model(None) == tiny.model_file("v1")
    assert not caplog.records
    assert main(["say", "Hello."]) == 2
    assert "--voice" in capsys.readouterr().err
    assert main(["say", "Hello.", "--voice", models.EMBEDDED_VOICE]) == 1
    assert "another sopro checkpoint" in capsys.readouterr().err


def test_without_it_the_error_says_how_to_get_a_model(embedded: Path) -> None:
    embedded.unlink()
    with pytest.raises(UsageError, match="download"):
        models.find_model(None)
