"""Files and folders of this package on somebody's machine: written whole or not at all, kept where the user says."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sopro_np.errors import UsageError

READ_ONLY = "the file is read-only; name another one, or allow writing with chmod u+w"


def file_name(path: object, what: str, error: type[Exception] = UsageError) -> Path:
    """`path` as a path; an error names `what` it is for if nothing can have that name."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise error(f"{what} = {path!r:.80}: give the name of a file, as str or Path")
    if "\0" in (name := os.fspath(path)) or not name:
        raise error(f"{what} = {name!r:.80}: not a file name")
    return Path(name)


def read_only(path: str | Path) -> bool:
    """Has somebody protected that file? Its folder may allow to replace it all the same, and so may root's rights."""
    try:
        return not os.stat(path).st_mode & 0o222 or not os.access(path, os.W_OK)
    except (OSError, ValueError):  # there is none
        return False


def is_stream(path: str | Path) -> bool:
    """A pipe or a device, which is written to and must not be replaced by a file."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def unusable(path: str | Path) -> str | None:
    """Why nothing can be written under that name, as far as the name tells; None: it may be possible."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "it is a folder; name a file" if str(path).endswith(("/", os.sep)) else None
    except (OSError, ValueError) as error:  # too long, a file as folder, a ring of links; a NUL
        return getattr(error, "strerror", None) or str(error)
    if stat.S_ISDIR(mode):
        return "it is a folder; name a file"
    if stat.S_ISSOCK(mode):
        return "it is a socket; name a file or a pipe"
    return None


class Replacement:
    """A new file beside `path` that takes its place on `commit` and vanishes on `discard`; whichever comes first.

    What a link points to is replaced, not the link. A read-only file is not replaced. Errors are the system's: OSError,
    ValueError for a NUL in the name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(path))
        with suppress(FileNotFoundError):
            os.stat(self.path)  # a name that is too long is noticed now, and not when the file is complete
        if read_only(self.path):
            raise PermissionError(errno.EACCES, READ_ONLY, str(path))
        self._part = self.path.parent / f".sopro-{os.getpid()}-{os.urandom(4).hex()}.part"
        self.file: BinaryIO = self._part.open("xb")

    def commit(self) -> None:
        """The file is complete: on the disk first, then in its place."""
        if self.file.closed:
            return
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self._part.replace(self.path)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up; a file that was there stays as it was."""
        with suppress(OSError):  # what could not be written is being thrown away
            self.file.close()
        self._part.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path, error: type[Exception]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` if all goes well; what the system refuses becomes `error`."""
    path, new = file_name(path, "path", error), None
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise error(f"{path}: not an ordinary file; name another one")
        new = Replacement(path)
        yield new.file
        new.commit()
    except OSError as problem:
        raise error(f"{path}: cannot be written: {_reason(problem, path)}") from None
    finally:
        if new is not None:
            new.discard()  # nothing is left to discard after `commit`


def write_whole(path: str | Path, data: bytes, error: type[Exception]) -> None:
    """Into a file, whole or not at all; into a pipe or device as far as it takes it. Failures as in `replacing`."""
    if not is_stream(path := file_name(path, "path", error)):
        with replacing(path, error) as file:
            file.write(data)
        return
    try:
        with path.open("wb") as stream:
            stream.write(data)
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise error(f"{path}: cannot be written: {problem.strerror or problem}") from None


def _reason(problem: OSError, path: Path) -> str:
    """What the system says, about what the user has named: the temporary file is none of it."""
    folder = Path(os.path.realpath(path)).parent
    if isinstance(problem, FileNotFoundError | NotADirectoryError) and not folder.is_dir():
        return f"there is no folder {folder}"
    if isinstance(problem, PermissionError) and problem.strerror != READ_ONLY:
        return f"no permission to write to the folder {folder}"
    return problem.strerror or str(problem)


def cache_dir() -> Path:
    """Converted models: SOPRO_NP_CACHE, else sopro_np in the XDG cache folder."""
    if own := os.environ.get("SOPRO_NP_CACHE"):
        return Path(own)
    return _home_folder("XDG_CACHE_HOME", ".cache") / "sopro_np"


def voices_dir() -> Path:
    """Saved voices that can be called by name: SOPRO_NP_VOICES, else sopro_np/voices in the XDG data folder."""
    if own := os.environ.get("SOPRO_NP_VOICES"):
        return Path(own)
    return _home_folder("XDG_DATA_HOME", ".local/share") / "sopro_np" / "voices"


def _home_folder(variable: str, default: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / default)
    except RuntimeError:
        raise UsageError("there is no home directory: set SOPRO_NP_CACHE and SOPRO_NP_VOICES to folders") from None


def drop_pages(array: np.ndarray) -> None:
    """Give the pages under a view of a mapped file back to the system; they are read again if they are needed again.

    An array that lies elsewhere is left alone.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED") or not array.nbytes:
        return
    start = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    first = array.__array_interface__["data"][0] - start
    last = min(-(-(first + array.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE, len(mapped))
    first = first // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, last - first)
