"""Recordings as people have them: long, quiet, offset, clipped, from phones, pipes and programs that forget a byte."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_audio import ENCODING, RATE, encoded, pcm_format, voice, wav_bytes

import sopro_np
from sopro_np import audio, ffmpeg, hearing
from sopro_np.audio import read_reference, reference_samples
from sopro_np.cli.main import main
from sopro_np.errors import AudioError, SoproError, SoproWarning, UsageError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def spoken(seconds: float = 6.0, rate: int = RATE, seed: int = 1) -> np.ndarray:
    """Like speech as far as levels go: float32 (n,), harmonics of 110 Hz in syllables with pauses, without a mean."""
    t = np.arange(round(seconds * rate)) / rate
    pitch = 2 * np.pi * 110 * t
    sound = sum(np.sin(k * pitch + k * k) / k for k in range(1, 20))
    gate = np.clip(np.sin(2 * np.pi * 2.5 * t + seed), 0.0, 1.0) ** 2
    wav = 0.12 * gate * sound + 1e-4 * np.random.default_rng(seed).standard_normal(t.size)
    return (wav - wav.mean()).astype(np.float32)


def notes(source: object, **options: object) -> list[str]:
    """What is warned of while a reference is read."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        reference_samples(source, **options)  # type: ignore[arg-type]
    assert all(w.category is SoproWarning for w in found)
    return [str(w.message) for w in found]


@pytest.fixture
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        yield


# --- headers ------------------------------------------------------------------------------------------------


@given(st.integers(0, 40).map(lambda n: 2 * n + 1), st.sampled_from([b"LIST", b"bext", b"junk"]), st.booleans())
def test_a_chunk_of_odd_length_may_lack_its_padding(size: int, kind: bytes, padded: bool) -> None:
    plain = encoded()
    body = bytes(range(1, size + 1))
    chunk = kind + struct.pack("<I", size) + body + b"\0" * padded
    assert np.array_equal(read_reference(plain[:12] + chunk + plain[12:]), read_reference(plain))
    assert np.array_equal(read_reference(plain[:36] + chunk + plain[36:]), read_reference(plain))


def test_a_size_of_zero_means_to_the_end() -> None:
    data = encoded()
    for piped in (data[:40] + bytes(4) + data[44:], data[:4] + bytes(4) + data[8:40] + bytes(4) + data[44:]):
        assert np.array_equal(read_reference(piped), read_reference(data))


def test_an_empty_wav_with_chunks_behind_it_is_empty() -> None:
    data = wav_bytes(pcm_format(), b"") + b"LIST\x04\0\0\0info" + b"cue \x04\0\0\0\0\0\0\0"
    with pytest.raises(AudioError, match="holds no samples"):
        read_reference(data)


def test_a_wav_of_more_than_4_gib_is_refused_by_size(tmp_path: Path) -> None:
    head = bytearray(encoded(kind="RF64")[:104])
    path = tmp_path / "large.wav"
    start = bytes(head).index(b"data") + 8
    struct.pack_into("<Q", head, 28, 5 << 30)
    struct.pack_into("<I", head, start - 4, 0xFFFFFFFF)
    path.write_bytes(bytes(head))
    os.truncate(path, start + (5 << 30))  # sparse
    with pytest.raises(AudioError, match="4 GiB"):
        read_reference(path)


