"""The life of a loaded model: warmed up, asked for its voices, closed; and the seed that nobody gave."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import ARCHS, on_kernels

from sopro_np.cli.main import main
from sopro_np.engine import open_model
from sopro_np.errors import ModelError
from sopro_np.locate import EMBEDDED, EMBEDDED_VOICE

Capture = pytest.CaptureFixture[str]


@on_kernels
@pytest.mark.parametrize("arch", ARCHS)
def test_after_warming_up_nothing_is_captured_for_a_stream(arch: str) -> None:
    """It takes a time above 0, and what it did shows in no later sample."""
    tts, voice = open_model(tiny.model_file(arch), 1, "native"), tiny.voice(arch)
    before = tts.synthesize("Hello.", voice, seed=1, max_frames=20)
    assert tts.warm_up() > 0
    captured = {key: graph for key, (_, graph) in tts.runtime._graphs.mine.known.items() if graph is not None}
    stream = tts.stream("How are you today?", voice, seed=1, min_gen_frames=400, stop_threshold=2.0)
    for _ in range(3):
        next(stream)
    after = {key: graph for key, (_, graph) in tts.runtime._graphs.mine.known.items() if graph is not None}
    assert after == captured != {}
    assert tts.synthesize("Hello.", voice, seed=1, max_frames=20).tobytes() == before.tobytes()


def test_voices_that_fit(implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other models, and what is no voice, are left out; any name it gives can be spoken with."""
    monkeypatch.setenv("SOPRO_NP_VOICES", str(tmp_path))
    tts = open_model(tiny.model_file("v1"), 1, implementation)
    assert tts.voices() == []
    for name in ("zoe", "bob", "ann"):
        tiny.voice("v1").save(tmp_path / f"{name}.voice.safetensors")
    tiny.voice("v1.5").save(tmp_path / "another-models.voice.safetensors")
    (tmp_path / "broken.voice.safetensors").write_bytes(b"no voice at all")
    assert tts.voices() == ["ann", "bob", "zoe"]
    wav = tts.synthesize("Hello.", "ann", seed=1, max_frames=3)
    assert wav.tobytes() == tts.synthesize("Hello.", tiny.voice("v1"), seed=1, max_frames=3).tobytes()


def test_the_default_voice_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the embedded model; voices of one's own come after it."""
    monkeypatch.setenv("SOPRO_NP_VOICES", str(tmp_path))
    tts = open_model(EMBEDDED, 1)
    names = tts.voices()
    assert names[0] == EMBEDDED_VOICE and names[1:] == sorted(names[1:])
    tts.load_voice(EMBEDDED_VOICE).save(tmp_path / "aaron.voice.safetensors")
    assert tts.voices() == [EMBEDDED_VOICE, *sorted(["aaron", *names[1:]])]


def test_closed_for_good_and_others_go_on(implementation: str) -> None:
    """Every use names what happened; voices live on; another model of the same file does not notice; `with` closes."""
    voice, other = tiny.voice("v1.5"), open_model(tiny.model_file("v1.5"), 1, implementation)
    with open_model(tiny.model_file("v1.5"), 1, implementation) as tts:
        assert len(tts.synthesize("Hello.", voice, max_frames=3))
    for use in (
        lambda: tts.synthesize("Hello.", voice, max_frames=3),
        lambda: list(tts.stream("Hello.", voice, max_frames=3)),
        lambda: tts.batch().add("Hello.", voice),
        lambda: tts.decode(np.zeros((1, 4), np.int64)),
        tts.warm_up,
        lambda: tts.voice(np.zeros(24000, np.float32)),
    ):
        with pytest.raises(ModelError, match="was closed; load it again"):
            use()
    tts.close()
    assert len(other.synthesize("Hello.", voice, max_frames=3))


def test_a_seed_that_nobody_gave_is_drawn_and_told(implementation: str, capsys: Capture) -> None:
    """Two utterances differ in it; with it they are said again to the sample. The library itself prints nothing."""
    tts, voice = open_model(tiny.model_file("v1.5"), 1, implementation), tiny.voice("v1.5")
    first, second = (tts.speak("Hello.", voice, max_frames=12) for _ in range(2))
    assert first.seed != second.seed
    assert tts.speak("Hello.", voice, max_frames=12, seed=first.seed).wav.tobytes() == first.wav.tobytes()
    assert tts.speak("Hello.", voice, max_frames=3, seed=9).seed == 9
    assert first.frames == len(first.codes) and first.finish_reason in ("stop", "length")
    assert capsys.readouterr() == ("", "")


def test_say_prints_the_seed_it_drew(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints says the same again; with --quiet it is not printed."""
    monkeypatch.setenv("SOPRO_NP_MODEL", str(tiny.model_file("v1.5")))
    tiny.voice("v1.5").save(tmp_path / "me.voice.safetensors")
    say = ["say", "Hello.", "--voice", str(tmp_path / "me.voice.safetensors"), "--max-frames", "4"]
    assert main([*say, "-o", str(tmp_path / "a.wav")]) == 0
    found = re.search(r"seed (\d+)", capsys.readouterr().err)
    assert found
    assert main([*say, "-o", str(tmp_path / "b.wav"), "--seed", found[1]]) == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    capsys.readouterr()
    assert main([*say, "-o", str(tmp_path / "c.wav"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert not out and "seed" not in err
