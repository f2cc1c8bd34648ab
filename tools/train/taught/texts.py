"""Stage `texts`: what the teacher is to say, a line of work/texts/index.jsonl for every utterance.

Text i follows from (cfg.texts.seed, i) and the installed lists alone. Which source it comes from is a pattern of a
hundred that repeats: so text i knows how many of its kind came before it, and a finite source is used up in a
shuffled order before anything of it is said twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sopro_np.evaluate.spelling import comparable
from tools.train.growing import Growing
from tools.train.sentences import HERE, SCOWL, SLOT, forbidden, grammar, word
from tools.train.taught import wordnet

PATTERN = 100  # texts after which the kinds come again
CALLED = re.compile(r"\{Name\}")
CLAUSE = re.compile(r"(he|she|it|they|we|you|I|the \w+ (is|was|were|has|had|\w+ed))\b")
LINKS = (", and", ", but", " because", ", so", ";", ",", " while", ", although", " and", " when", ", or", " until")
LONG = 11, 31  # words of the kind `long`, half open
OTHER = "grammar"  # what a text is drawn from when its own source is used up
ENDS = {"short": (".", ".", ".", ".", ".", ".", "!", "?"), "word": (".", ".", ".", ".", "!", "?")}  # drawn from


@cache
def spoken() -> dict[str, list[str]]:
    """spoken.txt: templates of [asked], [short] and [called], a line each; entries of its categories, by commas."""
    found: dict[str, list[str]] = {}
    for section in (HERE / "text" / "spoken.txt").read_text("utf-8").split("\n[")[1:]:
        name, _, body = section.partition("]\n")
        lines = [line for line in body.splitlines() if line.strip()]
        split = [entry.strip() for entry in " ".join(lines).split(",")]
        found[name] = lines if name in ("asked", "short", "called") else split
    return found


@cache
def capitals() -> dict[str, str]:
    """Words that are only written with a capital, by their lower case: monday -> Monday."""
    lower = wordnet.vocabulary(("words",), wordnet.SIZES)
    paths = [SCOWL / f"english-{kind}" for kind in ("upper.10", "upper.35", "upper.40", "proper-names.50")]
    found = [w for path in paths if path.exists() for w in path.read_text("latin-1").split()]
    return {w.lower(): w for w in found if re.fullmatch(r"[A-Z][a-z]+", w) and w.lower() not in lower}


@cache
def names() -> list[str]:
    """Names of people and places."""
    path = SCOWL / "english-proper-names.50"
    found = path.read_text("latin-1").split() if path.exists() else [n.title() for n in grammar()[0]["name"]]
    return [n for n in found if re.fullmatch(r"[A-Z][a-z]{2,11}", n)]


def filled(template: str, lists: tuple[str, ...], rng: np.random.Generator) -> str:
    """A template with every slot filled at random, from spoken.txt or grammar.txt."""
    categories = grammar()[0] | spoken()
    template = CALLED.sub(lambda _: str(rng.choice(names())), template)

    def entry(match: re.Match[str]) -> str:
        if match[1] == "word":
            return word(lists, rng)
        found = str(rng.choice(categories[match[1]]))
        return found.title() if match[1] == "name" else found

    return SLOT.sub(entry, template)


def written(text: str, end: str = ".") -> str:
    """As people write it: capitals where they belong, and a mark at the end."""
    text = re.sub(r"[A-Za-z]+", lambda m: capitals().get(m[0], m[0]), " ".join(text.split()))
    text = re.sub(r"\bi\b", "I", text).rstrip(" ,;:-")
    return text[:1].upper() + text[1:] + ("" if text[-1:] in (".", "?", "!") else end)


@cache
def order(source: Callable[[], tuple[str, ...]], seed: int) -> np.ndarray:
    """The order in which a finite source is used up."""
    return np.random.default_rng([seed, 1]).permutation(len(source()))


@cache
def pattern(shares: tuple[tuple[str, int], ...], seed: int) -> tuple[str, ...]:
    """(PATTERN,) kinds in a shuffled order, each as often as its share says."""
    kinds = [kind for kind, share in shares for _ in range(share)]
    if len(kinds) != PATTERN:
        raise SystemExit(f"texts.shares: they add up to {len(kinds)} instead of {PATTERN}")
    return tuple(str(k) for k in np.random.default_rng([seed, 0]).permutation(kinds))


FINITE = {"example": wordnet.examples, "definition": wordnet.definitions}


def drawn(kind: str, rng: np.random.Generator, lists: tuple[str, ...]) -> str:
    """One text of an endless kind."""
    if kind == "words":  # every sound beside every other
        chosen = [word(lists, rng) for _ in range(rng.integers(3, 10))]
        return written((", " if rng.random() < 0.3 else " ").join(chosen))
    if kind == "word":
        return written(word(lists, rng) if rng.random() < 0.7 else str(rng.choice(names())), rng.choice(ENDS["word"]))
    if kind in ("asked", "short", "called"):
        end = rng.choice(ENDS["short"]) if kind == "short" else "."
        return written(filled(str(rng.choice(spoken()[kind])), lists, rng), str(end))
    if kind == "long":
        return joined(int(rng.integers(*LONG)), lists, rng)
    return written(filled(str(rng.choice(grammar()[1])), lists, rng))


def joined(words: int, lists: tuple[str, ...], rng: np.random.Generator) -> str:
    """Clauses one after the other, that many words or a few more or less."""
    found = ""
    while len(found.split()) < words - 3:
        if wordnet.available() and rng.random() < 0.5:
            clause = str(rng.choice(clauses()))
        else:
            clause = filled(str(rng.choice(statements())), lists, rng)
        found += f"{rng.choice(LINKS) if found else ''} {clause.rstrip('.!;, ')}"
    return written(found)


@cache
def statements() -> tuple[str, ...]:
    """Templates of grammar.txt that do not ask."""
    return tuple(t for t in grammar()[1] if "?" not in t)


@cache
def clauses() -> np.ndarray:
    """WordNet's examples that are sentences, by the looks of them."""
    return np.array([e for e in wordnet.examples() if CLAUSE.match(e) and "?" not in e and len(e.split()) > 3])


