"""A rule of text normalisation: a name, a regular expression, what a match becomes, and examples that are its test."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Examples = tuple[tuple[str, str], ...]
# Quantifiers are bounded wherever a match may still fail: time stays linear in the text.
NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,11}(?![\d])|\d{1,36})(?:\.\d{1,36})?"
ALONE = r"(?<![\w.])"  # nothing of a word or number stands before
SIGN = r"(?:(?<![\w.,)\]%°-])[-+±])?"
PAUSE = "\ue000"  # stands for `[pause 0.5]` while the rules are at work


# words in capitals that begin a sentence rather than being a name
STARTERS = frozenset(
    (
        "The A An He She It They We I You This That These Those There Here His Her Its Our My Your Their In "
        "On At For But And So If When While After Before Then What Who Why How Where Please Let Is Are Was "
        "Were Do Did Does Can Could Will Would Not No Yes Some Many Most All As By To From With Also However "
        "Since Because Although Now Today Each Every One Two Thanks Call Come See Bring"
    ).split()
)


@dataclass(frozen=True)
class Rule:
    """`replace` gets a match and gives what is spoken, or None to leave it. Examples: (written, spoken)."""

    name: str
    pattern: re.Pattern[str]
    replace: Callable[[re.Match[str]], str | None]
    examples: Examples


def rule(name: str, pattern: str, replace: Callable[[re.Match[str]], str | None] | str, *examples: tuple[str, str],
         flags: int = 0) -> Rule:  # fmt: skip
    """A rule whose replacement is a function, or a text such as r"\\1 squared"."""
    if isinstance(replace, str):
        template = replace
        return Rule(name, re.compile(pattern, flags), lambda m: m.expand(template), examples)
    return Rule(name, re.compile(pattern, flags), replace, examples)


def stop_after(match: re.Match[str]) -> str:
    """'.' if an abbreviation's full stop also ends the sentence: nothing follows, or a word that begins one."""
    rest = match.string[match.end() : match.end() + 16]
    found = re.match(r"[\"')\]]{0,2}(?:\s*$|\n| [\"'(\[]?([A-Z][a-z]*)(?![a-z]))", rest)
    return "." if found and (found[1] is None or found[1] in STARTERS) else ""
