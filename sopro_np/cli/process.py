"""What a command is to its surroundings: streams, signals, exit codes.

What it has to say goes to stderr and may get lost (a closed or full stderr changes nothing); what it was asked for
goes to stdout and may not.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

from sopro_np.errors import SoproError, SoproWarning, UsageError

ENDING = ("SIGTERM", "SIGHUP")  # by default they end a process without a chance to remove its temporary files


class OutputError(SoproError):
    """What was asked for cannot be written: standard output is closed, a disk is full."""


def run(work: Callable[[], int]) -> int:
    """Exit code of `work`: its own, or 0 (nobody reads any more), 1 (failed), 2 (usage), 130 (interrupted)."""
    with _signals(), _streams(), _notes():
        try:
            code = work()
            sys.stdout.flush()  # what cannot be written is noticed here, not when Python exits
            return code
        except SystemExit as stop:  # argparse has shown its help: that, too, may have gone nowhere
            if stop.code in (0, None):
                return _flushed()
            raise
        except SoproError as error:
            return _failed(str(error), error.exit_code)
        except BrokenPipeError:  # the reader has heard enough
            _to_nowhere(1)
            return 0
        except OSError as error:
            return _failed(f"{error.filename or 'the system'}: {error.strerror or error}")
        except KeyboardInterrupt:
            return _failed("interrupted", 130)
        except MemoryError:
            return _failed("out of memory; try a smaller recipe (int8) or fewer frames")
        except RecursionError:
            return _failed("something is nested too deeply to be read")


def tell(line: str) -> None:
    """A line on stdout that nobody must read: what the command has made lies in a file already."""
    with suppress(OutputError, BrokenPipeError):
        print(line, flush=True)


def hush() -> None:
    """No notes from now on; errors are still said."""
    warnings.simplefilter("ignore", SoproWarning)


def check_stdout() -> None:
    """Before audio is made for it: standard output takes bytes."""
    if isinstance(sys.stdout, Output) and sys.stdout.closed_from_the_start:
        raise OutputError("standard output is closed; name a file with -o")
    if sys.stdout.isatty():
        raise UsageError("-o -: standard output is a terminal; send it to a file or a player (| aplay), or use -o FILE")


def _flushed() -> int:
    """Exit code of a command that has only written to stdout."""
    try:
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        _to_nowhere(1)
        return 0
    except OutputError as error:
        return _failed(str(error))


def _failed(message: str, code: int = 1) -> int:
    print(f"sopro-np: {message}", file=sys.stderr)
    with suppress(OutputError, BrokenPipeError):
        sys.stdout.flush()
    return code


# ---------------------------------------------------------------- streams


def _put(stream: TextIO, text: str) -> int:
    """Write; what the stream's encoding lacks (a file's name in another encoding, say) is written as \\x, \\u."""
    try:
        return stream.write(text)
    except UnicodeEncodeError:
        coding = stream.encoding or "ascii"
        return stream.write(text.encode(coding, "backslashreplace").decode(coding))


class Output:
    """Standard output whose failures are a SoproError, also one that was closed from the start."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.closed_from_the_start = stream is None

    def write(self, text: str) -> int:
        if self._stream is None:
            raise OutputError("standard output is closed")
        with _written():
            return _put(self._stream, text)

    def flush(self) -> None:
        with _written():
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise OutputError("standard output is closed; name a file with -o")
        return getattr(self._stream, name)


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _to_nowhere(1)
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from None


class Messages:
    """Standard error that never fails: nobody may be there to read it."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _unheard():
            if self._stream is not None:
                _put(self._stream, text)
        return len(text)

    def flush(self) -> None:
        with _unheard():
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _unheard() -> Iterator[None]:
    try:
        yield
    except OSError:
        _to_nowhere(2)
    except ValueError:  # the stream was closed meanwhile
        pass


def _to_nowhere(number: int) -> None:
    """What is still buffered for a descriptor is thrown away: else Python fails over it once more when it exits."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _reopen() -> None:
    """Descriptors 0, 1, 2 exist: else the next file that is opened takes such a number, and print writes into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


@contextmanager
def _streams() -> Iterator[None]:
    _reopen()
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(out), Messages(err)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = out, err


# ---------------------------------------------------------------- notes, signals


@contextmanager
def _notes() -> Iterator[None]:
    """Warnings of this package are lines on stderr, each said once; errors are no warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SoproWarning)
        show, said = warnings.showwarning, set[str]()

        def note(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, SoproWarning):
                show(message, category, *rest, **more)
            elif str(message) not in said:
                said.add(str(message))
                print(f"note: {message}", file=sys.stderr, flush=True)

        warnings.showwarning = note
        yield


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as an exception, so that temporary files go; what nohup ignores stays so."""
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        for other in before:  # a second one does not interrupt the tidying up
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    with suppress(ValueError):  # not in the main thread: somebody else looks after signals
        for name in ENDING:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
