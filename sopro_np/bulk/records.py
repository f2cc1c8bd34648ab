"""Records, a JSON object a line: appended while work goes on, so that a kill loses one at most, or written whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from sopro_np.errors import BulkError
from sopro_np.files import replacing

Record = dict[str, Any]


def encoded(record: Record) -> bytes:
    """A line of a manifest."""
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def read_records(path: Path) -> list[Record]:
    """Those that are whole (the last one of a process that was killed may not be); none if there is no such file."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BulkError(f"{path}: cannot be read ({error.strerror or error})") from None
    found = []
    for line in raw.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def write_records(path: Path, records: Iterable[Record]) -> None:
    """The whole file at once; BulkError if it cannot be written."""
    with replacing(path, BulkError) as file:
        file.writelines(encoded(record) for record in records)


class Journal:
    """A file that records are appended to, by one process at a time. BulkError if another one does, or it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = opened(path)
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if file.read() not in (b"", b"\n"):  # a kill tore the last one
                    self._file.write(b"\n")
        except OSError as error:
            self.close()
            raise BulkError(f"{path}: cannot be written ({error.strerror or error})") from None

    def append(self, record: Record) -> None:
        """On its way to the disk when this returns, whatever happens to this process."""
        try:
            rest = encoded(record)
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise BulkError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def withdraw(self) -> None:
        """Close it, and leave no trace of one that holds nothing."""
        if not os.fstat(self._file.fileno()).st_size:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Others may write."""
        self._file.close()


def opened(path: Path) -> BinaryIO:
    """For appending, unbuffered, locked as long as it is open."""
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise BulkError(f"{path}: cannot be written ({error.strerror or error})") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BulkError(f"{path}: another process is writing it: wait until it is done") from None
    except OSError:  # a file system without locks
        pass
    return file


def check_free(path: Path) -> None:
    """BulkError if another process is writing this journal."""
    if os.path.exists(path):
        opened(path).close()
