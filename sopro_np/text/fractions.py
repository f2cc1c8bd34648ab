"""Two numbers with a slash: ratings, pressures and shares, where they are no fraction of anything."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule

# after these a tenth is a tenth: 7/10 of a mile
PARTED = r"(?! ?(?:of an?\b|of the\b|miles?\b|inch|in\b|seconds?\b|s\b|cups?\b|acres?\b|teaspoon|tsp|tbsp|ounce|oz|lbs?\b|pounds?\b|mm\b|cm\b|km\b|mi\b|[\"'=]))"
HALVES = r"(?<![\w.,/$-])(?<!\d )"
END = r"(?![\w/%]|[.,]\d)"


def _share(m: re.Match[str]) -> str | None:
    """80/20: two shares that make a hundred; and what is said without a word between."""
    a, b = int(m[1]), int(m[2])
    return f"{a} {b}" if a + b == 100 and a >= b >= 5 else None


def _rating(m: re.Match[str]) -> str | None:
    return f"{m[1]} out of {m[2]}" if 1 < int(m[1]) <= int(m[2]) + (2 if m[2] == "10" else 0) else None


def _over(m: re.Match[str]) -> str | None:
    """Blood pressure, and fractions that are more than one."""
    return f"{m[1]} over {m[2]}" if int(m[1]) > int(m[2]) > 1 else None


RULES: tuple[Rule, ...] = (
    rule("so many out of", rf"(?<![\w.,/])(\d{{1,3}}(?:\.\d)?)/(5|10|20|100)(?= (?:stars?|points?|marks?)\b)|(?<![\w.,/])(\d{{1,2}}\.\d)/(5|10|100){END}",
         lambda m: f"{m[1] or m[3]} out of {m[2] or m[4]}", ("4.5/5 stars", "four point five out of five stars")),
    rule("rating", rf"{HALVES}(\d{{1,3}})/(10|100){END}{PARTED}", _rating, ("I give it 8/10.", "I give it eight out of ten.")),
    rule("said as it stands", rf"{HALVES}(?:(24)/(7)|(9)/(11)|(20)/(\d0)(?= (?:vision|eyesight|hindsight)\b)|(20)/(20)){END}(?! ?(?:of\b|inch|in\b|[\"'=]))",
         lambda m: "twenty four seven" if m[1] else " ".join(filter(None, m.groups())), ("open 24/7", "open twenty four seven"), ("the 9/11 attacks", "the nine eleven attacks"), ("20/20 vision", "twenty twenty vision")),
    rule("shares of a hundred", rf"{HALVES}(\d\d)/(\d{{1,2}}){END}(?! ?=)", _share, ("a 50/50 chance", "a fifty fifty chance"), ("an 80/20 split", "an eighty twenty split")),
    rule("one over the other", rf"{HALVES}(\d{{1,3}})/(\d{{1,3}}){END}(?! ?=)", _over, ("a pressure of 120/80", "a pressure of one hundred twenty over eighty")),
)  # fmt: skip
