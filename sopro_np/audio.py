"""Reference recordings: from any ordinary audio file to the mono samples that the codec encodes.

A recording is someone else's file, so nothing in it is believed: the container is recognised before a decoder
sees it (containers.py), the header is checked before decoding, and the bounds are checked again block by block.
Order as in the original: mono, trim silence at the file's own rate, resample, crop the middle; before the trim an
offset is removed, and after the crop there must be speech (hearing.py).
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sopro_np import hearing
from sopro_np.containers import REMEDY, Recognised, recognise
from sopro_np.errors import AudioError

if TYPE_CHECKING:
    import soundfile

AudioSource = str | Path | bytes | BinaryIO

MAX_SECONDS = 60.0  # longer recordings are not kept: only their stretch with the most speech is
MAX_SAMPLES = 1 << 30  # decoded at most, all channels together: 3 h of 48 kHz stereo, half a minute of work
MAX_PIPED_BYTES = 256 << 20  # of what cannot be gone back in, and is held in memory: 2 h of the largest MP3
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 8

_FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"}
_ENCODINGS = {
    *("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"),
    *("VORBIS", "OPUS", "MPEG_LAYER_III"),
}
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports 2^63 - 1 for a FLAC stream whose header gives no length
_BLOCK_FRAMES = 1 << 16
_URL = re.compile(r"(https?|ftps?|s3|gs|hf|file|data):", re.IGNORECASE)


def reference_samples(
    ref: AudioSource | np.ndarray, sample_rate: int = 24000, seconds: float = 12.0, frame_rate: float = 12.5
) -> np.ndarray:
    """What of a recording, or of float samples (n,) at `sample_rate`, a voice is made of: float32 (n,).

    Samples are neither trimmed nor resampled, and otherwise held to what `read_reference` says.
    """
    if not isinstance(ref, np.ndarray):
        return read_reference(ref, sample_rate, seconds, frame_rate)
    if isinstance(ref, np.ma.MaskedArray):
        raise AudioError("samples are masked: fill them, e.g. with ref.filled(0)")
    hop = round(sample_rate / frame_rate)
    if ref.dtype.kind != "f" or ref.ndim != 1 or len(ref) < hop:
        raise AudioError(
            f"samples must be floats (n,) in -1..1, n at least {hop}, not {ref.dtype} {ref.shape}; divide integers by "
            "their largest value, mix channels, or give a file"
        )
    with np.errstate(over="ignore"):  # what is too large becomes an infinity, and is refused
        wav = ref.astype(np.float32)
    return _voice_of("the samples", wav, sample_rate, sample_rate, seconds, frame_rate, trim=False)


def read_reference(
    source: AudioSource, sample_rate: int = 24000, seconds: float = 12.0, frame_rate: float = 12.5
) -> np.ndarray:
    """Read the middle of a recording as float32 samples (n,), mono, at `sample_rate` Hz.

    `source` is a file name ("-": standard input, "~": the home folder), the bytes of a file, or a binary file object:
    WAV, AIFF, AU or CAF (PCM, float, a-law, u-law), FLAC, Ogg (Vorbis, Opus) or MP3; m4a, mp4, webm, wma, amr and aac
    where ffmpeg is installed. At most max(1, round(seconds * frame_rate)) codec frames are kept, each of
    sample_rate / frame_rate samples: n is at most 288000 (12 s) by default. Shorter ones are not padded. Of more than
    60 s, and where the middle is a pause, the stretch with the most speech is taken, with a SoproWarning, which a
    short, clipped, noisy or quiet recording gets, too.
    Raises AudioError, naming the file and the remedy, if it is missing, not audio, damaged, cut off, silent,
    shorter than one frame or beyond the bounds at the top of this module.
    """
    name, opened = _open(source)
    with opened as file:
        try:
            size = file.seek(0, os.SEEK_END)
        except (OSError, ValueError) as error:
            raise AudioError(f"{name}: cannot be read ({error}); give an open, binary file") from error
        if not size:
            raise AudioError(f"{name}: is empty; record a few seconds of speech")
        recording = recognise(name, file, size)
        mono, rate = _mono(recording, sample_rate, seconds)
    return _voice_of(name, mono, rate, sample_rate, seconds, frame_rate, trim=True)


def recorded_rate(source: AudioSource, sample_rate: int = 24000) -> int:
    """Samples a second of a recording as it was made, as far as its container says; else `sample_rate`.

    AudioError as `read_reference`, as far as the header tells.
    """
    name, opened = _open(source)
    with opened as file:
        recording = recognise(name, file, file.seek(0, os.SEEK_END))
        if recording.demuxer is not None:
            from sopro_np import ffmpeg

            return ffmpeg.rate_of(recording) or sample_rate
        with sound_file(recording) as sound:
            return sound.samplerate


def _voice_of(
    name: str, mono: np.ndarray, rate: int, new_rate: int, seconds: float, frame_rate: float, trim: bool
) -> np.ndarray:
    """Samples as decoded -> samples to encode, checked at both ends."""
    hearing.check_sound(name, mono, rate, 1.0 / frame_rate)
    wav = hearing.without_offset(mono)
    if trim:
        wav = hearing.trim_silence(wav, rate, hearing.silence_floor(hearing.levels(wav, rate)))
    clipped = hearing.clipped_share(wav)  # at its own rate: another one leaves no plateau
    wav = hearing.resample(wav, rate, new_rate)
    window = max(1, round(seconds * frame_rate)) * round(new_rate / frame_rate)
    wav = hearing.stretch(name, wav, new_rate, window)
    hearing.check_voice(name, wav, new_rate, clipped)
    return wav


# --- opening ------------------------------------------------------------------------------------------------


def _open(source: AudioSource) -> tuple[str, AbstractContextManager[BinaryIO]]:
    """Name for messages, and a file that can be gone back in; one that we opened is closed at the end."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>", nullcontext(io.BytesIO(source))
    if isinstance(source, str) and source == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise AudioError("-: no recording comes from standard input; pipe one in: ... < me.wav")
        return "<stdin>", nullcontext(_held("<stdin>", sys.stdin.buffer))
    if isinstance(source, str | Path):
        return str(source), _open_path(source)
    if not hasattr(source, "read"):
        raise AudioError(f"a {type(source).__name__} is no recording; give a file name, its bytes or a binary file")
    name = str(getattr(source, "name", "<stream>"))
    return name, nullcontext(_held(name, source))