@given(st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "RF64"]), st.data())
@settings(deadline=None, max_examples=150)
def test_any_bytes_give_samples_or_our_error(kind: str, data: st.DataObject) -> None:
    original = bytearray(encoded(spoken(0.4, 8000), kind, ENCODING.get(kind, "PCM_16"), rate=8000))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, min(len(original) - 9, 120)))
        original[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        try:
            wav = read_reference(bytes(original))
        except AudioError as error:
            assert str(error).startswith("<bytes>: ")
        else:
            assert wav.dtype == np.float32 and 0 < wav.size <= 288000 and np.isfinite(wav).all()


# --- doors --------------------------------------------------------------------------------------------------


def test_home_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(spoken())
    (tmp_path / "me.wav").write_bytes(data)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = read_reference(data)
    assert np.array_equal(read_reference("~/me.wav"), expected)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert np.array_equal(read_reference("-"), expected)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(AudioError, match="standard input"):
        read_reference("-")
    with pytest.raises(AudioError, match="no such file"):
        read_reference("~nobody-of-that-name/me.wav")


def test_a_voice_is_made_from_standard_input(tmp_path: Path) -> None:
    data, model = encoded(spoken()), str(tiny.model_file("v1.5"))
    for ref, out in (("-", "piped"), (str(tmp_path / "me.wav"), "named")):
        (tmp_path / "me.wav").write_bytes(data)
        command = [sys.executable, "-m", "sopro_np", "voice", ref, "--model", model, "-o", str(tmp_path / out)]
        subprocess.run(command, input=data, check=True, capture_output=True)
    piped, named = (tiny.model("v1.5").load_voice(tmp_path / name) for name in ("piped", "named"))
    assert np.array_equal(piped.codes, named.codes)


def test_a_url_is_named_as_it_was_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = "https://example.org/a//b.wav?x=1"
    assert main(["voice", url, "--model", str(tiny.model_file("v1.5")), "-o", str(tmp_path / "v")]) == 1
    assert f"{url}: is a URL, which is not fetched" in capsys.readouterr().err


# --- long, and with pauses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
def test_longer_than_a_minute_is_cropped_to_its_speech(kind: str) -> None:
    rate = 16000
    wav = 1e-4 * np.random.default_rng(3).standard_normal(150 * rate).astype(np.float32)
    wav[100 * rate : 113 * rate] += spoken(13.0, rate)
    data = encoded(wav[:, None], kind, ENCODING[kind], rate=rate)
    told = notes(data)
    assert any("150 s long, more than 60 s" in note and "from 10" in note for note in told)
    kept = read_reference(data)
    assert kept.size <= 12 * RATE
    assert hearing.speech(hearing.levels(kept, RATE)).mean() > 0.4


def test_the_stretch_is_where_it_is_said_to_be() -> None:
    rate = RATE
    wav = np.zeros(90 * rate, np.float32)
    wav[20 * rate : 22 * rate] = spoken(2.0)
    [told] = [note for note in notes(encoded(wav[:, None], encoding="FLOAT"), seconds=2.0) if "long" in note]
    start = float(told.rpartition("from ")[2].split()[0])
    assert abs(start - 20.0) < 0.5


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 30))
def test_the_fullest_stretch_is_the_fullest(flags: list[bool], frames: int) -> None:
    spoken = np.array(flags, bool)
    first = hearing.fullest(spoken, frames)
    counts = {i: spoken[i : i + frames].sum() for i in range(max(1, spoken.size - frames + 1))}
    best = max(counts.values())
    middle = (spoken.size - frames) / 2
    assert counts[first] == best
    assert spoken.size <= frames or abs(first - middle) == min(abs(i - middle) for i in counts if counts[i] == best)


def test_a_pause_in_the_middle_makes_no_voice_of_silence() -> None:
    talk, pause = spoken(4.0), np.zeros(20 * RATE, np.float32)
    data = encoded(np.concatenate([talk, pause, talk])[:, None])
    assert any("middle holds little speech" in note for note in notes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        for ref in (data, np.concatenate([talk, pause, talk])):
            kept = reference_samples(ref)
            assert hearing.speech(hearing.levels(kept, RATE)).sum() >= 100


def test_seconds_beyond_the_model_are_refused_before_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tts = sopro_np.load(tiny.model_file("v1.5"))
    most = tts.mimi.most_frames / tts.mimi.config.frame_rate
    if most < 60:
        with pytest.raises(UsageError, match=f"at most {most:g}"):
            tts.voice("no such file", seconds=most + 1)
    with pytest.raises(UsageError, match="at most"):
        tts.voice("no such file", seconds=61)
    limit = min(most, 60)
    assert len(tts.voice(np.tile(spoken(6.0), 10), seconds=limit).codes) == int(limit * tts.mimi.config.frame_rate)


def test_the_embedded_model_says_how_much_it_hears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "me.wav").write_bytes(encoded(np.tile(spoken(59.0, 8000), 1)[:, None], rate=8000))
    args = ["voice", str(tmp_path / "me.wav"), "-o", str(tmp_path / "v"), "--seconds"]
    assert main([*args, "60"]) == 2
    assert "at most 33.28" in capsys.readouterr().err
    assert main([*args, "33.28"]) == 0


