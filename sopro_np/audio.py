"""Reference recordings: from any ordinary audio file to the mono samples that the codec encodes.

A recording is someone else's file, so nothing in it is believed: the container is recognised before a decoder
sees it, the header is checked before decoding, and the bounds are checked again block by block.
Order as in the original: mono, trim silence at the file's own rate, resample, crop the middle.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sopro_np.errors import AudioError

if TYPE_CHECKING:
    import soundfile

AudioSource = str | Path | bytes | BinaryIO

MAX_SECONDS = 60.0
MAX_DECODED_BYTES = 32 << 20  # frames * channels * 4; a 4 KB FLAC can decode to a thousand times its size
MAX_FILE_BYTES = 80 << 20  # the decoded bound as 64-bit samples, and room for a cover picture
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 8
SILENCE_PEAK = 1e-3  # -60 dBFS: below it there is no voice to imitate, only the converter's noise
LOUDEST_PEAK = 8.0  # +18 dBFS; more means integers stored as floats, not a loud recording

_FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}
_ENCODINGS = {
    *("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    *("VORBIS", "OPUS", "MPEG_LAYER_III"),
}
_WAV_ENCODINGS = {1: "PCM", 3: "float"}
_WAV_REFUSED = {
    2: "Microsoft ADPCM",
    6: "A-law",
    7: "mu-law",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x55: "MP3",
}
_WAV_EXTENSIBLE = 0xFFFE
_WAV_PLACEHOLDER = 0x7FFF_0000  # a size from here on stands for "unknown": the file was written to a pipe
_OTHER_CONTAINERS = {  # (offset, magic): name, for a message that says more than "not audio"
    (0, b"FORM"): "AIFF",
    (0, b"RF64"): "RF64",
    (0, b"RIFX"): "big-endian WAV",
    (0, b"caff"): "Core Audio",
    (0, b".snd"): "Sun AU",
    (0, b"\x1aE\xdf\xa3"): "Matroska or WebM",
    (4, b"ftyp"): "MPEG-4 (m4a)",
    (0, b"#!AMR"): "AMR",
}
_WAV_CHUNKS = 1000  # more before the samples is an attempt to waste time
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports 2^63 - 1 for a FLAC stream whose header gives no length
_BLOCK_FRAMES = 1 << 16
_REMEDY = "convert it, e.g. with: ffmpeg -i RECORDING -ac 1 -ar 24000 reference.wav"


def read_reference(
    source: AudioSource, sample_rate: int = 24000, seconds: float = 12.0, frame_rate: float = 12.5
) -> np.ndarray:
    """Read the middle of a recording as float32 samples (n,), mono, at `sample_rate` Hz.

    `source` is a file name, the bytes of a file, or a binary file object: WAV (PCM or float), FLAC, Ogg
    (Vorbis, Opus) or MP3. At most max(1, round(seconds * frame_rate)) codec frames are kept, each of
    sample_rate / frame_rate samples: n is at most 288000 (12 s) by default. Shorter ones are not padded.
    Raises AudioError, naming the file and the remedy, if it is missing, not audio, damaged, cut off, silent,
    shorter than one frame or beyond the bounds at the top of this module.
    """
    name, data = _contents(source)
    mono, rate = _decode(name, _recognise(name, data))
    _check_sound(name, mono, rate, 1.0 / frame_rate)
    wav = resample(trim_silence(mono, rate), rate, sample_rate)
    return centre_crop(wav, max(1, round(seconds * frame_rate)) * round(sample_rate / frame_rate))


def trim_silence(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut quiet edges: (n,) or (channels, n) -> the same with fewer samples, a view.

    Frames of 25 ms every 10 ms count as voice when their energy is above -40 dB and within 40 dB of the
    loudest one; 30 ms are kept around them. Unchanged if nothing is voice or less than 0.5 s would remain.
    Source: `trim_silence_energy` of the original.
    """
    mono = wav if wav.ndim == 1 else wav.mean(axis=0)
    frame, hop = int(sample_rate * 25 / 1000), int(sample_rate * 10 / 1000)
    if mono.size < int(0.1 * sample_rate) or mono.size < frame:
        return wav
    frames = np.lib.stride_tricks.sliding_window_view(mono, frame)[::hop]
    energy = np.einsum("ij,ij->i", frames, frames) / np.float32(frame)  # no copy of the overlapping frames
    level = 10 * np.log10(energy + np.float32(1e-10))
    voiced = np.flatnonzero(level > max(level.max() - 40, -40))
    if voiced.size == 0:
        return wav
    margin = int(0.03 * sample_rate)
    start = max(0, int(voiced[0]) * hop - margin)
    end = min(mono.size, int(voiced[-1]) * hop + frame + margin)
    return wav if end - start < int(0.5 * sample_rate) else wav[..., start:end]


