"""Formulas: signs between and before values in a line that has = or ^ or a root, functions, and signs at a number."""

from __future__ import annotations

import re

from sopro_np.text.rule import rule
from sopro_np.text.units import UNITS

FUNCTIONS = {"sin": "sine", "cos": "cosine", "tan": "tangent", "log": "log", "ln": "natural log", "exp": "exponential"}
REACH = 60  # characters to both sides that belong to a formula
ENDS_VALUE = re.compile(r"(?:\d|(?<![A-Za-z])[A-Za-z]|[)\]])$")
BEGINS_VALUE = re.compile(r"\d|[A-Za-z](?![A-Za-z])|[(√]")
MARKED = re.compile(r"[=^√±]")
UNIT = re.compile(r"\d ?[a-zA-Z]{1,2}$")  # 5 m/s is no division


def _line(m: re.Match[str]) -> tuple[str, str]:
    """What stands before and behind it in its line."""
    before = m.string[max(m.start() - REACH, 0) : m.start()].rpartition("\n")[2]
    return before, m.string[m.end() : m.end() + REACH].partition("\n")[0]


def _minus(m: re.Match[str]) -> str | None:
    before, after = _line(m)
    if m[0] == "-" and re.search(r"\b[A-Z]$", before) and after[:1].isdigit():
        return None  # B-52
    value = ENDS_VALUE.search(before.rstrip()) and BEGINS_VALUE.match(after.lstrip())
    return " minus " if value and MARKED.search(before + after) else None


def _negative(m: re.Match[str]) -> str | None:
    return "minus " if MARKED.search("".join(_line(m))) else None


def _divided(m: re.Match[str]) -> str | None:
    before, after = _line(m)
    if not (ENDS_VALUE.search(before) and BEGINS_VALUE.match(after) and MARKED.search(before + after)):
        return None
    top, bottom = re.search(r"(?<![\w/.])\d{1,9}$", before), re.match(r"\d{1,9}(?![\w/.])", after)
    if top and bottom and " " not in m[0]:
        return " divided by " if int(top[0]) >= int(bottom[0]) or bottom[0] == "1" else None  # 1/2 x is a half
    if re.search(r"\d/\d{1,4}$", before) or re.match(r"\d{1,4}/\d", after) or UNIT.search(before):
        return None  # a date, a unit
    return " over "


ASTERISK = re.compile(r"\b(?:use|and|or|with|for|type|add|put|is|in|of|by|to|as)$")


def _times(m: re.Match[str]) -> str | None:
    if re.match(r" ?10 ?\^", m.string[m.end() : m.end() + 5]):
        return None
    before = m.string[max(m.start() - 5, 0) : m.start()]
    if m[0] == " * " and re.search(r"\b(?:[Tt]he|[Hh]it)$", before):
        return None  # a key
    lone = m[0] == " * " and ASTERISK.search(before)
    return " " if lone else " times "


def _product(m: re.Match[str]) -> str | None:
    letters = m[2] + m[3] if m[2] else m[5] + m[6]
    other = letters in ("st", "nd", "rd", "th") or letters in UNITS
    return None if other or not MARKED.search("".join(_line(m))) else " ".join(filter(None, m.groups()))


def _group(m: re.Match[str]) -> str:
    return f"{m[1]} {m[2]}{'' if re.match(r' ?(?:$|[.,;:!?)])', m.string[m.end() : m.end() + 2]) else ','}"


RULES = (
    rule("function of", r"\b([fghOP]|" + "|".join(FUNCTIONS) + r")\(([^()\n]{1,30})\)", lambda m: f"{FUNCTIONS.get(m[1], m[1])} of {m[2]}", ("f(x) = 2", "f of x equals two"), ("O(n)", "O of n")),
    rule("factorial", r"(?<![\w.])(\d{1,3}|n)!(?= ?[=+*/×)])", r"\1 factorial", ("5! = 120", "five factorial equals one hundred twenty")),
    rule("sign before a value", r"(?<=[=(±*/^] )-(?=[A-Za-z](?![A-Za-z])|\()|(?<=[=(^])-(?=[A-Za-z](?![A-Za-z])|\()", _negative, ("x = -b", "x equals minus b")),
    rule("minus in a formula", r" ?(?<!\^)-(?!-) ?", _minus, ("y = x - 1", "y equals x minus one"), ("5-3 = 2", "five minus three equals two"), ("f(x) = x^2 + 3x - 7", "f of x equals x squared plus three x minus seven")),
    rule("divided in a formula", r" ?/ ?", _divided, ("10/2=5", "ten divided by two equals five"), ("x = (a + b) / 2c", "x equals, a plus b, over two c")),
    rule("root of a group", r"(√) ?\(([^()\n]{1,40})\)", _group, ("√(x + 1)", "the square root of x plus one")),
    rule("product of letters", r"(?<=[\d=+^√] )(\d{1,3})([a-z])([a-z])\b(?= ?[-+=)/]|$)|(?<=minus )(\d{1,3})([a-z])([a-z])\b(?= ?[-+=),/]|$)",
         _product, ("√(b² - 4ac)", "the square root of b squared minus four a c")),
    rule("heart", r"(?<![\w<])<3(?=[.!,)]|$|\s*\n| (?:you|u|my|this|it|him|her|them|your)\b)", "love", ("I <3 you", "I love you")),
    rule("product of two letters", r"(?<==)( ?)(?!(?:is|to|no|an|in|it|on|up|or|of|as|at|by|do|go|he|if|me|my|so|us|we|be|am|ok|hi|id)\b)([a-z])([a-z])(?=\^\d|[.,]?$|[.,]?\n| [-+*/])", r"\1\2 \3", ("E = mc²", "E equals m c squared")),
    rule("times sign", r"(?<=[\d)])\*(?=[\w(])|(?<=\w)\*(?=[\d(])|(?<=\b[A-Za-z])\*(?=[A-Za-z]\b)|(?<=[\w)]) \* (?=[\w(])", _times, ("a * b", "a times b"), ("5*3", "five times three")),
    rule("times between numbers", r"(?<=\d) ?[x×*] ?(?=\d[\d.,]{0,20} ?=)", " times ", ("3 x 4 = 12", "three times four equals twelve")),
    rule("and more", r"(?<=\d|[KMkB])\+(?=[.,;:!?)]|\s(?![\d(=]|[a-z](?![a-z]))|$)", " plus", ("ages 65+", "ages sixty five plus"), ("18+ only", "eighteen plus only")),
    rule("more or less than", r"(?<![\w)\]|<>=-])(?<![\w)\]|] )([<>]=?|[≤≥]) ?(?=[$€£]?\d)", lambda m: {"<": "less than ", ">": "more than ", "<=": "at most ", ">=": "at least ", "≤": "at most ", "≥": "at least "}[m[1]],
         ("<5% of them", "less than five percent of them"), ("(>100 people)", "more than one hundred people")),
)  # fmt: skip
