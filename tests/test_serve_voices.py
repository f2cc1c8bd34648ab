"""Voice folder of a server: what is in it speaks, under its name, and nothing else does."""

from __future__ import annotations

import io
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tiny as models
from conftest import on_kernels
from hypothesis import given
from hypothesis import strategies as st
from serving import VOICE, quick, voices_folder

from sopro_np.engine import open_model
from sopro_np.errors import AudioError, UsageError
from sopro_np.locate import EMBEDDED
from sopro_np.serve import voices
from sopro_np.serve.voices import NAME, OPENAI, UnknownVoice, VoiceShelf, VoiceTaken

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]


@pytest.fixture
def shelf(tmp_path: Path) -> VoiceShelf:
    return VoiceShelf(quick("v1.5"), voices_folder(tmp_path / "voices"))


def recording() -> bytes:
    return (models.checkpoint("v1.5", 5) / "ref.wav").read_bytes()


def test_names_are_those_that_fit_the_default_first(shelf: VoiceShelf, tmp_path: Path) -> None:
    folder = shelf.folder
    assert folder is not None and shelf.names() == [VOICE, "two"]
    models.voice("v1", "int8", 5).save(folder / "stranger.voice.safetensors")
    (folder / "broken.voice.safetensors").write_bytes(b"nonsense")
    (folder / "folder.wav").mkdir()
    (folder / ("x" * 65 + ".wav")).write_bytes(recording())
    assert shelf.names() == [VOICE, "two"]
    assert VoiceShelf(shelf.tts, folder, "two").names() == ["two", VOICE]
    assert VoiceShelf(shelf.tts, folder, "absent").names() == [VOICE, "two"]
    assert VoiceShelf(shelf.tts, tmp_path / "absent").names() == []
    assert VoiceShelf(shelf.tts, None).names() == []


def test_a_voice_file_goes_before_a_recording_of_its_name(shelf: VoiceShelf) -> None:
    assert shelf.folder is not None
    heard = shelf.get("two")
    shutil.copy(shelf.folder / f"{VOICE}.voice.safetensors", shelf.folder / "two.voice.safetensors")
    assert shelf.get("two") == shelf.get(VOICE) != heard


def test_a_file_that_changes_changes_the_voice(shelf: VoiceShelf) -> None:
    assert shelf.folder is not None
    path = shelf.folder / f"{VOICE}.voice.safetensors"
    before = shelf.get(VOICE)
    assert shelf.get(VOICE) is before and shelf.prepared(VOICE) is before
    shelf.get("two").save(path)
    os.utime(path, ns=(1, 1))
    assert shelf.get(VOICE) == shelf.get("two") != before
    path.unlink()
    with pytest.raises(UnknownVoice):
        shelf.get(VOICE)


def test_few_voices_are_kept(shelf: VoiceShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shelf.folder is not None
    monkeypatch.setattr(voices, "KEPT", 3)
    for i in range(6):
        shutil.copy(shelf.folder / f"{VOICE}.voice.safetensors", shelf.folder / f"copy{i}.voice.safetensors")
        shelf.get(f"copy{i}")
        shelf.get("copy0")
    assert [name for name in shelf.names() if shelf.prepared(name)] == ["copy0", "copy4", "copy5"]


def test_many_ask_and_it_is_prepared_once(shelf: VoiceShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    real = type(shelf.tts).voice
    monkeypatch.setattr(type(shelf.tts), "voice", lambda tts, ref: made.append(ref) or real(tts, ref))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: shelf.get("two"), range(8)))
    assert len(made) == 1 and all(voice is got[0] for voice in got)


def test_one_odd_file_hides_no_other(shelf: VoiceShelf) -> None:
    """A link to itself, to nothing or to a device, a pipe, a folder: none is a voice."""
    assert shelf.folder is not None
    for name, target in (("loop", "loop.wav"), ("gone", "absent"), ("zero", "/dev/zero"), ("folder", ".")):
        (shelf.folder / f"{name}.wav").symlink_to(target)
    os.mkfifo(shelf.folder / "pipe.wav")
    assert shelf.names() == [VOICE, "two"]


def test_without_a_voice_it_says_where_to_put_one(tmp_path: Path) -> None:
    empty = VoiceShelf(quick("v1.5"), tmp_path / "empty")
    for name in (None, "", "alloy"):
        with pytest.raises(UnknownVoice, match="empty"):
            empty.get(name)
    with pytest.raises(UnknownVoice, match="--voices"):
        VoiceShelf(quick("v1.5"), None).get(None)
    with pytest.raises(UsageError, match="--voices"):
        VoiceShelf(quick("v1.5"), None).add("new", recording())


def test_aliases_and_openais_names(shelf: VoiceShelf) -> None:
    aliased = VoiceShelf(shelf.tts, shelf.folder, None, {"alloy": "two", "narrator": "two", "echo": "absent"})
    assert aliased.resolve("alloy") == aliased.resolve("narrator") == "two"
    assert {aliased.resolve(name) for name in OPENAI if name not in ("alloy", "echo")} == {VOICE}
    with pytest.raises(UnknownVoice, match="absent"):  # configured wrongly is not unconfigured
        aliased.resolve("echo")
    assert shelf.folder is not None
    shutil.copy(shelf.folder / "two.wav", shelf.folder / "nova.wav")
    assert aliased.resolve("nova") == "nova"


def test_what_is_added_is_there_and_can_be_removed(shelf: VoiceShelf) -> None:
    assert shelf.folder is not None
    assert shelf.add("new", recording()) == []
    assert shelf.get("new") == shelf.get("two") and shelf.listing()["new"] > 10**9
    assert (shelf.folder / "new.voice.safetensors").stat().st_size < 100_000
    for taken in ("new", "NEW", VOICE, "Two"):
        with pytest.raises(VoiceTaken):
            shelf.add(taken, recording())
    shelf.remove("new")
    with pytest.raises(UnknownVoice):
        shelf.remove("new")
    with pytest.raises(UsageError, match=r"delete two\.wav there"):
        shelf.remove("two")
    with pytest.raises(AudioError):
        shelf.add("new", b"no recording")
    assert shelf.names() == [VOICE, "two"]


def test_what_is_doubtful_about_a_recording_is_told_to_who_sent_it(shelf: VoiceShelf) -> None:
    samples, rate = sf.read(io.BytesIO(recording()))
    quiet = io.BytesIO()
    sf.write(quiet, samples / 100, rate, format="WAV", subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [note] = shelf.add("quiet", quiet.getvalue())
    assert note.startswith("the sample: is quiet") and note.endswith("record it louder")


def test_a_folder_has_an_end(shelf: VoiceShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "MOST", 2)
    with pytest.raises(UsageError, match="remove some"):
        shelf.add("new", recording())


@given(st.text(max_size=70))
def test_any_text_as_a_name_is_a_voice_or_an_error(name: str) -> None:
    shelf = VoiceShelf(quick("v1.5"), None)
    with pytest.raises(UnknownVoice):
        shelf.resolve(name)
    if not NAME.fullmatch(name):
        for refused in (lambda: shelf.add(name, b""), lambda: shelf.remove(name)):
            with pytest.raises(UsageError):
                refused()


def test_the_embedded_models_voices_need_no_folder() -> None:
    with open_model(EMBEDDED) as tts:
        shelf = VoiceShelf(tts, None)
        assert shelf.names()[0] == "ross" and set(shelf.names()) == {"angus", "ross", "stella"}
        assert np.array_equal(shelf.get(None).codes, tts.load_voice("ross").codes)
        with pytest.raises(UsageError, match="belongs to the model"):
            shelf.remove("ross")
