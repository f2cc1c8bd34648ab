"""Audio formats: what is written is what is read, whole or in pieces, in a file or a pipe; complete or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.audio import _mono
from sopro_np.containers import recognise
from sopro_np.encode import FORMATS, AudioFormat, check_rate, find_format, open_writer
from sopro_np.errors import AudioError, UsageError
from sopro_np.wav import pcm16

ENCODED = [f for f in FORMATS.values() if f.container]


class Pipe:
    """Something that can only be written to."""

    closed = False

    def __init__(self, room: int = 1 << 30, error: type[OSError] = OSError) -> None:
        self.data, self.room, self.error = bytearray(), room, error

    def write(self, data: bytes) -> int:
        if len(self.data) + len(data) > self.room:
            raise self.error(28, "No space left on device")
        self.data += data
        return len(data)

    def flush(self) -> None:
        pass


def speech(n: int = 30000, rate: int = 24000) -> np.ndarray:
    t = np.arange(n) / rate
    return (0.4 * np.sin(2 * np.pi * 220 * t) * np.sin(2 * np.pi * 3 * t) ** 2).astype(np.float32)


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, where a lossy format may begin later (a coder's delay)."""
    n = len(expected)
    return min(float(np.abs(got[d : d + n] - expected[: len(got[d : d + n])]).max()) for d in (0, 1105, 1681))


def decoded(pipe: Pipe) -> tuple[np.ndarray, int]:
    """What our own reader of recordings hears in it."""
    return _mono(recognise("pipe", io.BytesIO(bytes(pipe.data)), len(pipe.data)), 24000, 60.0)


@pytest.mark.parametrize("form", ENCODED, ids=lambda f: f.name)
@pytest.mark.parametrize("rate", [8000, 24000, 48000])
def test_a_file_holds_what_was_said(form: AudioFormat, rate: int, tmp_path: Path) -> None:
    wav, path = speech(2 * rate, rate), tmp_path / f"x{form.endings[0]}"
    with open_writer(path, form, rate) as writer:
        for chunk in np.split(wav, [1, 100, 5000]):
            writer.write(chunk)
        assert not path.exists(), "complete or not at all"
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.subtype, file.samplerate) == (form.container, form.encoding, rate)
    got, _ = soundfile.read(path, dtype="float32")
    assert len(got) == len(wav)
    assert difference(got, wav) < (1e-4 if form.name == "flac" else 0.1)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", ENCODED, ids=lambda f: f.name)
def test_a_pipe_gets_all_of_it_and_something_early(form: AudioFormat) -> None:
    wav, pipe = speech(120000), Pipe()
    with open_writer(pipe, form) as writer:  # type: ignore[arg-type]
        writer.write(wav[:60000])
        early = len(pipe.data)
        writer.write(wav[60000:])
    got, rate = decoded(pipe)
    assert rate == 24000
    assert len(wav) <= len(got) < len(wav) + 4000
    assert difference(got, wav) < (1e-4 if form.name == "flac" else 0.1)
    assert 0 < early < len(pipe.data)


def test_mp3s_one_after_the_other_are_one() -> None:
    """Clients concatenate the answers of a server."""
    wav, pipe = speech(48000), Pipe()
    for _ in range(3):
        with open_writer(pipe, FORMATS["mp3"]) as writer:  # type: ignore[arg-type]
            writer.write(wav)
    assert len(decoded(pipe)[0]) >= 3 * len(wav)


@given(st.lists(st.integers(0, 9000), max_size=6))
def test_flac_is_exact_however_it_is_cut(cuts: list[int]) -> None:
    wav, pipe = speech(9000), Pipe()
    with open_writer(pipe, FORMATS["flac"]) as writer:  # type: ignore[arg-type]
        for chunk in np.split(wav, sorted(cuts)):
            writer.write(chunk)
    got, _ = decoded(pipe)
    assert pcm16(got * np.float32(32768 / 32767)) == pcm16(wav)


@pytest.mark.parametrize("form", ENCODED, ids=lambda f: f.name)
def test_what_fails_leaves_nothing(form: AudioFormat, tmp_path: Path) -> None:
    path = tmp_path / f"x{form.endings[0]}"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), open_writer(path, form) as writer:
        writer.write(speech())
        raise RuntimeError
    with pytest.raises(AudioError), open_writer(path, form) as writer:
        writer.write(np.full(10, np.nan, np.float32))
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(AudioError, match="No space"), open_writer(Pipe(100), form) as writer:  # type: ignore[arg-type]
        for _ in range(10):
            writer.write(speech())
    with pytest.raises(BrokenPipeError), open_writer(Pipe(100, BrokenPipeError), form) as writer:  # type: ignore[arg-type]
        for _ in range(10):
            writer.write(speech())


def test_formats_by_name(tmp_path: Path) -> None:
    for form in FORMATS.values():
        for ending in form.endings:
            for name in (f"a{ending}", f"b.c/a{ending.upper()}", str(tmp_path / f"x{ending}")):
                assert find_format(name) is find_format(name, form.name) is form
        for name in ("-", None, "x", "/dev/null", str(tmp_path)):
            assert find_format(name, form.name) is form
        assert find_format("x.tmp", form.name) is form
    for name in (None, "-", "speech", "/dev/stdout", "a.b/speech", ".hidden"):
        assert find_format(name).name == "wav"
    for name in ("x.m4a", "x.aac", "x.wma", "x.mp3.part", "v1.5"):
        with pytest.raises(UsageError, match=r"\.wav, \.flac, \.ogg, \.opus, \.mp3"):
            find_format(name)
    with pytest.raises(UsageError, match=r"x\.mp3: a file named \.mp3 should not hold wav"):
        find_format("x.mp3", "wav")
    with pytest.raises(UsageError, match="there are wav"):
        find_format("x", "aac")


@pytest.mark.parametrize(
    ("form", "rate", "said"),
    [("opus", 44100, "48000"), ("mp3", 96000, "44100"), ("wav", 1, "8000"), ("flac", 10**9, "192000")],
)
def test_rates(form: str, rate: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_rate(FORMATS[form], rate)
    check_rate(FORMATS[form], 48000)
