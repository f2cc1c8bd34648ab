"""A long text on its way to the disk, sentence by sentence: what a kill leaves is enough to go on from.

Samples so far lie in one file, and how far that is, for each sentence, in a journal beside it: the samples first, so
that the journal never says more than is true. Each of its lines begins with a hash of itself and of those before it:
one that was torn or edited counts for nothing, nor do those behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sopro_np.errors import BulkError
from sopro_np.longform import Heard
from sopro_np.speech import Sentence

BLOCK = 1 << 16  # samples


class Parts:
    """The part of a text that was said. `stem`: name of both files, without an ending.

    heard: how far, None: nothing yet.
    """

    def __init__(self, stem: Path) -> None:
        self._samples, self._journal = (stem.with_name(stem.name + ending) for ending in (".s16", ".sentences"))
        self.heard: Heard | None = None
        self._seal = b""  # of the last line that counts
        try:
            stem.parent.mkdir(exist_ok=True)
            self._sound: BinaryIO = self._samples.open("r+b" if self._samples.exists() else "w+b")
            size, kept = self._sound.seek(0, os.SEEK_END), 0
            for line in self._lines():
                seal, _, mark = line.partition(b" ")
                if seal != _seal(self._seal, mark) or 2 * (heard := _longer(self.heard, mark)).samples > size:
                    break
                self.heard, self._seal, kept = heard, seal, kept + len(line)
            self._marks = self._journal.open("ab")
            self._marks.truncate(kept)
            self._sound.truncate(2 * self.heard.samples if self.heard else 0)
            self._sound.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._problem(error) from None

    def _lines(self) -> list[bytes]:
        with suppress(FileNotFoundError):
            return self._journal.read_bytes().splitlines(keepends=True)
        return []

    def _problem(self, error: OSError) -> BulkError:
        return BulkError(f"{self._samples}: cannot be written ({error.strerror or error})")

    def write(self, data: bytes) -> None:
        """Samples that follow, 16 bit."""
        try:
            self._sound.write(data)
        except OSError as error:
            raise self._problem(error) from None

    def mark(self, heard: Heard) -> None:
        """So far all is said: from here it can go on."""
        known, checked = (len(self.heard.sentences), len(self.heard.check)) if self.heard else (0, 0)
        new = {**asdict(heard), "check": heard.check[checked:]}
        new["sentences"] = [asdict(sentence) for sentence in heard.sentences[known:]]
        mark = json.dumps(new).encode() + b"\n"
        self._seal = _seal(self._seal, mark)
        try:
            self._sound.flush()
            os.fsync(self._sound.fileno())
            self._marks.write(self._seal + b" " + mark)
            self._marks.flush()
        except OSError as error:
            raise self._problem(error) from None
        self.heard = heard

    def pieces(self) -> Iterator[np.ndarray]:
        """All samples, int16 (n,), from the beginning."""
        self._sound.flush()
        self._sound.seek(0)
        while data := self._sound.read(2 * BLOCK):
            yield np.frombuffer(data, "<i2")

    def close(self) -> None:
        """Keep both files for the next time."""
        with suppress(OSError):  # a full disk: what could not be flushed was not marked
            self._sound.close()
        with suppress(OSError):
            self._marks.close()

    def remove(self) -> None:
        """They are no longer needed."""
        self.close()
        for path in (self._journal, self._samples):
            path.unlink(missing_ok=True)


def _seal(before: bytes, mark: bytes) -> bytes:
    return hashlib.sha256(before + mark).hexdigest().encode()


def _longer(before: Heard | None, mark: bytes) -> Heard:
    """What a line of the journal adds."""
    new = json.loads(mark)
    sentences = [Sentence(**{**s, "span": tuple(s["span"])}) for s in new["sentences"]]
    said, check = (before.sentences, before.check) if before else ((), ())
    return Heard((*said, *sentences), new["samples"], new["frames"], new["level"], (*check, *new["check"]))