def _held(name: str, stream: BinaryIO) -> BinaryIO:
    """What is left of a stream, in memory."""
    try:
        data = stream.read(MAX_PIPED_BYTES + 1)
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be read ({error}); give an open, binary file") from error
    if not isinstance(data, bytes):
        raise AudioError(f"{name}: is open as text; open it in binary mode")
    if len(data) > MAX_PIPED_BYTES:
        raise AudioError(f"{name}: is larger than {MAX_PIPED_BYTES >> 20} MiB; name a file, which need not be held")
    return io.BytesIO(data)


def _open_path(source: str | Path) -> BinaryIO:
    path = Path(source)
    try:
        if not path.exists() and _URL.match(str(source)):
            raise AudioError(f"{source}: is a URL, which is not fetched; download it, and name the file")
        if not path.exists() and str(source).startswith("~"):
            with suppress(RuntimeError):  # nobody knows that home
                path = path.expanduser()
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise AudioError(f"{source}: is not a regular file; name an audio file, or pipe it in and name -")
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{source}: no such file; check the name of the reference recording") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{source}: cannot be read ({reason}); check the name and its permissions") from error


# --- decoding -----------------------------------------------------------------------------------------------


def _mono(recording: Recognised, sample_rate: int, seconds: float) -> tuple[np.ndarray, int]:
    """Mono mix (mean over channels) as float32 (n,) at the file's own rate, and that rate.

    Of more than MAX_SECONDS only the `seconds` with the most speech: it is decoded twice, and never held as a whole.
    """
    mix = _Mix()
    rate, blocks = _blocks(recording, sample_rate, mix)
    kept: list[np.ndarray] = []
    loudness, total = hearing.Loudness(rate), 0
    with closing(blocks):
        for block in blocks:
            if not np.isfinite(block).all():
                raise AudioError(f"{recording.name}: has samples that are not numbers (NaN or infinity); {REMEDY}")
            total += len(block)
            loudness.add(block)
            if total <= MAX_SECONDS * rate:
                kept.append(block)
            else:
                kept.clear()
    if total == 0:
        raise AudioError(f"{recording.name}: holds no samples; record a few seconds of speech")
    if total <= MAX_SECONDS * rate:
        return mix.without_silent(np.concatenate(kept), rate), rate
    frames = max(1, round(seconds * 100))
    first = hearing.fullest(hearing.speech(loudness.levels()), frames)
    hearing.note(
        f"{recording.name}: is {total / rate:.0f} s long, more than {MAX_SECONDS:g} s; the {seconds:g} s with the most "
        f"speech are used, from {first / 100:.1f} s on"
    )
    start, end = first * loudness.hop, (first + frames) * loudness.hop
    at = 0
    with closing(_blocks(recording, sample_rate, _Mix())[1]) as again:
        for block in again:
            kept.append(block[max(0, start - at) : max(0, end - at)])
            at += len(block)
            if at >= end:
                break
    return mix.without_silent(np.concatenate(kept), rate), rate


