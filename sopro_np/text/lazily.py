"""Regular expressions that most texts do not need: compiled when they are first used, so that a cold start is short."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any


class Lazily:
    """Like re.compile(source, flags)."""

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source, self._flags = source, flags

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._source, self._flags)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._compiled, name)
