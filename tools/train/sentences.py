"""Training texts: sentences from grammar.txt, and word sequences from SCOWL's lists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sopro_np.evaluate.spelling import comparable
from sopro_np.evaluate.texts import built_in

HERE = Path(__file__).resolve().parent
SCOWL = Path("/usr/share/dict/scowl")
SLOT = re.compile(r"\{(\w+)\}")


@cache
def held_out() -> tuple[str, ...]:
    """The sentences that every figure is measured on."""
    return tuple((HERE / "heldout.txt").read_text("utf-8").splitlines())


@cache
def forbidden() -> frozenset[str]:
    """The same, and those of `sopro-np eval`: no training text may be one of them."""
    return frozenset(map(comparable, (*held_out(), *(text.text for text in built_in()))))


@cache
def grammar() -> tuple[dict[str, list[str]], list[str]]:
    """Categories with their entries, and the templates."""
    categories: dict[str, list[str]] = {}
    for section in (HERE / "text" / "grammar.txt").read_text("utf-8").split("\n[")[1:]:
        name, _, body = section.partition("]\n")
        lines = [line for line in body.splitlines() if line.strip()]
        categories[name] = lines if name == "sentences" else [e.strip() for e in " ".join(lines).split(",")]
    return categories, categories.pop("sentences")


@cache
def words(lists: tuple[str, ...]) -> list[str]:
    """Plain lower-case words of SCOWL's lists, in their order."""
    found = (w for name in lists for w in (SCOWL / name).read_text("latin-1").split())
    return [w for w in found if re.fullmatch(r"[a-z]{2,12}", w)]


def word(lists: tuple[str, ...], rng: np.random.Generator) -> str:
    """Of one of the lists: the shorter a list, the commoner its words, and each list counts the same."""
    if not lists:
        return str(rng.choice(grammar()[0]["noun"]))
    return str(rng.choice(words((str(rng.choice(lists)),))))


def fill(template: str, lists: tuple[str, ...], rng: np.random.Generator) -> str:
    """A template with every slot filled at random."""
    categories = grammar()[0]
    return SLOT.sub(lambda m: word(lists, rng) if m[1] == "word" else str(rng.choice(categories[m[1]])), template)


def sentence(index: int, cfg: SimpleNamespace) -> str:
    """The text of one utterance, a function of (cfg.seed, index) alone; never a held-out one."""
    rng, lists = np.random.default_rng([cfg.seed, index]), tuple(cfg.word_lists)
    while True:
        if lists and rng.random() < cfg.word_list_share:
            chosen = [word(lists, rng) for _ in range(rng.integers(3, 8))]
            text = (", " if rng.random() < 0.2 else " ").join(chosen) + "."
        else:
            text = fill(str(rng.choice(grammar()[1])), lists, rng)
        if len(text) <= cfg.longest and comparable(text) not in forbidden():
            return text
