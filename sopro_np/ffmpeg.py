"""ffmpeg as a decoder of foreign containers (m4a, mp4, webm, wma, amr, aac), if it is installed.

It is the largest parser a recording can meet, so it gets no names: bytes in on a pipe, samples out on a pipe, the
format that was recognised and no other, no protocol but these, no shell, and a time after which it is ended.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Generator
from contextlib import suppress

import numpy as np

from sopro_np.containers import REMEDY, Recognised
from sopro_np.errors import AudioError
from sopro_np.mp4 import index_first

SECONDS_AT_MOST = 120.0  # of work; an hour of m4a takes some 5 s on a PC
_PIECE = 1 << 16  # bytes written at a time
_BLOCK = 1 << 18  # bytes read at a time
_WHOLE = 256 << 20  # bytes of a file whose rate is asked for


def command(program: str, demuxer: str, rate: int, seconds: float) -> list[str]:
    """Arguments that make ffmpeg turn stdin into mono samples of 32 bits at `rate`, at most so many seconds.

    Whole numbers and not floats: only for those its mix to mono is the mean, with floats it is 3 dB louder.
    """
    quiet = [program, "-nostdin", "-hide_banner", "-loglevel", "quiet"]
    inward = ["-protocol_whitelist", "pipe", "-f", demuxer, "-i", "pipe:0"]
    outward = ["-map", "0:a:0", "-vn", "-sn", "-dn", "-ac", "1", "-ar", str(rate), "-t", f"{seconds:.3f}"]
    return [*quiet, *inward, *outward, "-c:a", "pcm_s32le", "-f", "s32le", "pipe:1"]


def rate_of(recording: Recognised) -> int | None:
    """Samples a second of what `decoded` would read, as ffmpeg finds them; None: it finds none, or is not here."""
    program, whole = shutil.which("ffmpeg"), recording.data
    if program is None or recording.demuxer is None or whole.length > _WHOLE:
        return None
    start = command(program, recording.demuxer, 0, 0.1)
    start = [*start[: start.index("-ar")], "-t", "0.1", "-c:a", "pcm_s16le", "-f", "wav", "pipe:1"]
    data = index_first(whole) if recording.demuxer == "mov" else whole
    data.seek(0)
    try:
        done = subprocess.run(
            start, input=data.read(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS_AT_MOST
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    rate = int.from_bytes(done.stdout[24:28], "little")  # of the header that ffmpeg writes
    return rate if done.stdout[:4] == b"RIFF" and rate else None


def decoded(recording: Recognised, rate: int, seconds: float) -> Generator[np.ndarray]:
    """Blocks (n,) float32, mono at `rate` Hz, `seconds` of them at most. AudioError if ffmpeg is missing or fails."""
    name, program = recording.name, shutil.which("ffmpeg")
    if program is None:
        raise AudioError(f"{name}: is {recording.container}, which is read with ffmpeg; install ffmpeg, or {REMEDY}")
    assert recording.demuxer is not None
    process = subprocess.Popen(
        command(program, recording.demuxer, rate, seconds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    feeder = threading.Thread(target=_feed, args=(recording, process), daemon=True)
    late = threading.Event()

    def end_it() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(SECONDS_AT_MOST, end_it)
    timer.daemon = True
    total, ended = 0, False
    try:
        feeder.start()
        timer.start()
        while len(data := process.stdout.read(_BLOCK)) >= 4:
            block = np.frombuffer(data, "<i4", len(data) // 4).astype(np.float32) * np.float32(2.0**-31)
            total += len(block)
            yield block
        process.wait()
        ended = True
    finally:  # also when nobody wants more
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        feeder.join()
        timer.join()
    if late.is_set():
        raise AudioError(f"{name}: ffmpeg took more than {SECONDS_AT_MOST:g} s; cut out a few seconds of speech")
    if ended and (total == 0 or process.returncode != 0):
        raise AudioError(f"{name}: is {recording.container}, in which ffmpeg finds no sound that it can read; {REMEDY}")


def _feed(recording: Recognised, process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    data = index_first(recording.data) if recording.demuxer == "mov" else recording.data
    data.seek(0)
    try:
        while piece := data.read(_PIECE):
            process.stdin.write(piece)
    except (BrokenPipeError, ValueError):  # it has read enough
        pass
    finally:
        with suppress(OSError):
            process.stdin.close()
