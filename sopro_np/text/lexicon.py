"""A lexicon: words, and how to write them so that they are said right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from sopro_np.errors import UsageError
from sopro_np.text.aligned import Aligned, Edit

MAX_BYTES = 1 << 20
BLANK = r"(?:[^\S\n]++(?:\n[^\S\n]*+)?|\n[^\S\n]*+)"  # between the words of an entry; no paragraph ends there


def read_lexicon(path: str | Path) -> dict[str, str]:
    """A UTF-8 file, a line per word: the word, a tab or = or two blanks, its respelling; # begins a comment line.

    UsageError names the file and the line that makes no sense.
    """
    try:
        with Path(path).open("rb") as f:
            raw = f.read(MAX_BYTES + 1)
        content = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a lexicon ({error})") from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: longer than 1 MiB: that is no lexicon")
    words: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = re.split(r"\t|=| {2,}", line.strip(), maxsplit=1)
        word, respelling = parts[0].strip(), parts[-1].strip("\t= ")
        if len(parts) < 2 or not word or not respelling:
            raise UsageError(
                f"{path}, line {number}: {line!r:.80}: write a word, a tab (or =, or two blanks), a respelling"
            )
        if word in words:
            raise UsageError(f"{path}, line {number}: {word!r} is there already")
        words[word] = respelling
    return words


class Respelling:
    """A lexicon at work: whole words; one in small letters stands for every spelling of it. Longer entries come first."""

    def __init__(self, lexicon: Mapping[str, str]) -> None:
        self._exact: dict[str, str] = {}
        for word, respelling in lexicon.items():
            for form in ("NFC", "NFD"):
                self._exact[_key(unicodedata.normalize(form, word))] = respelling
        self._exact.pop("", None)
        small = {word for word in self._exact if word == word.lower()}
        self._lowered = {word.lower(): respelling for word, respelling in self._exact.items() if word in small}
        branches = []
        for word in sorted(self._exact, key=len, reverse=True):
            escaped = re.escape(word).replace("'", "['’]").replace(r"\ ", BLANK)
            # scripts without blanks have no whole words
            before = r"(?<!\w)" if word[0].isalnum() and ord(word[0]) < 0x2E80 else ""
            after = r"(?!\w)" if word[-1].isalnum() and ord(word[-1]) < 0x2E80 else ""
            branches.append(f"{before}{f'(?i:{escaped})' if word in small else escaped}{after}")
        self._pattern = re.compile("|".join(branches)) if branches else None

    def edits(self, text: Aligned) -> list[Edit]:
        """What it changes in a text."""
        return text.edits(self._pattern, self._replacement) if self._pattern else []

    def _replacement(self, m: re.Match[str]) -> str | None:
        key = _key(m[0])
        return self._exact.get(key, self._lowered.get(key.lower()))


def _key(word: str) -> str:
    return " ".join(word.replace("’", "'").split())
