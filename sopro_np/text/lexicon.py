"""A lexicon: words, and how to write them so that they are said right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from sopro_np.errors import UsageError
from sopro_np.text.aligned import Aligned, Edit
from sopro_np.text.lazily import Lazily

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


def check_lexicon(lexicon: Mapping[str, str]) -> None:
    """UsageError names the entry that is no word with its respelling."""
    for word, respelling in lexicon.items():
        if not (isinstance(word, str) and isinstance(respelling, str) and word.strip() and respelling.strip()):
            raise UsageError(
                f"lexicon: {word!r:.80} -> {respelling!r:.80}: give a word and how it is to be read, both of them text, "
                "neither empty"
            )


WORD = r"[^\W_\u2e80-\U0010ffff]"  # scripts without blanks have no whole words
FIRST_WORD = Lazily(rf"{WORD}+")


class Respelling:
    """A lexicon at work: whole words; one in small letters stands for every spelling of it. Longer entries come first.

    Entries are looked up by their first word, or by their first character if that is no letter or of a script without
    blanks: the time for a text hardly depends on how many there are. UsageError: an entry that is none.
    """

    def __init__(self, lexicon: Mapping[str, str]) -> None:
        check_lexicon(lexicon)
        self._exact: dict[str, str] = {}
        for word, respelling in lexicon.items():
            self._exact[_key(word)] = respelling
            if not word.isascii():
                for form in ("NFC", "NFD"):
                    self._exact[_key(unicodedata.normalize(form, word))] = respelling
        self._lowered = {word: respelling for word, respelling in self._exact.items() if word == word.lower()}
        self._begun: dict[str, list[str]] = {}  # entries by what they begin with
        for word in sorted(self._exact, key=len, reverse=True):
            self._begun.setdefault(_beginning(word), []).append(word)
        self._patterns: dict[str, re.Pattern[str]] = {}
        signs = {word[0] for word in self._exact if not _worded(word)}
        signs |= {"’"} if "'" in signs else set()
        marks = "|[" + "".join(map(re.escape, sorted(signs))) + "]" if signs else ""
        self._places = Lazily(rf"(?<!\w)(?={WORD}){marks}", re.IGNORECASE)

    def edits(self, text: Aligned) -> list[Edit]:
        """What it changes in a text."""
        found: list[Edit] = []
        at, plain = 0, text.text
        for place in self._places.finditer(plain) if self._exact else ():
            start = place.start()
            if start < at or (beginning := _beginning(plain, start)) not in self._begun:
                continue
            match = self._pattern(beginning).match(plain, start)
            if match:
                at = match.end()
                key = _key(match[0])
                new = self._exact.get(key, self._lowered.get(key.lower()))
                if new is not None and new != match[0]:
                    found.append((start, at, new))
        return found

    def _pattern(self, beginning: str) -> re.Pattern[str]:
        """All entries that begin so, the longest first."""
        if beginning not in self._patterns:
            branches = []
            for word in self._begun[beginning]:
                escaped = re.escape(word).replace("'", "['’]").replace(r"\ ", BLANK)
                before, after = (r"(?<!\w)" if _worded(word) else ""), (r"(?!\w)" if _worded(word[-1]) else "")
                branches.append(f"{before}{f'(?i:{escaped})' if word in self._lowered else escaped}{after}")
            self._patterns[beginning] = re.compile("|".join(branches))
        return self._patterns[beginning]


def _worded(word: str) -> bool:
    """Does it begin as a whole word?"""
    return word[0].isalnum() and ord(word[0]) < 0x2E80


def _beginning(text: str, at: int = 0) -> str:
    """The first word, or else the first character, in small letters."""
    word = FIRST_WORD.match(text, at) if text[at].isalnum() else None
    return (word[0] if word else text[at]).lower().replace("’", "'")


def _key(word: str) -> str:
    return " ".join(word.replace("’", "'").split())
