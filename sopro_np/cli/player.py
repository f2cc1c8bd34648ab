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


REMEDY = "install another one, e.g. Debian's alsa-utils, or write a file with -o"


def find_players() -> list[str]:
    """Names of the players that this machine has, the best first. UsageError if there are none."""
    if found := [name for name in (*FILES, *PIPES) if shutil.which(name)]:
        return found
    raise UsageError(f"--play: no player found (looked for {', '.join((*FILES, *PIPES))}); {REMEDY}")


class Player:
    """Plays samples at `rate` Hz; written to and closed like a WavWriter. `close` waits until all was heard.

    The first player that can be started does it. `kept`: a file that holds the same, for the error if it fails.
    """

    def __init__(self, rate: int, kept: str | None = None) -> None:
        self._remedy = "try -o FILE" if kept is None else f"the speech is in {kept}"
        self._file: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        problems = []
        for self.name in find_players():
            if self.name in FILES:
                self._file = tempfile.mkdtemp(prefix="sopro-") + "/speech.wav"
                self._writer = WavWriter(self._file, rate)
                return
            command = [self.name, *(word.replace("RATE", str(rate)) for word in PIPES[self.name])]
            try:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            except OSError as error:  # it is there, and yet no program of this machine
                problems.append(f"{self.name} cannot be started ({error.strerror})")
                continue
            assert self._process.stdin is not None
            self._writer = WavWriter(cast(BinaryIO, self._process.stdin), rate, raw=True)
            return
        raise AudioError(f"--play: {', '.join(problems)}; {REMEDY} and without --play")

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
            try:
                code = subprocess.run([self.name, self._file], stdout=subprocess.DEVNULL, check=False).returncode
            except OSError as error:
                raise AudioError(f"{self.name} cannot be started ({error.strerror}); {self._remedy}") from None
            finally:
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
        raise AudioError(f"{self.name} ended before it had played everything (exit code {code}); {self._remedy}")

    def _remove(self) -> None:
        if self._file is not None:
            shutil.rmtree(Path(self._file).parent, ignore_errors=True)

    def __enter__(self) -> Player:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.discard()