class _Mix:
    """The mean over channels, block by block, as in the original."""

    def __init__(self) -> None:
        self._peaks = np.zeros(1, np.float32)  # of every channel

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(n, C) -> (n,)."""
        self._peaks = np.maximum(self._peaks, np.abs(block).max(axis=0))
        return block.mean(axis=1)

    def without_silent(self, wav: np.ndarray, rate: int) -> np.ndarray:
        """A mean (n,) that is quiet, over the channels that are heard alone: of 5.1, speech has the centre only."""
        heard = int((self._peaks >= hearing.SILENCE_PEAK).sum())
        if not 0 < heard < self._peaks.size or hearing.loudest(hearing.levels(wav, rate)) >= hearing.QUIET:
            return wav
        return wav * np.float32(self._peaks.size / heard)


def _blocks(recording: Recognised, sample_rate: int, mix: _Mix) -> tuple[int, Generator[np.ndarray]]:
    """Rate in Hz, and mono blocks (n,) float32 at that rate."""
    if recording.demuxer is not None:
        from sopro_np import ffmpeg  # here and not above: it starts another program, which is rarely wanted

        return sample_rate, ffmpeg.decoded(recording, sample_rate, MAX_SAMPLES / 2 / 48000)
    file = sound_file(recording)
    return file.samplerate, _read(recording.name, file, mix)


def sound_file(recording: Recognised) -> soundfile.SoundFile:
    """A recording that needs no ffmpeg, opened by libsndfile, its header checked; else AudioError."""
    import soundfile  # here and not above: synthesis from a saved voice needs no decoder

    recording.data.seek(0)
    try:
        file = soundfile.SoundFile(recording.data)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise AudioError(f"{recording.name}: cannot be decoded, it is damaged or cut off; {REMEDY}") from error
    try:
        _check_header(recording.name, file)
    except AudioError:
        file.close()
        raise
    # Its read() seeks after every block, which fails at the end of a FLAC of unknown length.
    file.seekable = lambda: False
    return file


def _read(name: str, file: soundfile.SoundFile, mix: _Mix) -> Generator[np.ndarray]:
    """Mono blocks until the end; the file is closed then."""
    import soundfile

    total, limit = 0, _limit(file)
    with file:
        try:
            while total <= limit and len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                total += len(block)
                yield mix(block)
        except (soundfile.SoundFileError, ValueError) as error:
            raise AudioError(f"{name}: cannot be decoded, it is damaged or cut off; {REMEDY}") from error
        declared, rate = file.frames, file.samplerate
    if total > limit:
        raise AudioError(f"{name}: {_too_long(limit, rate)}")
    if total < declared < _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: is cut off ({total} of {declared} samples are there); copy it again")


def _limit(file: soundfile.SoundFile) -> int:
    """Frames that may be decoded."""
    return MAX_SAMPLES // max(1, file.channels)


def _check_header(name: str, file: soundfile.SoundFile) -> None:
    """Refuse what cannot be used."""
    if file.format not in _FORMATS or file.subtype not in _ENCODINGS:
        raise AudioError(f"{name}: is {file.format} with {file.subtype} inside, which is not read; {REMEDY}")
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(
            f"{name}: has a rate of {file.samplerate} Hz, outside of {MIN_RATE} to {MAX_RATE} Hz; {REMEDY}"
        )
    if file.channels > MAX_CHANNELS:
        raise AudioError(f"{name}: has {file.channels} channels, more than {MAX_CHANNELS}; {REMEDY}")
    if (limit := _limit(file)) < file.frames < _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: {_too_long(limit, file.samplerate)}")


def _too_long(limit: int, rate: int) -> str:
    hours = limit / rate / 3600
    return f"is longer than {hours:.2g} h, the most for its rate and channels; cut out a few seconds of speech"
