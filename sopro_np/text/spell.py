"""Numbers in words, American: cardinals without "and", blanks between tens and units ("twenty six")."""

from __future__ import annotations

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = [
    "thousand",
    "million",
    "billion",
    "trillion",
    "quadrillion",
    "quintillion",
    "sextillion",
    "septillion",
    "octillion",
    "nonillion",
    "decillion",
]
LARGEST = 3 * len(SCALES) + 3  # digits
ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def cardinal(n: int) -> str:
    """1234 -> one thousand two hundred thirty four; ValueError from 10^36 on."""
    if n < 0:
        return "minus " + cardinal(-n)
    if n >= 10**LARGEST:
        raise ValueError(f"no name for a number of {len(str(n))} digits")
    if n < 1000:
        return _hundreds(n)
    groups = []
    for scale in ("", *SCALES):
        n, part = divmod(n, 1000)
        if part:
            groups.append(f"{_hundreds(part)} {scale}".rstrip())
    return " ".join(reversed(groups))


def _hundreds(n: int) -> str:
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")
    return f"{ONES[n // 100]} hundred" + (f" {_hundreds(n % 100)}" if n % 100 else "")


def ordinal(n: int) -> str:
    """21 -> twenty first."""
    words = cardinal(n)
    cut = words.rfind(" ") + 1
    last = words[cut:]
    last = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return words[:cut] + last


def digits(text: str) -> str:
    """'0042' -> zero zero four two; other characters are passed over."""
    return " ".join(ONES[int(c)] for c in text if c in "0123456789")


def number(text: str) -> str:
    """A number as it is written, '-1,234.50': one name, or digit by digit where it has none."""
    sign = {"-": "minus ", "+": "plus ", "±": "plus or minus "}.get(text[:1], "")
    whole, _, fraction = text.lstrip("-+±").replace(",", "").partition(".")
    spoken = "" if not whole else cardinal(int(whole)) if len(whole) <= LARGEST else digits(whole)
    return sign + (f"{spoken} point {digits(fraction)}".lstrip() if fraction else spoken)


def year(n: int) -> str:
    """1984 -> nineteen eighty four, 1905 -> nineteen oh five, 2005 -> two thousand five; others as cardinals."""
    century, rest = divmod(n, 100)
    if not 1010 <= n <= 2199 or 2000 <= n <= 2009:
        return cardinal(n)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} " + (f"oh {ONES[rest]}" if rest < 10 else cardinal(rest))


def plural(word: str) -> str:
    """fifty -> fifties, third -> thirds, six -> sixes."""
    return word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("x") else "s")


def is_one(text: str) -> bool:
    """Whether a written number takes the singular."""
    return text.lstrip("-+±") == "1"
