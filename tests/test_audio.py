"""Reference recordings are read as by the original or refused with a message."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sopro_np import audio, hearing
from sopro_np.errors import AudioError

GOLDEN = Path(os.environ.get("SOPRO_NP_GOLDEN", Path(__file__).parent / "golden")) / "common"
CASES = json.loads((GOLDEN / "audio.json").read_text())
RATE = 24000


def voice(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A loud tone with some noise, float32 (n, channels)."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    noise = np.random.default_rng(7).standard_normal((t.size, channels))
    return (0.3 * np.sin(2 * np.pi * 220 * t) + 0.02 * noise).astype(np.float32)


def encoded(samples: np.ndarray | None = None, kind: str = "WAV", encoding: str = "PCM_16", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    samples = voice(rate=rate) if samples is None else samples
    soundfile.write(buffer, samples, rate, format=kind, subtype=encoding)
    return buffer.getvalue()


# --- against the original -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in CASES if c["fn"] == "trim_silence_energy"], ids=lambda c: c["input"])
def test_trim_equals_the_original(case: dict) -> None:
    wav = load_file(GOLDEN / "audio.safetensors")[case["input"]]
    trimmed = hearing.trim_silence(wav, case["sr"])
    assert trimmed.shape == (*wav.shape[:-1], case["out_len"])
    assert np.array_equal(trimmed, wav[..., case["start"] : case["start"] + case["out_len"]])


@pytest.mark.parametrize("case", [c for c in CASES if c["fn"].startswith("center_crop")], ids=str)
def test_crop_equals_the_original(case: dict) -> None:
    wav = np.arange(case["n"])
    assert np.array_equal(hearing.centre_crop(wav, case["win"]), wav[case["start"] : case["start"] + case["len"]])


@pytest.mark.parametrize(("seconds", "frames"), next(c for c in CASES if "values" in c)["values"])
def test_the_window_is_a_whole_number_of_frames(seconds: float, frames: int) -> None:
    assert audio.read_reference(encoded(voice(14.0)), seconds=seconds).size == min(frames * 1920, 14 * RATE)


def test_reading_is_mix_trim_resample_crop() -> None:
    edge = np.zeros((16000, 2), np.float32)
    samples = np.concatenate([edge, voice(3.0, 16000, 2) * [1.0, 0.5], edge]).astype(np.float32)
    mono = hearing.trim_silence(samples.mean(axis=1), 16000)
    expected = hearing.centre_crop(hearing.resample(mono, 16000, RATE), 1920 * 25)
    wav = audio.read_reference(encoded(samples, encoding="FLOAT", rate=16000), seconds=2.0)
    assert wav.dtype == np.float32
    assert np.array_equal(wav, expected)


# --- what is accepted ---------------------------------------------------------------------------------------

ENCODING = {"WAV": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}
ACCEPTED = [
    *(("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("RF64", s) for s in ("PCM_16", "PCM_24", "FLOAT", "ULAW")),
    *(("AIFF", s) for s in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("AU", s) for s in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("CAF", s) for s in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("FLAC", s) for s in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("WAVEX", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("kind", "encoding"), ACCEPTED)
@pytest.mark.parametrize("rate", [8000, 24000, 48000])
def test_ordinary_files_are_read(kind: str, encoding: str, rate: int, tmp_path: Path) -> None:
    path = tmp_path / "voice"
    path.write_bytes(encoded(voice(1.0, rate), kind, encoding, rate))
    wav = audio.read_reference(path)
    assert abs(wav.size - RATE) <= 0.05 * RATE
    assert wav.dtype == np.float32
    assert wav.ndim == 1
    level = np.sqrt((wav[2400:-2400] ** 2).mean())
    assert level == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_all_kinds_of_source_give_the_same(tmp_path: Path) -> None:
    data = encoded()
    path = tmp_path / "voice.wav"
    path.write_bytes(data)
    expected = audio.read_reference(data)
    for source in (path, str(path), io.BytesIO(data)):
        assert np.array_equal(audio.read_reference(source), expected)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_from_a_pipe_is_read_to_its_end(size: int) -> None:
    data = encoded()
    piped = data[:40] + struct.pack("<I", size) + data[44:]
    assert np.array_equal(audio.read_reference(piped), audio.read_reference(data))


def test_tags_before_and_after_the_audio_do_no_harm() -> None:
    tag = b"ID3\x04\0\0\0\0\0\x14" + b"title" * 4
    for kind, encoding in (("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16"), ("WAV", "PCM_16")):
        data = encoded(kind=kind, encoding=encoding)
        assert np.array_equal(audio.read_reference(tag + data), audio.read_reference(data))
    data = encoded()
    assert np.array_equal(audio.read_reference(data + b"LIST\x04\0\0\0info"), audio.read_reference(data))


def flac_with_length(frames: int) -> bytes:
    """One second of FLAC whose header claims another length (36 bits at the end of bytes 21 to 25)."""
    data = bytearray(encoded(kind="FLAC"))
    data[21:26] = ((data[21] >> 4 << 36) | frames).to_bytes(5, "big")
    return bytes(data)


def test_a_flac_without_a_length_is_read_to_its_end() -> None:
    assert np.array_equal(audio.read_reference(flac_with_length(0)), audio.read_reference(encoded(kind="FLAC")))


def test_the_bounds_themselves_are_allowed() -> None:
    assert audio.read_reference(encoded(voice(60.0, 8000), rate=8000)).size == 288000
    assert audio.read_reference(encoded(voice(0.5, 192000, 8), rate=192000)).size == 12000
    assert audio.read_reference(encoded(voice(0.08))).size == 1920


# --- what is refused ----------------------------------------------------------------------------------------


def wav_bytes(fmt: bytes, data: bytes = bytes(48000), extra: bytes = b"") -> bytes:
    chunks = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + extra + b"data"
    chunks += struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def pcm_format(tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, (rate * frame) & 0xFFFFFFFF, frame & 0xFFFF, bits)


def spoiled(value: float, at: int = 12000) -> bytes:
    samples = voice().astype(np.float64)
    samples[at] = value
    return encoded(samples, encoding="DOUBLE" if abs(value) > 1e38 else "FLOAT")


def random_bytes(count: int, head: bytes = b"") -> bytes:
    return head + np.random.default_rng(count).bytes(count)


SILENCE_8 = np.zeros((61 * 48000, 8), np.int16)
OUT_OF_PHASE = voice(1.0, RATE, 1) * np.array([1.0, -1.0], np.float32)
BAD: dict[str, Callable[[], bytes]] = {
    "empty.wav": lambda: b"",
    "one-byte.wav": lambda: b"R",
    "text.txt": lambda: b"This is not a recording.\n" * 50,
    "script.wav": lambda: b"#!/bin/sh\nexit 0\n",
    "page.mp3": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
    "archive.flac": lambda: b"PK\x03\x04" + bytes(500),
    "random.bin": lambda: random_bytes(5000),
    "random.wav": lambda: random_bytes(5000, b"RIFF\xff\xff\0\0WAVEfmt "),
    "random.flac": lambda: random_bytes(5000, b"fLaC"),
    "random.ogg": lambda: random_bytes(5000, b"OggS"),
    "random.mp3": lambda: random_bytes(5000, b"\xff\xfb\x90\0"),
    "zeros.mp3": lambda: b"\xff\xfb" + bytes(5000),
    "tag-only.mp3": lambda: b"ID3\x04\0\0\0\0\x07\x7f" + bytes(2000),
    "many-tags.mp3": lambda: b"ID3\x04\0\0\0\0\0\0" * 500_000,
    "many-chunks.wav": lambda: b"RIFF\0\0\0\0WAVE" + b"note\0\0\0\0" * 500_000,
    "movie.m4a": lambda: b"\0\0\0\x20ftypM4A " + bytes(2000),
    "movie.webm": lambda: b"\x1aE\xdf\xa3" + bytes(2000),
    "speech.amr": lambda: b"#!AMR\n" + bytes(2000),
    "ima.aiff": lambda: encoded(kind="AIFF", encoding="IMA_ADPCM"),
    "gsm.aiff": lambda: encoded(kind="AIFF", encoding="GSM610", rate=8000),
    "8svx.iff": lambda: b"FORM\0\0\x10\08SVX" + bytes(4096),
    "adpcm.au": lambda: encoded(kind="AU", encoding="G721_32", rate=8000),
    "alac.caf": lambda: encoded(kind="CAF", encoding="ALAC_16"),
    "cut.aiff": lambda: encoded(kind="AIFF")[:-1000],
    "cut.au": lambda: encoded(kind="AU")[:-1000],
    "cut.caf": lambda: encoded(kind="CAF")[:-5000],
    "cut.rf64": lambda: encoded(kind="RF64")[:-1000],
    "header.aiff": lambda: encoded(kind="AIFF")[:50],
    "header.au": lambda: encoded(kind="AU")[:20],
    "header.caf": lambda: encoded(kind="CAF")[:70],
    "silent-long.wav": lambda: encoded(SILENCE_8[:, :1], rate=48000),
    "bomb.flac": lambda: encoded(SILENCE_8, "FLAC", rate=48000),
    "offset-only.wav": lambda: encoded(np.full((RATE, 1), 0.5, np.float32)),
    "voice.w64": lambda: encoded(kind="W64"),
    "voice.voc": lambda: encoded(kind="VOC"),
    "ima.wav": lambda: encoded(encoding="IMA_ADPCM"),
    "ms.wav": lambda: encoded(encoding="MS_ADPCM"),
    "gsm.wav": lambda: encoded(encoding="GSM610", rate=8000),
    "tagged-ima.wav": lambda: b"ID3\x04\0\0\0\0\0\0" + encoded(encoding="IMA_ADPCM"),
    "two-formats.wav": lambda: wav_bytes(pcm_format(0x11), extra=b"fmt \x10\0\0\0" + pcm_format()),
    "layer2.mp3": lambda: b"\xff\xfd\x90\0" * 500,
    "header.wav": lambda: encoded()[:44],
    "half-header.wav": lambda: encoded()[:30],
    "no-data.wav": lambda: encoded()[:36],
    "data-first.wav": lambda: b"RIFF\0\0\0\0WAVEdata\x10\0\0\0" + bytes(16),
    "no-samples.wav": lambda: encoded(np.zeros((0, 1), np.float32)),
    "no-samples.flac": lambda: unknown_length(encoded(kind="FLAC"))[:42],
    "no-channels.wav": lambda: wav_bytes(pcm_format(channels=0)),
    "no-bits.wav": lambda: wav_bytes(pcm_format(bits=0)),
    "nine-channels.wav": lambda: encoded(voice(1.0, RATE, 9)),
    "many-channels.wav": lambda: wav_bytes(pcm_format(channels=1024), bytes(204800)),
    "slow.wav": lambda: encoded(voice(1.0, 4000), rate=4000),
    "fast.wav": lambda: encoded(voice(1.0, 200000), rate=200000),
    "no-rate.wav": lambda: wav_bytes(pcm_format(rate=0)),
    "forged-rate.wav": lambda: wav_bytes(pcm_format(rate=655350)),
    "huge-rate.wav": lambda: wav_bytes(pcm_format(rate=0xFFFFFFFF)),
    "nan.wav": lambda: spoiled(np.nan),
    "nan-late.wav": lambda: encoded(np.append(voice(10.0), np.float32(np.nan)), encoding="FLOAT"),
    "inf.wav": lambda: spoiled(np.inf),
    "overflow.wav": lambda: spoiled(1e300),
    "unscaled.wav": lambda: encoded(voice() * 32768, encoding="FLOAT"),
    "silent.wav": lambda: encoded(np.zeros((24000, 1), np.float32)),
    "whisper.wav": lambda: encoded(voice() * 1e-3),
    "cancelling.wav": lambda: encoded(OUT_OF_PHASE),
    "short.wav": lambda: encoded(voice(0.07)),
    "one-sample.wav": lambda: encoded(voice(1.0)[:1]),
    "forged-length.flac": lambda: flac_with_length(2**36 - 1),
    "longer.flac": lambda: flac_with_length(48000),
}  # fmt: skip


def unknown_length(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def refuse(path: Path | str) -> str:
    with pytest.raises(AudioError) as caught:
        audio.read_reference(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name]())
    assert ";" in refuse(path)  # what is wrong; what to do


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
def test_a_file_cut_off_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    """WAV, FLAC and MP3 tell their length; an Ogg cut at a page is a shorter Ogg and may pass."""
    data = encoded(kind=kind, encoding=ENCODING[kind])
    path = tmp_path / "cut"
    for length in {*range(1, 60, 3), *np.linspace(60, len(data) - 900, 20, dtype=int).tolist()}:
        path.write_bytes(data[:length])
        if kind == "OGG":
            accepted_or_refused(path)
        else:
            refuse(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ima.wav", "WAV with IMA ADPCM"),
        ("ima.aiff", "AIFF with IMA ADPCM"),
        ("alac.caf", "CAF with Apple Lossless"),
        ("adpcm.au", "AU with encoding 23"),
        ("movie.m4a", "MPEG-4"),
        ("cut.aiff", "cut off (1000 of"),
        ("cut.rf64", "cut off (1000 of"),
        ("offset-only.wav", "constant"),
        ("nine-channels.wav", "9 channels, more than 8"),
        ("slow.wav", "4000 Hz"),
        ("short.wav", "0.070 s, at least 0.08 s"),
        ("silent.wav", "silent"),
        ("cancelling.wav", "silent"),
        ("nan.wav", "NaN"),
        ("empty.wav", "empty"),
        ("header.wav", "cut off (48000 of 48000 bytes are missing)"),
        ("text.txt", "is not WAV"),
    ],
)
def test_messages_say_what_is_wrong(name: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name]())
    assert words in refuse(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refuse(tmp_path / "missing.wav")
    assert "not a regular file" in refuse(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refuse(tmp_path / "pipe")
    assert "not a regular file" in refuse("/dev/zero")
    refuse("nul\0character.wav")
    refuse(str(tmp_path / ("x" * 300)))
    for url in ("https://example.org/me.wav", "HTTP://example.org/me.wav", "file:///me.wav", "s3://me/me.wav"):
        assert "is a URL, which is not fetched" in refuse(url)


def test_streams_and_bytes_have_names_too(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"^<bytes>: "):
        audio.read_reference(b"no")
    with pytest.raises(AudioError, match=r"^<stream>: "):
        audio.read_reference(io.BytesIO(b"no"))
    with pytest.raises(AudioError, match=r"text; open it in binary"):
        audio.read_reference(io.StringIO("no"))  # type: ignore[arg-type]
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(AudioError, match="cannot be read"):
        audio.read_reference(closed)
    path = tmp_path / "text.wav"
    path.write_bytes(b"no")
    with path.open("rb") as file, pytest.raises(AudioError, match=r"text\.wav: is not WAV"):
        audio.read_reference(file)


@pytest.mark.parametrize(("kind", "channels"), [("FLAC", 8), ("MP3", 1)])
def test_a_long_file_needs_no_more_memory_than_a_short_one(kind: str, channels: int, tmp_path: Path) -> None:
    """Ten minutes: 92 MB as float32 in each channel at 16 kHz, and more. Measured in a process of its own."""
    path = tmp_path / "long"
    samples = np.zeros((600 * 16000, channels), np.float32)
    samples[100 * 16000 : 110 * 16000] = voice(10.0, 16000)
    path.write_bytes(encoded(samples, kind, ENCODING[kind], rate=16000))
    code = (
        "import resource, sys; from sopro_np import audio; import soundfile, soxr\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(audio.read_reference(sys.argv[1]).size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    size, more = map(int, done.stdout.split())
    assert 10 * RATE <= size <= 12 * RATE
    assert more < 40_000  # kB: the first minute (4 MB), levels, a block of 8 channels


def accepted_or_refused(source: audio.AudioSource) -> bool:
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    message = None
    try:
        wav = audio.read_reference(source)
    except AudioError as error:
        message = str(error)
    if message is not None:
        assert message.startswith(f"{name}: ")
        return False
    assert wav.dtype == np.float32
    assert wav.ndim == 1
    assert 0 < wav.size <= 288000
    assert np.isfinite(wav).all()
    return True


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_mutated_files_are_read_or_refused(kind: str) -> None:
    """Bytes changed, removed or repeated, most of them in the header; nothing but AudioError comes out."""
    rng = np.random.default_rng(11)
    original = encoded(voice(0.3, 8000), kind, ENCODING[kind], rate=8000)
    accepted = 0
    for _ in range(400):
        data = bytearray(original)
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(min(len(data), 64) if rng.random() < 0.7 else len(data)))
            size = int(rng.integers(1, 9))
            match rng.integers(4):
                case 0:
                    data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
                case 1:
                    data[at : at + size] = rng.bytes(size)
                case 2:
                    del data[at : at + size]
                case 3:
                    data[at:at] = data[at : at + size]
        accepted += accepted_or_refused(bytes(data))
    assert 0 < accepted < 400


# --- properties ---------------------------------------------------------------------------------------------

RATES = st.sampled_from([8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000])


@given(st.integers(0, 5000), st.integers(-3, 5000))
def test_a_crop_is_the_middle(n: int, window: int) -> None:
    cropped = hearing.centre_crop(np.arange(n), window)
    assert cropped.size == (min(n, window) if window > 0 else n)
    if cropped.size:
        left, right = cropped[0], n - 1 - cropped[-1]
        assert 0 <= right - left <= 1
        assert np.array_equal(np.diff(cropped), np.ones(cropped.size - 1))


@given(RATES, st.integers(0, 9), st.integers(1, 9), st.integers(0, 9), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_trimming_keeps_the_voice_and_little_else(
    rate: int, before: int, during: int, after: int, channels: int
) -> None:
    """Lengths in quarters of a second."""
    lengths = [n * rate // 4 for n in (before, during, after)]
    wav = np.zeros((channels, sum(lengths)), np.float32)
    start, end = lengths[0], lengths[0] + lengths[1]
    wav[:, start:end] = voice(lengths[1] / rate, rate)[: lengths[1], 0]
    trimmed = hearing.trim_silence(wav, rate)
    assert trimmed.base is wav or trimmed is wav
    first = (trimmed.__array_interface__["data"][0] - wav.__array_interface__["data"][0]) // 4
    last = first + trimmed.shape[1]
    assert first <= start
    assert last >= end - rate // 100
    if during >= 2:  # otherwise what remains may be under half a second, and nothing is cut
        assert start - first <= 0.066 * rate
        assert last - end <= 0.066 * rate
    assert np.array_equal(hearing.trim_silence(wav.mean(axis=0), rate), trimmed.mean(axis=0))


@given(RATES, st.integers(200, 40000))
@settings(max_examples=60, deadline=None)
def test_resampling_keeps_the_duration(rate: int, n: int) -> None:
    wav = hearing.resample(voice(n / rate, rate)[:, 0], rate, RATE)
    assert abs(wav.size - n * RATE / rate) <= 1
    assert wav.dtype == np.float32


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(44100) / 44100
    wav = hearing.resample(np.sin(2 * np.pi * 1000 * t).astype(np.float32), 44100, RATE)
    expected = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert np.abs(wav - expected)[1000:-1000].max() < 1e-4


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_mono_is_the_mean_of_the_channels(channels: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, (9600, channels)).astype(np.float32)
    samples -= samples.mean()  # which would be an offset
    wav = audio.read_reference(encoded(samples, encoding="FLOAT"))
    assert np.allclose(wav, samples.mean(axis=1, dtype=np.float64), atol=1e-6)
