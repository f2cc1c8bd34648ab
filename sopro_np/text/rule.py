"""A rule of text normalisation: a name, a regular expression, what a match becomes, and examples that are its test."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sopro_np.text.lazily import Lazily

Examples = tuple[tuple[str, str], ...]
# Quantifiers are bounded wherever a match may still fail: time stays linear in the text.
NUMBER = r"(?:\d{1,2}(?:,\d\d){1,6},\d{3}(?![\d])|\d{1,3}(?:,\d{3}){1,11}(?![\d])|\d{1,36})(?:\.\d{1,36})?"
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


def attribute(match: re.Match[str]) -> bool:
    """Whether a quantity stands before what it describes and takes the singular: a $5 bill, a 10 km run."""
    before = re.search(
        r"\b(?:[Aa]n?|[Tt]he|[Tt]his|his|her|its|our|their|my|your) $",
        match.string[max(match.start() - 6, 0) : match.start()],
    )
    after = re.match(r" ([a-z]{2,20})", match.string[match.end() : match.end() + 21])
    return bool(before and after and after[1] not in NO_NOUNS)


NO_NOUNS = frozenset(
    (
        "or and to of in on at for from by with more less is was are were each per than away ago he she they we you it that "
        "which between into within over under went came will would has had have can could should may might must does did "
        "goes comes raised paid spent owed left remains if when as but so who"
    ).split()
)


@dataclass(frozen=True)
class Rule:
    """`replace` gets a match and gives what is spoken, or None to leave it. Examples: (written, spoken)."""

    name: str
    pattern: Lazily  # all of them together would take longer to compile than a short text to be said
    replace: Callable[[re.Match[str]], str | None]
    examples: Examples


def rule(name: str, pattern: str, replace: Callable[[re.Match[str]], str | None] | str, *examples: tuple[str, str],
         flags: int = 0) -> Rule:  # fmt: skip
    """A rule whose replacement is a function, or a text such as r"\\1 squared"."""
    if isinstance(replace, str):
        template = replace
        return Rule(name, Lazily(pattern, flags), lambda m: m.expand(template), examples)
    return Rule(name, Lazily(pattern, flags), replace, examples)


class Stage:
    """Rules that follow each other. A text in which `wakes` finds nothing holds nothing for any of them."""

    def __init__(self, wakes: str, rules: tuple[Rule, ...]) -> None:
        self.rules, self._wakes = rules, Lazily(wakes)

    def concerns(self, text: str) -> bool:
        """May one of the rules fire?"""
        return self._wakes.search(text) is not None


NO_START = frozenset(
    (
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun January "
        "February March April May June July August September October November December Jan Feb Mar Apr Jun Jul Aug Sep "
        "Sept Oct Nov Dec Eastern Central Mountain Pacific Atlantic Greenwich Zulu E C P U G B"
    ).split()
)  # days, months and time zones: they belong to the time of day before them
LEADS_IN = re.compile(r"(?:At|On|By|From|Until|Till|Around|About|Before|After|Since|Shortly|Just|Between)\b")


def stop_after_time(match: re.Match[str]) -> str:
    """`stop_after` for p.m.: any capital begins a sentence, except a day's name, or if the sentence began with the time.

    I was there at 3 p.m. Bob came. At 3 p.m. Bob came.
    """
    found = re.match(r" [\"'(]?([A-Z][a-z]*)", match.string[match.end() : match.end() + 16])
    if not found:
        return stop_after(match)
    before = re.split(r"[.?!]\s|\n", match.string[max(match.start() - 60, 0) : match.start()])[-1]
    led_in = LEADS_IN.match(before.lstrip(" \"'(")) or not before.strip()
    return "" if found[1] in NO_START or (led_in and (found[1] == "I" or found[1] not in STARTERS)) else "."


def stop_after(match: re.Match[str]) -> str:
    """'.' if an abbreviation's full stop also ends the sentence: nothing follows, or a word that begins one."""
    rest = match.string[match.end() : match.end() + 16]
    found = re.match(r"[\"')\]]{0,2}(?:\s*$|\n| [\"'(\[]?([A-Z][a-z]*)(?![a-z]))", rest)
    return "." if found and (found[1] is None or found[1] in STARTERS) else ""