def text(index: int, cfg: SimpleNamespace) -> tuple[str, str]:
    """Kind and text of one utterance, a function of (cfg.seed, index); no held-out sentence is in it."""
    kinds, lists = pattern(tuple(cfg.shares.items()), cfg.seed), tuple(cfg.word_lists)
    turn, place = divmod(index, PATTERN)
    kind, rng = kinds[place], np.random.default_rng([cfg.seed, 2, index])
    if kind in FINITE:
        rank = turn * cfg.shares[kind] + kinds[:place].count(kind)
        if wordnet.available() and rank < len(order(FINITE[kind], cfg.seed)):
            found = written(FINITE[kind]()[order(FINITE[kind], cfg.seed)[rank]])
            if allowed(found, cfg):
                return kind, found
        kind = OTHER
    while True:
        found = drawn(kind, rng, lists)
        if allowed(found, cfg):
            return kind, found


def allowed(found: str, cfg: SimpleNamespace) -> bool:
    """Not too long, and no held-out sentence in it."""
    plain = f" {comparable(found)} "
    short = len(plain.split()) <= cfg.longest_words and len(found) <= cfg.longest
    return short and not any(f" {sentence} " in plain for sentence in forbidden())


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Write work/texts up to cfg.texts.utterances, going on where it stopped; anew when the settings have changed."""
    settings = {k: v for k, v in vars(cfg.texts).items() if k != "utterances"}
    source = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    with Growing(work / "texts", "words", source=source) as files:
        for index in range(files.count, cfg.texts.utterances):
            kind, found = text(index, cfg.texts)
            files.add({"kind": kind, "text": found, "words": len(found.split())})
