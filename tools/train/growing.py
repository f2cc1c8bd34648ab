"""Files that grow record by record, and survive an interruption at any moment.

A folder holds arrays, one record's after another's, and index.jsonl, a line for each record, written after its arrays:
what lies beyond the last whole line was interrupted, and is cut off.
"""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

EVERY = 1000  # records between lines of progress


class Column(NamedTuple):
    """A file of a folder: its name, its type, its values per unit of a record's length."""

    name: str
    dtype: type
    width: int | Fraction


def read_index(folder: Path) -> list[dict[str, Any]]:
    """All whole records of a folder; none where there is no index yet."""
    path = folder / "index.jsonl"
    lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _bytes(column: Column, total: int) -> int:
    return int(total * column.width) * np.dtype(column.dtype).itemsize


class Growing:
    """Open a folder to go on where it stopped: `count` records are there, `total` units long.

    `length` names the field that says how long a record is. Where a folder was made from something else (`source`), it
    is made anew.
    """

    def __init__(self, folder: Path, length: str, *columns: Column, source: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "source"
        same = (mark.read_text() if mark.exists() else "") == source
        records = read_index(folder) if same else []
        while records and not self._holds(folder, columns, records[-1]["start"] + records[-1][length]):
            records.pop()  # a machine that lost power may have kept the line and not the array
        self.folder, self.length, self.columns = folder, length, columns
        self.count, self.first, self.began = len(records), len(records), time.time()
        self.total = records[-1]["start"] + records[-1][length] if records else 0
        (folder / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        if source:
            mark.write_text(source)

    @staticmethod
    def _holds(folder: Path, columns: tuple[Column, ...], total: int) -> bool:
        """Whether all files are that long."""
        paths = [folder / column.name for column in columns]
        sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
        return all(size >= _bytes(column, total) for size, column in zip(sizes, columns, strict=True))

    def __enter__(self) -> Self:
        self.files: list[BinaryIO] = []
        for column in self.columns:
            self.files.append(open(self.folder / column.name, "ab"))
            self.files[-1].truncate(_bytes(column, self.total))
        self.index = open(self.folder / "index.jsonl", "a", encoding="utf-8")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (*self.files, self.index):
            file.close()

    def add(self, record: dict[str, Any], *arrays: np.ndarray) -> None:
        """One more, with an array for every column; its `start` is filled in."""
        for column, file, array in zip(self.columns, self.files, arrays, strict=True):
            assert array.size == record[self.length] * column.width, column.name
            array.astype(column.dtype).tofile(file)
            file.flush()
        self.index.write(json.dumps({**record, "start": self.total}) + "\n")
        self.index.flush()
        self.total += record[self.length]
        self.count += 1
        if self.count % EVERY == 0:
            rate = (self.count - self.first) / (time.time() - self.began)
            print(f"{self.folder.name}: {self.count} utterances, {rate:.1f} a second", flush=True)
