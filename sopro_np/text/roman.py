"""Roman numerals: after names, after words that are counted, and alone where nothing else is meant."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule
from sopro_np.text.spell import cardinal, ordinal, year

FORM = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})$")
VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
COUNTED = (
    "Chapter Part Volume Act Scene Section Book War Class Type Phase Title Article Appendix Level Stage "
    "Episode Bowl Rocky Fantasy Apollo Mark Figure Table Unit Lesson Day Week Grade Category Factor "
    "Schedule Annex Canto Corps Series Saturn Windows Vatican Civilization Terminator Godfather Step "
    "Group"
).split()
# after these, and after any name if it has two signs and more: Henry VIII, Elizabeth II
RULERS = frozenset(
    (
        "Henry Louis Elizabeth George Charles Edward William Richard James John Paul Pius Benedict Gregory "
        "Leo Innocent Philip Ferdinand Frederick Wilhelm Nicholas Alexander Ivan Catherine Peter Napoleon "
        "Ramses Ptolemy Mary Francis Victor Alfonso Carlos Felipe Juan Umberto Otto Leopold Albert Gustav "
        "Harald Olav Christian Haakon Margrethe Clement Urban Boniface Julius Sixtus Xavier Darius Xerxes "
        "Cyrus Harold Thutmose Amenhotep"
    ).split()
)
OTHERWISE = frozenset(
    ("XXX MIX DIM MILD CIVIL LIVID VIVID MID DID LID CD DC MD MM CV DVD XL XXL XX CC CM ML MC DI LI XI MI ID").split()
)


def value(text: str) -> int:
    """'XIV' -> 14; 0: no roman numeral."""
    if not text or not FORM.match(text):
        return 0
    numbers = [VALUES[c] for c in text]
    return sum(-a if a < b else a for a, b in zip(numbers, [*numbers[1:], 0], strict=True))


def _counted(m: re.Match[str]) -> str | None:
    n = value(m[2].upper())
    return f"{m[1]} {cardinal(n)}" if n and m[2] not in ("C", "L") else None  # USB Type C


def _ruler(m: re.Match[str]) -> str | None:
    n = value(m[2])
    if not n or n > 40 or (m[1] not in RULERS and (len(m[2]) < 2 or m[2] in OTHERWISE)):
        return None
    if m[2] == "I" and re.match(r" (?!(?:and|of|died|ruled|reigned|became)\b)[a-z']", m.string[m.end() : m.end() + 9]):
        return None  # Said Henry I would go
    return f"{m[1]} the {ordinal(n)}"


def _ordinal(m: re.Match[str]) -> str | None:
    n = value(m[1])
    return ordinal(n) if n and ordinal(n)[-2:] == m[2] else None


def _small(m: re.Match[str]) -> str | None:
    """page iv; a single letter is a number only in a play: Scene i, but section c."""
    first, last = value(m[2].upper()), value((m[3] or "i").upper())
    if not first or not last or (len(m[2]) == 1 and not m[3] and not re.match(r"(?i)act|scene", m[1])):
        return None
    return f"{m[1]} {cardinal(first)}" + (f" to {cardinal(last)}" if m[3] else "")


# beside these VI is an editor, IV a drip
LETTERS = re.compile(r" (?:editors?|modes?|commands?|drips?|lines?|fluids?|bags?|antibiotics|therapy|needles?)\b")


def _alone(m: re.Match[str]) -> str | None:
    n = value(m[0])
    if m[0] in ("IV", "VI") and LETTERS.match(m.string, m.end()):
        return " ".join(m[0])
    if not n or m[0] in OTHERWISE or (len(m[0]) > 3 and set(m[0]) & set("LCDM") and n < 1000):
        return None
    return year(n) if n >= 1100 else cardinal(n)


PAGES = r"(?:[Aa]cts?|[Ss]cenes?|[Pp]ages?|[Pp]arts?|[Bb]ooks?|[Cc]hapters?|[Vv]olumes?|[Ss]ections?|[Ll]ines?|[Cc]antos?|[Aa]ppendix|[Cc]lauses?)"
RULES: tuple[Rule, ...] = (
    rule("roman ordinal", r"(?<![\w.'-])([IVXLC]{2,7})(st|nd|rd|th)\b", _ordinal, ("the XXIst century", "the twenty first century")),
    rule("roman numeral, counted", r"\b((?:" + "|".join(COUNTED) + r")s?) ([IVXLC]{1,7})\b(?!'(?!s\b))", _counted,
         ("Chapter IV begins", "Chapter four begins"), ("World War II", "World War two"), ("World War II's end", "World War two's end")),
    rule("roman numeral, small", rf"\b({PAGES}) ([ivxlc]{{1,7}})(?:[-–]([ivxlc]{{1,7}}))?(?![\w'])", _small,
         ("pages iv-xii", "pages four to twelve"), ("Scene ii", "Scene two")),
    rule("roman numeral of a ruler", r"\b([A-Z][a-z]{2,14}) ([IVX]{1,6})\b(?!'(?!s\b)|\.[A-Z])", _ruler, ("Henry VIII", "Henry the eighth"), ("Elizabeth I and James VI", "Elizabeth the first and James the sixth"), ("Pope John Paul II", "Pope John Paul the second"),
         ("Louis XIV's palace", "Louis the fourteenth's palace")),
    rule("roman numeral alone", r"(?<![\w.'-])(?:[IVX]{3,7}|[MDCLXVI]{4,12}|II|IV|IX|VI)(?!\w|'(?!s\b))", _alone, ("page XIV", "page fourteen"), ("MMXXVI", "twenty twenty six"), ("the VI editor", "the V I editor")),
)  # fmt: skip
