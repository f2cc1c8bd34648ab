"""Lines -> tasks: who speaks each, with which seed, under which key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sopro_np.bulk.key import line_key, line_seed, voice_digest
from sopro_np.bulk.lines import BadLine, Line
from sopro_np.engine import Sopro
from sopro_np.errors import BulkError, SoproError
from sopro_np.voice import Voice


@dataclass(frozen=True)
class Task:
    """An utterance, with all that it is a function of but the model and the options; anybody may speak it.

    number: of its line; voice: as it was asked for; codes (R, Q) uint16: of that voice.
    """

    number: int
    id: str
    text: str
    seed: int
    voice: str | None
    codes: np.ndarray
    key: str


class Plan:
    """Tasks of lines. `who`: whoever speaks lines that do not say, None: they are errors; `seed`: the one that those
    lines' seeds are derived from which have none; `options`: as in `chosen_options`."""

    def __init__(
        self, tts: Sopro, model: str, who: Voice | None, name: str | None, seed: int, options: Mapping[str, Any]
    ) -> None:
        self._tts, self._model, self._seed, self._options = tts, model, seed, options
        self._voices: dict[str | None, tuple[np.ndarray, str] | SoproError] = {}
        self._name = name
        if who is not None:
            self._voices[None] = who.codes, voice_digest(who.codes)

    def tasks(self, lines: Iterable[Line | BadLine]) -> Iterator[Task | BadLine]:
        """In the same order; lines whose voice cannot be had are bad ones."""
        for line in lines:
            yield line if isinstance(line, BadLine) else self._task(line)

    def _task(self, line: Line) -> Task | BadLine:
        found = self._voice(line.voice)
        if isinstance(found, SoproError):
            return BadLine(line.number, line.id, str(found))
        codes, digest = found
        seed = line_seed(self._seed, line.name) if line.seed is None else line.seed
        key = line_key(self._model, digest, line.text, seed, self._options)
        return Task(line.number, line.id, line.text, seed, line.voice or self._name, codes, key)

    def _voice(self, name: str | None) -> tuple[np.ndarray, str] | SoproError:
        """(codes, digest) of a voice, or why there is none; looked for once."""
        if name not in self._voices:
            try:
                assert name is not None
                codes = self._tts.load_voice(name).codes
                self._voices[name] = codes, voice_digest(codes)
            except SoproError as error:
                self._voices[name] = error
            except OSError as error:
                self._voices[name] = BulkError(f"{name}: cannot be read ({error.strerror or error})")
        return self._voices[name]
