"""A first look at a text: may there be something in it that cannot be said? Quick, and never wrong when it says no."""

from __future__ import annotations

import re
from functools import lru_cache

from sopro_np.errors import UsageError
from sopro_np.text.lazily import Lazily
from sopro_np.text.markup import ENTITY
from sopro_np.text.rule import PAUSE
from sopro_np.text.typography import KEPT, greek_name, is_greek, plain

LONGEST_PAUSE = 60.0  # seconds
PAUSE_FORM = re.compile(r"\[\s{0,9}pause(?:[\s:=]{1,9}(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s{0,9}(s|ms)?)?\s{0,9}\]", re.I)
SAYABLE = "A-Za-z.,?! '\n" + PAUSE  # when all rules are through
NAMED = 5  # characters, in an error
UNSAYABLE = re.compile(rf"[^{SAYABLE}]+")
BEYOND = re.compile(r"[^\x00-\x7f]")
# A letter of alpha and beta is said by its name, a Greek word is not: what follows the letter must keep it from the next.
GREEK_WORD = Lazily(r"[\u0370-\u03ff\u1f00-\u1fff\xb5](?![ \tA-Za-z0-9,.;:()=+\-]|\n|\Z)")


def doubtful(text: str) -> bool:
    """Only if all rules are tried on this text it is known whether all of it can be said."""
    beyond = set() if text.isascii() else {c for c in set(text) if not c.isascii()}
    if "&" in text:
        import html  # here and not above: its table is large

        written = {c for name in set(ENTITY.findall(text)) for c in html.unescape(name) if not c.isascii()}
        if any(is_greek(c) or _odd(c) for c in written):
            return True
    if any(map(_odd, beyond)) or (any(c == "\xb5" or is_greek(c) for c in beyond) and GREEK_WORD.search(text)):
        return True
    return any(_seconds(mark) > LONGEST_PAUSE for mark in PAUSE_FORM.finditer(text))


@lru_cache(4096)
def _odd(c: str) -> bool:
    """May it be left when all rules are through? No rule speaks it, in whatever stands for it."""
    return any(not x.isascii() and x not in KEPT and not greek_name(x) for x in plain(c))


def _seconds(mark: re.Match[str]) -> float:
    return float(mark[1] or 0.5) / (1000 if (mark[2] or "").lower() == "ms" else 1)


def seconds(mark: re.Match[str]) -> float:
    """Of a mark of a pause. UsageError if it is too long."""
    if (pause := _seconds(mark)) > LONGEST_PAUSE:
        raise UsageError(f"{mark[0]}: a pause is at most {LONGEST_PAUSE:g} seconds long")
    return pause


def named(odd: str) -> str:
    """Up to five of the characters, with their numbers."""
    different = list(dict.fromkeys(odd))
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in different[:NAMED]) + (" ..." if len(different) > NAMED else "")