# --- what cannot be heard -----------------------------------------------------------------------------------


def test_without_an_offset_not_a_bit_changes() -> None:
    for wav in (spoken(), voice(3.0)[:, 0]):
        assert hearing.without_offset(wav) is wav
        expected = hearing.centre_crop(hearing.trim_silence(wav, RATE), 12 * RATE)
        assert np.array_equal(read_reference(encoded(wav[:, None], encoding="FLOAT")), expected)


@given(st.floats(-0.5, 0.5), st.sampled_from(["FLOAT", "PCM_16", "PCM_24"]))
@settings(deadline=None, max_examples=25)
def test_an_offset_is_not_heard(offset: float, encoding: str) -> None:
    wav = spoken(3.0)
    plain = read_reference(encoded(wav[:, None], encoding=encoding))
    shifted = read_reference(encoded((wav + np.float32(offset))[:, None], encoding=encoding))
    step = {"FLOAT": 2**-24, "PCM_16": 2**-15, "PCM_24": 2**-23}[encoding]
    rms = float(np.sqrt((wav**2).mean()))
    left = abs(offset) if abs(offset) <= 1.01 * hearing.OFFSET * rms else 0.0
    assert plain.shape == shifted.shape
    assert np.abs(plain - shifted).max() <= left + 2 * step


@pytest.mark.parametrize("offset", [0.01, 0.1, -0.5])
def test_an_offset_changes_few_codes(offset: float) -> None:
    tts = sopro_np.load()
    wav = spoken(3.0)
    plain, shifted = (tts.voice(encoded(w[:, None], encoding="FLOAT")).codes for w in (wav, wav + np.float32(offset)))
    assert (plain == shifted).mean() > 0.8  # the rest is rounding, in pauses
    assert (
        tts.voice(wav).codes == tts.voice(wav + np.float32(offset)).codes
    ).mean() > 0.8  # the rest is rounding, in pauses