def centre_crop(wav: np.ndarray, window: int) -> np.ndarray:
    """The middle `window` samples of (..., n), a view; all if n is smaller or `window` is not positive."""
    if window <= 0 or wav.shape[-1] <= window:
        return wav
    start = (wav.shape[-1] - window) // 2
    return wav[..., start : start + window]


def resample(wav: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """(n,) float32 at `rate` Hz -> (round(n * new_rate / rate),) at `new_rate` Hz (soxr, its quality HQ)."""
    if rate == new_rate:
        return wav
    import soxr  # here and not above: synthesis from a saved voice never resamples

    return soxr.resample(wav, rate, new_rate, quality="HQ")


def _contents(source: AudioSource) -> tuple[str, bytes]:
    """Name for messages, and at most MAX_FILE_BYTES of content."""
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = "<bytes>", bytes(source)
    elif isinstance(source, str | Path):
        name, data = str(source), _read_file(Path(source))
    elif not hasattr(source, "read"):
        raise AudioError(f"a {type(source).__name__} is no recording; give a file name, its bytes or a binary file")
    else:
        name = str(getattr(source, "name", "<stream>"))
        try:
            data = source.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            raise AudioError(f"{name}: cannot be read ({error}); give an open, binary file") from error
        if not isinstance(data, bytes):
            raise AudioError(f"{name}: is open as text; open it in binary mode")
    if len(data) > MAX_FILE_BYTES:
        raise AudioError(f"{name}: is larger than {MAX_FILE_BYTES >> 20} MiB; cut out a few seconds of speech")
    if not data:
        raise AudioError(f"{name}: is empty; record a few seconds of speech")
    return name, data


def _read_file(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise AudioError(f"{path}: is not a regular file; name an audio file")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file; check the name of the reference recording") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read ({reason}); check the name and its permissions") from error


def _recognise(name: str, data: bytes) -> bytes:
    """The content from its audio on, if it is one of the four containers (libsndfile would try 25)."""
    if data.startswith(b"ID3") and len(data) > 10:  # an ID3v2 tag; its length has 7 bits per byte
        size = sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
        data = data[10 + size :].lstrip(b"\0")
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        _check_wav(name, data)
        return data
    if data.startswith((b"fLaC", b"OggS")) or (data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xE6 == 0xE2):
        return data  # the last: MPEG frame sync, layer III
    if name.endswith(".safetensors"):
        raise AudioError(f"{name}: is a voice or a model, not a recording; load a voice with --voice or load_voice()")
    for (offset, magic), container in _OTHER_CONTAINERS.items():
        if data.startswith(magic, offset):
            raise AudioError(f"{name}: is {container}, not WAV, FLAC, Ogg or MP3; {_REMEDY}")
    raise AudioError(f"{name}: is not WAV, FLAC, Ogg or MP3; name another file or {_REMEDY}")


def _check_wav(name: str, data: bytes) -> None:
    """Refuse a WAV that is compressed or cut off; libsndfile shortens the latter without a word."""
    encoding = None
    at = 12
    for _ in range(_WAV_CHUNKS):
        if at + 8 > len(data):
            break
        kind, size, body = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little"), at + 8
        if kind == b"fmt " and encoding is None:
            encoding = int.from_bytes(data[body : body + 2], "little")
            if encoding == _WAV_EXTENSIBLE:
                encoding = int.from_bytes(data[body + 24 : body + 26], "little")
            if encoding not in _WAV_ENCODINGS:
                label = _WAV_REFUSED.get(encoding, f"encoding {encoding:#x}")
                raise AudioError(f"{name}: is a WAV with {label} inside, only PCM and float are read; {_REMEDY}")
        if kind == b"data":
            if encoding is None:
                raise AudioError(f"{name}: is damaged (no format before the samples); {_REMEDY}")
            if len(data) - body < size < _WAV_PLACEHOLDER:
                lost = size - (len(data) - body)
                raise AudioError(f"{name}: is cut off ({lost} of {size} bytes are missing); copy it again")
            return
        at = body + size + size % 2
    raise AudioError(f"{name}: is cut off (no samples after the header); copy it again")


def _decode(name: str, data: bytes) -> tuple[np.ndarray, int]:
    """Mono mix (mean over channels) as float32 (n,) at the file's own rate, and that rate."""
    import soundfile  # here and not above: synthesis from a saved voice needs no decoder

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            limit = _check_header(name, file)
            # Its read() seeks after every block, which fails at the end of a FLAC of unknown length.
            file.seekable = lambda: False
            blocks = []
            total = 0
            while total <= limit:
                block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                if not np.isfinite(block).all():
                    raise AudioError(f"{name}: has samples that are not numbers (NaN or infinity); {_REMEDY}")
                total += len(block)
                blocks.append(block.mean(axis=1))
            declared, rate = file.frames, file.samplerate
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(f"{name}: cannot be decoded, it is damaged or cut off; {_REMEDY}") from error
    if total > limit:
        raise AudioError(f"{name}: {_too_long(limit, rate)}")
    if total < declared < _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: is cut off ({total} of {declared} samples are there); copy it again")
    if total == 0:
        raise AudioError(f"{name}: holds no samples; record a few seconds of speech")
    return np.concatenate(blocks), rate


def _check_header(name: str, file: soundfile.SoundFile) -> int:
    """Refuse what cannot be used; returns how many frames may be decoded."""
    if file.format not in _FORMATS or file.subtype not in _ENCODINGS:
        raise AudioError(f"{name}: is {file.format} with {file.subtype} inside, which is not read; {_REMEDY}")
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(
            f"{name}: has a rate of {file.samplerate} Hz, outside of {MIN_RATE} to {MAX_RATE} Hz; {_REMEDY}"
        )
    if file.channels > MAX_CHANNELS:
        raise AudioError(f"{name}: has {file.channels} channels, more than {MAX_CHANNELS}; {_REMEDY}")
    limit = min(int(MAX_SECONDS * file.samplerate), MAX_DECODED_BYTES // (4 * file.channels))
    if limit < file.frames < _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: {_too_long(limit, file.samplerate)}")
    return limit


def _too_long(limit: int, rate: int) -> str:
    seconds = int(limit / rate)
    return f"is longer than {seconds} s, the most for its rate and channels; cut out a few seconds of speech"


def _check_sound(name: str, mono: np.ndarray, rate: int, shortest: float) -> None:
    """Refuse a recording without a usable voice in it; `shortest` in seconds."""
    if mono.size < shortest * rate:
        raise AudioError(
            f"{name}: is too short ({mono.size / rate:.3f} s, at least {shortest:g} s); record a few seconds of speech"
        )
    peak = float(np.abs(mono).max())
    if peak < SILENCE_PEAK:
        raise AudioError(f"{name}: is silent (all below -60 dBFS once its channels are mixed); record it louder")
    if peak > LOUDEST_PEAK:
        raise AudioError(f"{name}: has samples up to {peak:.4g} where speech stays within 1; scale it to [-1, 1]")
