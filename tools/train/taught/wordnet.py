"""Example sentences and definitions of WordNet 3.0 (Debian: wordnet-base), cleaned.

A gloss reads `(domain) definition; definition; "an example"; "another"- Its Author`. Quotations with an author are left
out: who holds rights in them is not said. So are glosses about words that hurt, and whatever has words that SCOWL
does not know: they are misprints, Latin, or names that nobody could learn to say from one example.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tools.train.sentences import SCOWL

FOLDER = Path("/usr/share/wordnet")
PARTS = ("noun", "verb", "adj", "adv")
EXAMPLE = re.compile(r'"([^"]+)"(\s*-)?')  # with the dash that an author's name follows
HURTING = re.compile(r"offensive|obscene|slur|disparag|derogat|vulgar|taboo|insulting|sexual|genital", re.IGNORECASE)
ALLOWED = re.compile(r"[A-Za-z][A-Za-z ,.?!;:'-]*")
KNOWN = ("words", "upper", "proper-names", "contractions")  # SCOWL's kinds, and the sizes of it that count as known
SIZES = (10, 20, 35, 40, 50, 55, 60)
LEMMA_SIZES = (10, 20, 35, 40)


class Gloss(NamedTuple):
    """Of one synset: its part of speech, first word, definition without domain, and examples."""

    part: str
    lemma: str
    definition: str
    examples: tuple[str, ...]


def available() -> bool:
    """Whether WordNet is installed."""
    return (FOLDER / "data.noun").exists()


@cache
def vocabulary(kinds: tuple[str, ...], sizes: tuple[int, ...]) -> frozenset[str]:
    """Words of SCOWL's English and American lists up to these sizes, in lower case."""
    found: set[str] = set()
    for place in ("english", "american"):
        for kind in kinds:
            for size in sizes:
                path = SCOWL / f"{place}-{kind}.{size}"
                found.update(path.read_text("latin-1").lower().split() if path.exists() else ())
    return frozenset(found)


def glosses() -> Iterator[Gloss]:
    """All synsets in WordNet's order, but for those about words that hurt."""
    for part in PARTS:
        for line in (FOLDER / f"data.{part}").read_text("latin-1").splitlines():
            if line.startswith(" "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            if not HURTING.search(gloss):
                yield parsed(part, head.split()[4], gloss)


def parsed(part: str, lemma: str, gloss: str) -> Gloss:
    """Take a gloss apart; examples that name an author are dropped."""
    examples = tuple(m[1].strip() for m in EXAMPLE.finditer(gloss) if not m[2])
    definition = re.sub(r"\([^)]*\)", " ", gloss.partition('"')[0])
    definition = " ".join(definition.split()).replace(" ,", ",").replace(" ;", ";").strip(" ;:,-")
    return Gloss(part, re.sub(r"\(.*\)", "", lemma).replace("_", " "), definition, examples)


def readable(text: str) -> bool:
    """Plain letters and punctuation, and every word one that SCOWL knows."""
    known = vocabulary(KNOWN, SIZES)
    words = (w.strip("'-") for w in re.findall(r"[a-z'-]+", text.lower()))
    return ALLOWED.fullmatch(text) is not None and all(
        w in known or all(p in known for p in w.split("-")) for w in words if w
    )


@cache
def examples() -> tuple[str, ...]:
    """Usable example sentences and phrases, each once."""
    return tuple(dict.fromkeys(e for gloss in glosses() for e in gloss.examples if readable(e)))


@cache
def definitions() -> tuple[str, ...]:
    """Usable definitions, said as sentences where their word is a common one: "to breathe means to draw air in"."""
    common, found = vocabulary(("words",), LEMMA_SIZES), []
    for gloss in glosses():
        if not gloss.definition or not readable(gloss.definition):
            continue
        if gloss.lemma not in common:
            found.append(gloss.definition)
        elif gloss.part == "verb":
            found.append(f"to {gloss.lemma} means to {gloss.definition}")
        else:
            found.append(f"{gloss.lemma} means {gloss.definition}")
    return tuple(dict.fromkeys(found))
