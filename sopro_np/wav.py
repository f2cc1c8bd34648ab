"""Writing speech: mono PCM16, as a WAV file or as raw s16le, to a file or into a pipe. Nothing but NumPy."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from sopro_np.errors import AudioError, SoproWarning, UsageError
from sopro_np.files import READ_ONLY, Replacement, is_stream, read_only, unusable
from sopro_np.options import whole

Target = str | Path | BinaryIO

UNKNOWN = 0xFFFF_FFFF  # as a size: "until the stream ends"; players and ffmpeg understand it
HEADER_BYTES = 44
WAV_ENDINGS, RAW_ENDINGS = (".wav", ".wave"), (".raw", ".pcm", ".s16")
OTHERS = (
    ".mp3", ".mp2", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".ac3", ".wma", ".webm", ".amr", ".3gp",
    ".aif", ".aiff", ".au", ".caf",
)  # fmt: skip


def pcm16(wav: np.ndarray) -> bytes:
    """(n,) samples, clipped to [-1, 1] -> 2 n bytes: round(32767 x), half to even, little-endian.

    int16 samples are such already and stay as they are. Raises UsageError for what is no samples (n,) (other integers:
    nobody can tell their full scale), AudioError if one is not finite: there is no sound to write for it.
    """
    try:
        wav = np.asarray(wav)
    except ValueError as error:  # rows of different lengths
        raise UsageError(f"speech is mono: expected samples (n,): {error}") from None
    if wav.ndim != 1:
        raise UsageError(f"speech is mono: expected samples (n,), got shape {wav.shape}")
    if wav.dtype.kind == "i" and wav.dtype.itemsize == 2:
        return wav.astype("<i2").tobytes()
    if wav.dtype.kind != "f":
        raise UsageError(f"samples are floats in [-1, 1], or int16, not {wav.dtype}: divide them by their full scale")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        wav = wav.astype(np.float32)
    if not np.isfinite(wav).all():
        raise AudioError("the speech has samples that are not numbers (NaN or infinity) and cannot be written")
    return np.rint(np.clip(wav, -1, 1) * np.float32(32767)).astype("<i2").tobytes()


def wav_header(sample_rate: int, data_bytes: int | None) -> bytes:
    """The 44 bytes before the samples of a mono PCM16 WAV; None for a length that is not known yet."""
    size = UNKNOWN if data_bytes is None else min(data_bytes, UNKNOWN)
    riff_size = min(size + HEADER_BYTES - 8, UNKNOWN)
    layout = (b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", riff_size, b"WAVE", *layout, b"data", size)


class WavWriter:
    """Writes speech chunk by chunk; a context manager.

    A file named by a path appears complete or not at all: samples go to a temporary file beside it, which
    takes its place on `close()` and vanishes after an exception. "-" (standard output), file objects, pipes
    and devices are written strictly in order and never sought, with a header that says "until the stream
    ends" unless `samples` gives the length beforehand. File objects stay open. `raw` leaves the header out.
    Raises UsageError for a target that cannot be opened, AudioError when writing fails (disk full);
    a closed pipe stays a BrokenPipeError.
    """

    def __init__(
        self, target: Target, sample_rate: int = 24000, *, raw: bool = False, samples: int | None = None
    ) -> None:
        if (rate := whole("sample_rate", sample_rate, 1, UNKNOWN // 2)) is None:
            raise UsageError("sample_rate must be given a number")
        self._rate, self._raw = rate, raw
        self._bytes = 0
        self._replacement: Replacement | None = None  # None: what is written cannot be taken back
        self._owned = isinstance(target, str | Path) and target != "-"
        self.name = str(target if self._owned else "standard output" if target == "-" else target)
        self._file = self._open(target)
        if not raw:
            self._put(wav_header(rate, None if samples is None else 2 * samples))

    def write(self, wav: np.ndarray) -> None:
        """Append samples (n,), any n, and hand them on at once (a player is waiting at the end of a pipe)."""
        data = pcm16(wav)
        self._put(data)
        self._bytes += len(data)

    def close(self) -> None:
        """Finish the file and put it in its place; does nothing the second time."""
        if self._file.closed or not self._owned:
            return
        try:
            if self._replacement is None:
                self._file.close()
                return
            if not self._raw:
                self._file.seek(0)
                self._file.write(wav_header(self._rate, self._bytes))
            self._replacement.commit()
        except OSError as error:
            self.discard()
            raise AudioError(f"cannot write {self.name}: {error.strerror or error}") from error

    def discard(self) -> None:
        """Give up: an unfinished file disappears, an existing one stays as it was."""
        if self._replacement is not None:
            self._replacement.discard()
        elif self._owned:
            with suppress(OSError):  # what could not be written is being thrown away
                self._file.close()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.discard()

    def _open(self, target: Target) -> BinaryIO:
        if target == "-":
            if sys.stdout is None:
                raise UsageError("standard output is closed; name a file with -o")
            return sys.stdout.buffer
        if not isinstance(target, str | Path):
            if isinstance(target, io.TextIOBase) or not hasattr(target, "write"):
                what = "a file that is open as text" if hasattr(target, "write") else f"{target!r:.80}"
                raise UsageError(f"cannot write to {what}: give a file name, or a file opened in binary mode")
            return target
        try:
            if problem := unusable(target):
                raise UsageError(f"cannot write {_short(target)}: {problem}")
            if is_stream(target):
                return Path(target).open("wb")
            self._replacement = Replacement(target)
            return self._replacement.file
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot write {_short(target)}: {reason}; check the folder and its permissions"
            ) from error

    def _put(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:  # an unbuffered pipe (python -u) may take only a part
                taken = self._file.write(rest)
                rest = rest[len(rest) if taken is None else taken :]
            if self._replacement is None:
                self._file.flush()
        except BrokenPipeError:
            self.discard()
            raise
        except (OSError, ValueError, TypeError) as error:  # closed; wants text
            self.discard()
            raise AudioError(f"cannot write {self.name}: {getattr(error, 'strerror', None) or error}") from error


def _short(target: str | Path) -> str:
    """A name for a message."""
    return str(target) if len(str(target)) <= 200 else f"{str(target)[:80]}..."


def check_target(target: str, inputs: Iterable[str | Path | None] = ()) -> None:
    """UsageError now, and not after a minute of work, if `target` may not be written or is one of the inputs."""
    if not target:
        raise UsageError("the name of the output is empty")
    for source in inputs:
        if source and os.path.isfile(target) and os.path.exists(source) and os.path.samefile(target, source):
            raise UsageError(f"{target}: is read by this command; name another output")
    if target == "-":
        return
    if reason := unusable(target):
        raise UsageError(f"cannot write {_short(target)}: {reason}")
    if os.path.isfile(target) and read_only(target):
        raise UsageError(f"cannot write {target}: {READ_ONLY}")
    if is_stream(target) and not os.access(target, os.W_OK):
        raise UsageError(f"cannot write {target}: no permission to write to it; name another output")
    folder = os.path.dirname(os.path.realpath(target))
    if not is_stream(target) and not os.access(folder, os.W_OK):
        problem = "no permission to write there" if os.path.isdir(folder) else "no such folder"
        raise UsageError(f"cannot write {target}: {problem}; check the folder and its permissions")


def _check_ending(target: Target, raw: bool) -> None:
    """UsageError for a file whose name says that it holds something else."""
    if not isinstance(target, str | Path) or is_stream(target):
        return
    ending = Path(target).suffix.lower()
    if ending in OTHERS or ending in (WAV_ENDINGS if raw else RAW_ENDINGS):
        name, what = (".raw", "samples without a header") if raw else (".wav", "WAV")
        raise UsageError(
            f"{_short(target)}: a file named {ending} should not hold {what}: name it {name}, or encode it with "
            "sopro_np.encode: open_writer(FILE, find_format(FILE))"
        )


def write_wav(target: Target, wav: np.ndarray, sample_rate: int = 24000, *, raw: bool = False) -> None:
    """Write samples as a mono PCM16 WAV file, complete or not at all; the length is known, so a pipe's header is true.

    `wav`: floats (n,), clipped to [-1, 1] with a SoproWarning, or int16 (n,), written as they are. `target`: file name,
    "-" for standard output, or a file object. `sample_rate` in Hz. `raw`: s16le without a header. UsageError for other
    samples, a file named as another format or a target that cannot be opened, AudioError for NaN, or if writing fails.
    """
    _check_ending(target, raw)
    data = pcm16(wav)  # refused before anything is opened
    if np.asarray(wav).dtype.kind == "f" and len(data) and (peak := float(np.abs(wav).max())) > 1:
        warnings.warn(f"samples up to {peak:.4g} are clipped to 1: scale them first", SoproWarning, stacklevel=2)
    with WavWriter(target, sample_rate, raw=raw, samples=len(data) // 2) as writer:
        writer.write(np.frombuffer(data, "<i2"))
