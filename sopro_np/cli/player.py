"""Speech out of the loudspeaker, through a program that plays audio."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from sopro_np.errors import AudioError, UsageError
from sopro_np.wav import WavWriter

# In the order of preference. They read 16-bit samples from their standard input; RATE is in Hz.
PIPES = {
    "pw-play": ("--raw", "--format=s16", "--rate=RATE", "--channels=1", "-"),
    "paplay": ("--raw", "--format=s16le", "--rate=RATE", "--channels=1"),
    "aplay": ("-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "RATE", "-"),
    "ffplay": ("-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", "RATE", "-i", "pipe:0"),
}
FILES = {"afplay": ()}  # macOS: takes a file only, so that it begins when all is there


def find_player() -> str:
    """Name of the first player that this machine has."""
    for name in (*FILES, *PIPES):
        if shutil.which(name):
            return name
    raise UsageError(
        "--play: no player found (looked for afplay, pw-play, paplay, aplay, ffplay); "
        "install one, e.g. Debian's alsa-utils, or write a file with -o"
    )


class Player:
    """Plays samples at `rate` Hz; written to and closed like a WavWriter. `close` waits until all was heard."""

    def __init__(self, rate: int) -> None:
        self.name = find_player()
        self._file: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if self.name in FILES:
            self._file = tempfile.mkdtemp(prefix="sopro-") + "/speech.wav"
            self._writer = WavWriter(self._file, rate)
            return
        command = [self.name, *(word.replace("RATE", str(rate)) for word in PIPES[self.name])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self._process.stdin is not None
        self._writer = WavWriter(cast(BinaryIO, self._process.stdin), rate, raw=True)

    def write(self, wav: np.ndarray) -> None:
        """Samples (n,): the player has a buffer, and makes us wait when that is full."""
        try:
            self._writer.write(wav)
        except BrokenPipeError:
            self._failed()

    def close(self) -> None:
        self._writer.close()
        if self._process is None:
            assert self._file is not None
            code = subprocess.run([self.name, self._file], stdout=subprocess.DEVNULL, check=False).returncode
            self._remove()
        else:
            code = self._wait()
        if code:
            self._failed(code)

    def discard(self) -> None:
        """Silence at once."""
        self._writer.discard()
        self._remove()
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def _wait(self) -> int:
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.wait()

    def _failed(self, code: int | None = None) -> None:
        code = self._wait() if code is None else code
        raise AudioError(f"{self.name} ended before it had played everything (exit code {code}); try -o FILE")

    def _remove(self) -> None:
        if self._file is not None:
            shutil.rmtree(Path(self._file).parent, ignore_errors=True)

    def __enter__(self) -> Player:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.discard()
