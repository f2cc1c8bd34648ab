"""Numbers that are nothing else: telephone numbers and codes, ranges, fractions, ordinals, years, cardinals."""

from __future__ import annotations

import re

from sopro_np.text.rule import ALONE, NUMBER, SIGN, Rule, rule
from sopro_np.text.spell import cardinal, digits, number, ordinal, plural, year
from sopro_np.text.units import UNITS

PARTS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
# a word after which a number of four digits is a year
BEFORE_YEAR = frozenset(
    (
        "in since by until till from of before after during circa around between early late mid spring summer "
        "autumn fall winter year years to and copyright january february march april may june july august "
        "september october november december christmas"
    ).split()
)
SURE = frozenset(("in since until till during circa copyright year spring summer autumn fall winter").split())
SCALES = {"k": "thousand", "K": "thousand", "M": "million", "bn": "billion", "B": "billion"}


def _groups(m: re.Match[str]) -> str:
    """Digit by digit, a comma between groups."""
    plus = "plus " if m[0].lstrip("(").startswith("+") else ""
    return plus + ", ".join(map(digits, re.findall(r"\d+", m[0])))


def _range(m: re.Match[str]) -> str:
    first, second = m[1], m[2]
    if len(first) == 4 and len(second) in (2, 4) and 1100 <= int(first) <= 2099:
        if len(second) == 2 and int(second) > int(first[2:]):
            return f"{year(int(first))} to {cardinal(int(second)) if int(second) > 9 else number(second)}"
        if len(second) == 4 and 1100 <= int(second) <= 2099:
            return f"{year(int(first))} to {year(int(second))}"
    return f"{first} to {second}"


def _fraction(m: re.Match[str]) -> str | None:
    whole, top, bottom = m[1], int(m[2]), int(m[3])
    if bottom < 2 or (whole and top >= bottom):
        return None
    if bottom > 100 or (bottom > 12 and bottom not in (16, 20, 32, 50, 64, 100)) or top >= bottom:
        return f"{whole or ''}{cardinal(top)} over {cardinal(bottom)}" if not whole and top < bottom else None
    one, many = PARTS.get(bottom, (ordinal(bottom), plural(ordinal(bottom))))
    part = f"{cardinal(top)} {one if top == 1 else many}"
    if whole:
        return f"{number(whole.strip())} and {'a half' if bottom == 2 else part}"
    return part


def _ordinal(m: re.Match[str]) -> str | None:
    plain = m[1].replace(",", "")
    return ordinal(int(plain)) if len(plain) <= 15 else None


def _year(m: re.Match[str]) -> str | None:
    n = int(m[2])
    before = (m[1] or "").lower()
    after = re.match(r" ([A-Za-z]{1,20})", m.string[m.end() : m.end() + 22])
    word = after[1] if after else ""
    if word in UNITS or word in ("hundred", "thousand", "million", "billion", "percent"):
        return None
    counts = (
        word.islower()
        and word.endswith("s")
        and word not in ("is", "was", "has", "as", "this", "us", "its", "does", "plus")
    )
    cue = (
        before in BEFORE_YEAR
        or word in ("BC", "AD", "BCE", "CE")
        or m.string[max(m.start(2) - 1, 0) : m.start(2)] == "("
    )
    if before in SURE and n >= 1900:
        counts = False
    if counts or (n < 1900 and not cue) or (n == 2000 and counts):
        return None
    return m[0][: m.start(2) - m.start()] + year(n)


def _scientific(m: re.Match[str]) -> str:
    return f"{number(m[1])} times ten to the {number(m[2])}"


def _power(text: str) -> str:
    if text in ("2", "3"):
        return " squared" if text == "2" else " cubed"
    return f" to the {number(text)}" if text.startswith("-") or len(text) > 3 else f" to the {ordinal(int(text))}"


def _number(m: re.Match[str]) -> str:
    text = m[0].lstrip("-+±")
    sign = {"-": "minus ", "+": "plus ", "±": "plus or minus "}.get(m[0][0], "")
    code = (
        "," not in text
        and "." not in text
        and ((len(text) >= 7 and not text.endswith("000")) or (len(text) > 1 and text[0] == "0"))
    )
    return sign + digits(text) if code else number(m[0])


def _scaled(m: re.Match[str]) -> str:
    return f"{number(m[1])} {SCALES[m[2]]}"


def _leftover(m: re.Match[str]) -> str:
    text = m[0]
    before, after = m.string[max(m.start() - 1, 0) : m.start()], m.string[m.end() : m.end() + 1]
    code = len(text) > 6 or (len(text) > 1 and text[0] == "0") or before in (".", ",")
    return (
        (" " if before.isalnum() else "") + (digits(text) if code else number(text)) + (" " if after.isalpha() else "")
    )