@given(st.floats(-2.0, 0.0))
@settings(deadline=None, max_examples=25)
def test_a_quiet_recording_gives_the_same_stretch(power: float) -> None:
    """What is kept of a recording hardly depends on how loud it is; upstream keeps all of a quiet one."""
    edge = np.zeros(RATE, np.float32)
    wav = np.concatenate([edge, spoken(3.0), edge])
    plain = read_reference(encoded(wav[:, None], encoding="FLOAT"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        quiet = read_reference(encoded((wav * 10**power).astype(np.float32)[:, None], encoding="FLOAT"))
    assert abs(quiet.size - plain.size) <= 0.2 * RATE


# --- warnings -----------------------------------------------------------------------------------------------


def test_good_speech_gets_no_warning() -> None:
    assert notes(encoded(spoken()[:, None])) == []
    assert notes(spoken()) == []


def test_the_embedded_voice_is_a_good_recording() -> None:
    text = "Good morning. The train leaves at seven, and the weather is fine."
    assert notes(sopro_np.load().synthesize(text, seed=1)) == []


WEAK = {
    "of speech, at least 1 s": lambda wav: wav[: RATE // 2],
    "clipped": lambda wav: np.clip(50 * wav, -1, 1),
    "noisy (signal-to-noise": lambda wav: wav + 0.1 * np.random.default_rng(0).standard_normal(wav.size),
    "quiet (its loudest": lambda wav: 0.02 * wav,
}


@pytest.mark.parametrize("words", WEAK)
def test_a_weakness_is_told_with_its_measure(words: str) -> None:
    wav = WEAK[words](spoken()).astype(np.float32)
    for ref in (encoded(wav[:, None]), wav):
        [told] = [note for note in notes(ref) if words in note]
        assert any(char.isdigit() for char in told) and "at " in told


@pytest.mark.parametrize(
    ("wav", "words"),
    [
        (spoken() * 32768, "samples up to"),
        (np.zeros(RATE, np.float32), "silent"),
        (np.full(RATE, 0.3, np.float32), "constant"),
        (np.full(RATE, -1.0, np.float32), "constant"),
        (spoken() * 1e-3, "silent"),
        (np.append(spoken(), np.float32(np.nan)), "NaN"),
        (np.full(RATE, 1e300), "NaN or infinity"),
        ((spoken() * 32767).astype(np.int16), "not int16"),
        (np.zeros((RATE, 2), np.float32), "mix channels"),
        (spoken()[:1000], "at least 1920"),
    ],
    ids=["scaled", "zeros", "constant", "at the bottom", "-60 dB", "nan", "overflow", "int16", "stereo", "short"],
)
def test_arrays_are_held_to_the_checks_of_files(wav: np.ndarray, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        reference_samples(wav)


@given(st.integers(50, 4000), st.floats(0.02, 1.0), st.floats(0, 6.28))
@settings(deadline=None, max_examples=40)
def test_a_clean_tone_is_not_clipped(pitch: int, amplitude: float, phase: float) -> None:
    tone = amplitude * np.sin(2 * np.pi * pitch * np.arange(2 * RATE) / RATE + phase)
    if RATE % pitch and RATE / pitch % 1 > 1e-3 and pitch < 1000:  # else it may be a few samples again and again
        assert hearing.clipped_share(tone) == 0


@given(st.floats(1.5, 50.0), st.floats(0.05, 1.0), st.sampled_from([8000, 16000, 44100, 48000]))
@settings(deadline=None, max_examples=25)
def test_a_clipped_voice_is_told_at_any_level_and_rate(gain: float, level: float, rate: int) -> None:
    wav = spoken(3.0, rate)
    wav = level * np.clip(gain * wav / np.percentile(np.abs(wav), 97), -1, 1)
    assert any("clipped" in note for note in notes(encoded(wav[:, None], encoding="FLOAT", rate=rate)))


@pytest.mark.parametrize("where", [0, 2, 5])
def test_silent_channels_do_not_make_speech_quiet(where: int) -> None:
    wav = 0.5 * spoken()
    several = np.zeros((wav.size, 6), np.float32)
    several[:, where] = wav
    assert notes(encoded(wav[:, None], encoding="FLOAT")) == notes(encoded(several, encoding="FLOAT")) == []
    mono, mixed = (read_reference(encoded(w, encoding="FLOAT")) for w in (wav[:, None], several))
    assert np.allclose(mono, mixed, atol=1e-6)


def test_the_mean_is_the_originals_where_it_is_loud_enough() -> None:
    wav = spoken()
    two = np.stack([wav, np.zeros_like(wav)], axis=1)
    assert np.array_equal(
        read_reference(encoded(two, encoding="FLOAT")), read_reference(encoded(wav[:, None] / 2, encoding="FLOAT"))
    )


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
@pytest.mark.parametrize("extra", [b"", b"TAG" + bytes(125), b"x" * 4000])
def test_the_decoder_of_mp3_keeps_its_remarks(rate: int, extra: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(spoken(4.0, rate)[:, None], "MP3", ENCODING["MP3"], rate=rate)
    whole = read_reference(data)
    read_reference(data + extra)
    for share in (0.5, 0.9):
        with pytest.raises(AudioError, match="is cut off"):
            read_reference(data[: int(share * len(data))])
    assert np.array_equal(read_reference(data), whole)
    assert capfd.readouterr().err == ""


def ogg(packet: bytes) -> bytes:
    """A first page with this packet."""
    return b"OggS\0\2" + bytes(20) + b"\1" + bytes([len(packet)]) + packet + bytes(100)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"Speex   1.2", "Ogg with Speex inside, which is read with ffmpeg"),
        (b"\x7fFLAC\1\0\0\1", "Ogg with FLAC inside, which is read with ffmpeg"),
        (b"\x80theora\3\2", "Ogg with Theora video inside, which is read with ffmpeg"),
        (b"PCM     \0", "only Vorbis and Opus are read"),
    ],
)
def test_the_codec_in_an_ogg_is_named(packet: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(AudioError, match=words):
        read_reference(ogg(packet))


# --- ffmpeg -------------------------------------------------------------------------------------------------

FOREIGN = {
    "m4a": "-c:a aac",
    "mp4": "-c:a aac",
    "webm": "-c:a libopus",
    "mka": "-c:a flac",
    "wma": "",
    "aac": "-f adts",
    "ogg": "-c:a flac",
}


def converted(folder: Path, kind: str, wav: np.ndarray, rate: int = 48000) -> Path:
    soundfile.write(folder / "in.wav", wav, rate)
    command = ["ffmpeg", "-v", "error", "-y", "-i", folder / "in.wav", *FOREIGN[kind].split(), folder / f"out.{kind}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder / f"out.{kind}"


@needs_ffmpeg
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_containers_are_read_with_ffmpeg(kind: str, tmp_path: Path) -> None:
    wav = spoken(10.0, 48000)
    path = converted(tmp_path, kind, np.stack([1.2 * wav, 0.8 * wav], axis=1))
    expected = read_reference(tmp_path / "in.wav")
    kept = read_reference(path)
    assert np.array_equal(kept, read_reference(path.read_bytes()))
    assert abs(kept.size - expected.size) < 0.2 * RATE
    assert (kept**2).mean() == pytest.approx((expected**2).mean(), rel=0.1), "the mean of the channels, not 3 dB more"


@needs_ffmpeg
@pytest.mark.parametrize("kind", FOREIGN)
def test_the_rate_of_foreign_containers(kind: str, tmp_path: Path) -> None:
    path = converted(tmp_path, kind, spoken(2.0, 16000), 16000)
    assert audio.recorded_rate(path) == (48000 if kind == "webm" else 16000), "Opus has one rate"
    path.write_bytes(path.read_bytes()[:40])
    assert audio.recorded_rate(path, 22050) == 22050, "where nothing is found, nothing is lost"


@pytest.mark.parametrize(("ending", "rate"), [("wav", 8000), ("flac", 44100), ("ogg", 16000), ("aiff", 22050)])
def test_the_rate_of_a_recording(ending: str, rate: int, tmp_path: Path) -> None:
    path = tmp_path / f"me.{ending}"
    soundfile.write(path, spoken(1.0, rate), rate)
    assert audio.recorded_rate(path) == audio.recorded_rate(path.read_bytes()) == rate
    path.write_bytes(b"no sound")
    with pytest.raises(AudioError, match="is not WAV"):
        audio.recorded_rate(path)


def test_the_rate_without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert audio.recorded_rate(b"\0\0\0\x20ftypM4A " + bytes(100), 24000) == 24000


@needs_ffmpeg
def test_a_long_m4a_with_its_index_at_the_end(tmp_path: Path) -> None:
    wav = 0.001 * np.random.default_rng(1).standard_normal(48000 * 200).astype(np.float32)
    wav[150 * 48000 : 162 * 48000] += spoken(12.0, 48000)
    path = converted(tmp_path, "m4a", wav)
    data = path.read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    assert any("200 s long" in note and "from 150" in note for note in notes(path))


@needs_ffmpeg
@pytest.mark.parametrize("kind", FOREIGN)
def test_damaged_foreign_files_give_our_error_or_samples(kind: str, tmp_path: Path, _quiet: None) -> None:
    data = converted(tmp_path, kind, spoken(1.0, 48000)).read_bytes()
    rng = np.random.default_rng(5)
    before = threading.active_count()
    for _ in range(3):
        changed = bytearray(data[: rng.integers(20, len(data))])
        changed[int(rng.integers(len(changed)))] ^= 0x55
        try:
            assert np.isfinite(read_reference(bytes(changed))).all()
        except SoproError as error:
            assert "<bytes>: " in str(error)
    assert threading.active_count() == before


@needs_ffmpeg
def test_ffmpeg_is_ended_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = converted(tmp_path, "m4a", spoken(5.0, 48000))
    monkeypatch.setattr(ffmpeg, "SECONDS_AT_MOST", 0.0)
    with pytest.raises(AudioError, match="took more than"):
        read_reference(path)


def test_ffmpeg_gets_a_pipe_and_nothing_else() -> None:
    words = ffmpeg.command("/usr/bin/ffmpeg", "mov", 24000, 12.0)
    assert [w for w in words if ":" in w] == ["pipe:0", "0:a:0", "-c:a", "pipe:1"]
    assert words[words.index("-protocol_whitelist") + 1] == "pipe"
    assert words[words.index("-i") - 1] == "mov" and words[-2] == "s32le"


def test_without_ffmpeg_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(AudioError, match="read with ffmpeg; install ffmpeg, or convert"):
        audio.read_reference(b"\0\0\0\x20ftypM4A " + bytes(2000))
