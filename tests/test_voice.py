"""Saved voices: small, exact, shared by the recipes of one model, refused by every other model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import by_each
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.engine import open_model
from sopro_np.errors import FormatError, SoproError, VoiceError
from sopro_np.voice import Voice

both = pytest.mark.parametrize("arch", tiny.ARCHS)
every_recipe = pytest.mark.parametrize("recipe", tiny.SCHEMES)


def same(a: Voice, b: Voice) -> bool:
    pairs = [(a.codes, b.codes), (a.speaker, b.speaker)]
    for m, n in zip(a.reference_kv, b.reference_kv, strict=True):
        pairs += [(m.keys, n.keys), (m.values, n.values)]
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs) and a.fingerprints == b.fingerprints


@by_each
@every_recipe
@both
def test_loaded_is_what_was_saved(arch: str, recipe: str, tmp_path: Path) -> None:
    tts, voice, path = tiny.model(arch, recipe), tiny.voice(arch, recipe), tmp_path / "me.voice.safetensors"
    voice.save(path)
    loaded = tts.load_voice(path)
    assert same(loaded, voice)
    assert path.stat().st_size < 4096 + 2 * voice.codes.size
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    speech = [tts.synthesize(tiny.TEXT, v, seed=3, max_frames=5) for v in (voice, loaded)]
    assert np.array_equal(*speech)
    assert np.abs(speech[0]).max() > 0


@by_each
@both
def test_recipes_of_one_model_share_voices(arch: str, tmp_path: Path) -> None:
    tiny.voice(arch, "int8").save(tmp_path / "v")
    for recipe in tiny.SCHEMES:
        tts = tiny.model(arch, recipe)
        loaded = tts.load_voice(tmp_path / "v")
        assert same(loaded, tts.voice_from_codes(tiny.voice(arch, "int8").codes))
        tts.codes(tiny.TEXT, loaded, max_frames=2, seed=1)


@by_each
@given(st.data())
def test_any_codes_survive(data: st.DataObject) -> None:
    tts = tiny.model("v1.5")
    config = tts.model.config
    row = st.lists(st.integers(0, config.code_values - 1), min_size=config.codebooks, max_size=config.codebooks)
    voice = tts.voice_from_codes(np.array(data.draw(st.lists(row, min_size=1, max_size=9))))
    path = tiny.checkpoint("v1.5") / "any.voice.safetensors"
    voice.save(path)
    assert same(tts.load_voice(path), voice)
    assert np.linalg.norm(voice.speaker) == pytest.approx(1, abs=1e-4)


def test_voices_of_other_models_are_refused(tmp_path: Path) -> None:
    tiny.voice("v1", seed=1).save(tmp_path / "v")
    other = tiny.model("v1", seed=2)
    with pytest.raises(VoiceError, match="another sopro checkpoint"):
        other.load_voice(tmp_path / "v")
    with pytest.raises(VoiceError, match="another sopro checkpoint"):
        other.synthesize(tiny.TEXT, tiny.voice("v1", seed=1), max_frames=2)
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    swapped = Voice(voice.codes, voice.speaker, voice.reference_kv, {**voice.fingerprints, "mimi": "0" * 64})
    swapped.save(tmp_path / "w")
    with pytest.raises(VoiceError, match=r"another mimi checkpoint \(000000000000"):
        tts.load_voice(tmp_path / "w")


@pytest.mark.parametrize("codes", [
    np.zeros((0, 8), int), np.zeros(8, int), np.zeros((2, 7), int), np.zeros((1, 2, 8), int),
    np.full((2, 8), 64), np.full((2, 8), -1), np.zeros((2, 8)), np.zeros((10**4, 8), int),
], ids=lambda c: f"{c.dtype}{c.shape}{c.max(initial=0)}")  # fmt: skip
def test_codes_that_cannot_be(codes: np.ndarray) -> None:
    with pytest.raises(VoiceError, match=r"code|frames"):
        tiny.model("v1").voice_from_codes(codes)


@pytest.mark.parametrize("wav", [np.zeros(0), np.zeros((2, 100)), np.full(4000, np.nan), np.full(4000, np.inf)])
def test_waveforms_that_cannot_be(wav: np.ndarray) -> None:
    with pytest.raises(SoproError):
        tiny.model("v1").voice(wav.astype(np.float32))


def test_other_files_are_refused(tmp_path: Path) -> None:
    tts, folder = tiny.model("v1"), tiny.checkpoint("v1")
    for path in (folder / "ref.wav", tiny.model_file("v1"), tiny.sopro_file("v1"), folder, tmp_path / "none"):
        with pytest.raises(VoiceError, match=path.name):
            tts.load_voice(path)
    tiny.voice("v1").save(tmp_path / "v")
    with pytest.raises(FormatError, match="a voice file, not a model: it is given with --voice"):
        open_model(tmp_path / "v")


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    voice = tiny.voice("v1")
    taken = tmp_path / "folder"
    taken.mkdir()
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "no" / "v", taken, tmp_path / "fifo", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(VoiceError):
            voice.save(path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["fifo", "folder"]
    path = tmp_path / "v"
    path.write_bytes(b"old")
    (tmp_path / "link").symlink_to(path)
    voice.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert same(tiny.model("v1").load_voice(path), voice)
    umask = os.umask(0o022)
    voice.save(path)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644, "readable for others, as any new file"