CODES: tuple[Rule, ...] = (
    rule("telephone number", r"(?<![\w.,+-])(?:\+?1[ .-]?)?\(\d{3}\) ?\d{3}[ .-]\d{4}(?![\w-])|(?<![\w.,+-])(?:\+?1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}(?![\w-])|"
         r"(?<![\w.,+-])\d{3}-\d{4}(?![\w-])|(?<![\w.,+-])\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?![\w-])", _groups,
         ("Call 555-1234.", "Call five five five, one two three four."),
         ("(212) 555-0100", "two one two, five five five, zero one zero zero"),
         ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight")),
    rule("digits with hyphens", r"(?<![\w.,-])\d{1,20}(?:-\d{1,20}){2,8}(?![\w-])", _groups, ("ISBN 978-3-16", "I S B N nine seven eight, three, one six")),
    rule("number range", r"(?<![\w.,:/-])(\d{1,6}) ?[–-] ?(\d{1,6})(?![\d/-]|[.,:]\d)(?! ?=)", _range,
         ("pages 10-20", "pages ten to twenty"), ("1914–1918", "nineteen fourteen to nineteen eighteen"), ("1990-95", "nineteen ninety to ninety five")),
    rule("range", r"(?<=\d) ?[–—] ?(?=[$€£]?\d)|(?<=[%°CFK]) ?[-–—] ?(?=\d)|(?<=\d)-(?=\d{1,3}\.\d|\d{1,3},\d{3})", " to ",
         ("1.5–2.5", "one point five to two point five")),
    rule("around the clock", r"\b24/7\b", "twenty four seven", ("open 24/7", "open twenty four seven")),
)  # fmt: skip
RULES: tuple[Rule, ...] = (
    rule("fraction", r"(?<![\w.,/-])(\d{1,4} (?=\d/))?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)", _fraction,
         ("1/2 cup", "one half cup"), ("2 3/4 miles", "two and three quarters miles"), ("2/3", "two thirds")),
    rule("ordinal", r"(?<![\w.])(\d{1,3}(?:,\d{3}){1,4}|\d{1,15}) ?(?:st|nd|rd|th|ST|ND|RD|TH)\b", _ordinal, ("the 21st", "the twenty first"), ("his 112th", "his one hundred twelfth")),
    rule("scientific notation", r"(?<![\w.])(-?\d{1,20}(?:\.\d{1,20})?)(?:[eE]| ?[x×*] ?10 ?\^) ?([-+]?\d{1,3})(?!\w)", _scientific,
         ("6.02e23", "six point zero two times ten to the twenty three"), ("3 × 10^-5", "three times ten to the minus five")),
    rule("power", r"(?<=[A-Za-z0-9)])\^(-?\d{1,4})(?!\w)", lambda m: _power(m[1]), ("2^3", "two cubed"), ("x^10", "x to the tenth")),
    rule("thousands", r"(?<![\w.])(\d{1,3}(?:\.\d{1,2})?)(k|K|M|bn|B)\b(?!-)", _scaled, ("12k likes", "twelve thousand likes")),
    rule("year", r"(?:\b([A-Za-z]{2,10}),? )?(?<![\w.,$#:/])(1[1-9]\d\d|20\d\d)(?![\w%°]|[.,:/]\d|-\d)", _year,
         ("in 1984", "in nineteen eighty four"), ("since 2005", "since two thousand five")),
    rule("dimensions", r"(?<=\d) ?[x×] ?(?=\d)(?!\d[\d.,]{0,20} ?=)", " by ", ("a 3x4 grid", "a three by four grid")),
    rule("times", r"(?<![\w.])(\d{1,6}(?:\.\d{1,3})?)[x×](?!\w)", lambda m: f"{number(m[1])} times", ("2x faster", "two times faster")),
    rule("number", rf"{SIGN}{ALONE}(?:{NUMBER}|\.\d{{1,36}})(?!\w)", _number,
         ("3 cats and 12 dogs", "three cats and twelve dogs"), ("1,234", "one thousand two hundred thirty four"), ("3.14", "three point one four"),
         ("-5", "minus five"), ("1234567890", "one two three four five six seven eight nine zero"), ("code 0042", "code zero zero four two"),
         ("2000000 stars", "two million stars")),
    rule("digits left over", r"\d+", _leftover, ("abc123", "abc one hundred twenty three")),
)  # fmt: skip
