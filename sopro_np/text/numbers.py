"""Numbers that are nothing else: telephone numbers and codes, ranges, fractions, ordinals, years, cardinals."""

from __future__ import annotations

import re

from sopro_np.text.rule import ALONE, NUMBER, SIGN, Rule, rule
from sopro_np.text.spell import cardinal, digits, number, ordinal, plural, year
from sopro_np.text.units import COUNTS, UNITS

PARTS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
# a word after which a number of four digits is a year
BEFORE_YEAR = frozenset(
    (
        "in since by until till from of born died built founded established before after during circa around between early late mid spring summer "
        "autumn fall winter year years to and copyright january february march april may june july august "
        "september october november december christmas"
    ).split()
)
SURE = frozenset(("in since until till during circa copyright year spring summer autumn fall winter").split())
NAMED_YEAR = re.compile(
    r"(?i)(?:\b(?:pre|post|mid|early|late)-|\b(?:class|summer|spring|winter|autumn|fall|end|war|crisis|crash) of )$"
)
SCALES = {"b": "billion", "k": "thousand", "K": "thousand", "M": "million", "bn": "billion", "B": "billion"}


def _groups(m: re.Match[str]) -> str:
    """Digit by digit, a comma between groups."""
    groups = re.findall(r"\d+", m[0])
    if m[0][0].isdigit() and "-" in m[0] and all(len(g) < 3 and (g[0] != "0" or g == "0") for g in groups):
        return ", ".join(number(g) for g in groups)  # games won, lost and drawn: 24-3-1
    plus = "plus " if m[0].lstrip("(").startswith("+") else ""
    return plus + ", ".join(map(digits, groups))


def _range(m: re.Match[str]) -> str:
    first, second = m[1], m[2]
    to = "and" if m.string[max(m.start() - 8, 0) : m.start()].lower() == "between " else "to"
    if len(first) == 4 and len(second) in (2, 4) and 1100 <= int(first) <= 2099:
        if len(second) == 2 and int(second) > int(first[2:]):
            return f"{year(int(first))} to {cardinal(int(second)) if int(second) > 9 else number(second)}"
        if len(second) == 4 and 1100 <= int(second) <= 2099:
            return f"{year(int(first))} {to} {year(int(second))}"
    return f"{first} {to} {second}"


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
    if len(plain) > 15:
        return None
    said = ordinal(int(plain))
    return said if m[2] != " " or said.endswith(m[3].lower()) else None  # 12 st: no ordinal


def _year(m: re.Match[str]) -> str | None:
    n = int(m[2])
    before = (m[1] or "").lower()
    after = re.match(r" ([A-Za-z]{1,20})", m.string[m.end() : m.end() + 22])
    word = after[1] if after else ""
    if re.match(r" by \d", m.string[m.end() : m.end() + 5]) or re.search(
        r"\d by $", m.string[max(m.start(2) - 5, 0) : m.start(2)]
    ):
        return None  # a size
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
    lead = m.string[max(m.start() - 12, 0) : m.start(2)]
    if (before in SURE and n >= 1900) or NAMED_YEAR.search(lead):
        counts, cue = False, True
    if n < 1100:
        cue = cue and (before in SURE or word in ("BC", "AD", "BCE", "CE", "A", "B"))
    if counts or ((n < 1900 or n >= 2100) and not cue) or (n == 2000 and counts):
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


def _times(m: re.Match[str]) -> str:
    """2x: twice, or in a sum two of what is x."""
    before, after = m.string[max(m.start() - 3, 0) : m.start()], m.string[m.end() : m.end() + 3]
    sums = re.search(r"[=+*/(^<>]|[-–] $|(?:plus|us|ls) $", before) or re.match(r"\^| ?[-+=*/<>)]", after)
    return f"{number(m[1])} {'x' if sums else 'times'}"


def _code(text: str) -> str:
    return digits(text) if len(text) > 3 else number(text)


def _leftover(m: re.Match[str]) -> str:
    text = m[0]
    before, after = m.string[max(m.start() - 1, 0) : m.start()], m.string[m.end() : m.end() + 1]
    code = len(text) > 6 or (len(text) > 1 and text[0] == "0") or before in (".", ",")
    return (
        (" " if before.isalnum() else "")
        + (digits(text) if code and "." not in text else number(text))
        + (" " if after.isalpha() else "")
    )


SECRET = r"(?:PIN|OTP|passcode|password|(?:security|access|door|entry|verification|pass|sort|dialling|area) code|code(?= is)|ending in|account|acct\.?)"
CODES: tuple[Rule, ...] = (
    rule("telephone number", r"(?<![\w.,+-])(?:\+?1[ .-]?)?\(\d{3}\) ?\d{3}[ .-]\d{4}(?![\w-])|(?<![\w.,+-])(?:\+?1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}(?![\w-])|"
         r"(?<![\w.,+-])\d{3}-\d{4}(?![\w-])|(?<![\w.,+-])(?<!\d )0\d{1,4}(?:[ -]\d{2,8}){1,4}(?![\w-]|[.,]\d)|(?<![\w.,+-])\d{4}(?: \d{4}){2,4}(?![\w-]|[.,]\d)|(?<![\w.,+-])\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?![\w-])", _groups,
         ("Call 555-1234.", "Call five five five, one two three four."), ("020 7946 0018", "zero two zero, seven nine four six, zero zero one eight"),
         ("(212) 555-0100", "two one two, five five five, zero one zero zero"),
         ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight")),
    rule("digits with hyphens", r"(?<![\w.,-])\d{1,20}(?:-\d{1,20}){2,8}(?![\w-])", _groups, ("ISBN 978-3-16", "I S B N nine seven eight, three, one six"),
         ("a record of 24-3-1", "a record of twenty four, three, one")),
    rule("secret number", rf"(?i)\b({SECRET}(?: (?:is|was|of|no\.|number))?:? )(\d{{3}}(?: \d{{3}}){{1,3}}|\d{{3,19}})(?![\w-]|[.,]\d)", lambda m: m[1] + ", ".join(map(digits, m[2].split())),
         ("My PIN is 4821.", "My PIN is four eight two one."), ("card ending in 4417", "card ending in four four one seven")),
    rule("emergency number alone", r"(?<![\s\S])()911(?=\W{0,3}$)|\b((?:the|via|through to|calls? to|was) )911(?=[.,;!?]|$)", lambda m: f"{m[2] or ''}nine one one", ("She got through to 911.", "She got through to nine one one.")),
    rule("emergency number", r"\b([Cc]all|[Dd]ial|[Rr]ing|[Pp]hone|[Cc]alled|[Dd]ialed|[Dd]ialled) (\d{3}(?: \d{2,4}){0,4})(?![\w-]|[.,]\d| (?:[a-z]{1,20}s|people|men|women|children)\b)|(?<![\w.,$-])()(911)(?= (?:calls?|callers?|dispatch\w{0,4}|operators?)\b)",
         lambda m: f"{m[1]} {', '.join(map(digits, m[2].split()))}" if m[1] else digits(m[4]), ("Call 911 now!", "Call nine one one now!")),
    rule("number with a hyphen", r"\b((?:Room|Boeing|Airbus|Suite|Flight|Unit|Model|Gate|Form|Apartment|Building|Lot|Exit|Platform|Bay|Part [Nn]umber|Serial [Nn]umber|number [A-Z]) )(\d{1,9})-(\d{1,9})(?![\w-]|[.,]\d)",
         lambda m: f"{m[1]}{_code(m[2])} dash {_code(m[3])}", ("a Boeing 747-8", "a Boeing seven hundred forty seven dash eight"), ("Room 3-14", "Room three dash fourteen")),
    rule("ten four", r"(?:(?<=[.!?,] )|(?<![\s\S]))10-4(?=[,.!?]|$| good| over)", "ten four", ("10-4, over.", "ten four, over.")),
    rule("letters with numbers, from to", r"\b([A-Z])(\d{1,3}) ?[-–] ?(?:\1(\d{1,3})|(?<=Q\d-)([1-4]))(?![\w-])", lambda m: f"{m[1]}{m[2]} to {m[1] if m[3] else ''}{m[3] or m[4]}", ("Q1–Q3", "Q one to Q three")),
    rule("number range", r"(?<![\w.,:/^-])(\d{1,6}) ?[–-] ?(\d{1,6})(?![\d/-]|[.,:]\d)(?! ?=)", _range,
         ("pages 10-20", "pages ten to twenty"), ("1914–1918", "nineteen fourteen to nineteen eighteen"), ("1990-95", "nineteen ninety to ninety five")),
    rule("range", r"(?<=\d) ?[–—] ?(?=[$€£]?\d)|(?<=[\d ]%|°[CFK]|[\d ]°) ?[-–—] ?(?=\d)|(?<=\d[CFK]) ?[–—] ?(?=\d)|(?<=\d)-(?=\d{1,3}\.\d|\d{1,3},\d{3})", " to ",
         ("1.5–2.5", "one point five to two point five")),
    rule("range with full stops", r"(?<![\w.])(\d{1,9})\.{2,3}(-?\d{1,9})(?![\w.]*\d)", r"\1 to \2", ("from 0..9", "from zero to nine")),
    rule("thousands in capitals", rf"(?<![\w.])(\d{{1,3}}(?:\.\d{{1,2}})?)(?: ?([MBb])|([K]))(?= plus\b|{COUNTS})|(?<![\w.])(?![48]K)(\d{{1,3}}(?:\.\d{{1,2}})?)([KMB])(?= [a-z]{{3,20}}s\b(?<!ss))",
         lambda m: f"{number(m[1] or m[4])} {SCALES[m[2] or m[3] or m[5]]}", ("5K+ followers", "five thousand plus followers"), ("3 M users", "three million users")),
    rule("thousands with blanks", r"(?<![\w.,+-])(?<!\d )([1-9]\d{0,2}(?: \d{3}){1,4})(?= [a-z]{2})|(?<![\w.,+-])(?<!\d )([1-9]\d?(?: \d{3}){2,4}|[1-9]\d{0,2}(?: \d{3}){0,3} 000)(?![\w-]| \d|[.,]\d)", lambda m: m[0].replace(" ", ","),
         ("10 000 of them", "ten thousand of them"), ("1 000 000", "one million")),
)  # fmt: skip
RULES: tuple[Rule, ...] = (
    rule("fraction", r"(?<![\w.,/-])(\d{1,4} (?=\d/))?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)", _fraction,
         ("1/2 cup", "one half cup"), ("2 3/4 miles", "two and three quarters miles"), ("2/3", "two thirds")),
    rule("ordinal", r"(?<![\w.])(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})( ?)(st|nd|rd|th|ST|ND|RD|TH)\b", _ordinal, ("the 21st", "the twenty first"), ("his 112th", "his one hundred twelfth")),
    rule("scientific notation", r"(?<![\w.])(-?\d{1,20}(?:\.\d{1,20})?)(?:[eE]| ?[x×*] ?10 ?\^) ?([-+]?\d{1,3})(?!\w)", _scientific,
         ("6.02e23", "six point zero two times ten to the twenty three"), ("3 × 10^-5", "three times ten to the minus five")),
    rule("power", r"(?<=[A-Za-z0-9)])\^(-?\d{1,4})(?!\w)", lambda m: _power(m[1]), ("2^3", "two cubed"), ("x^10", "x to the tenth")),
    rule("thousands", r"(?<![\w.])(\d{1,3}(?:\.\d{1,2})?)(k|K|M|bn|B)\b(?!-)", _scaled, ("12k likes", "twelve thousand likes")),
    rule("year", r"(?:\b([A-Za-z]{2,10}),? )?(?<![\w.,$#:/])(1[0-9]\d\d|2[01]\d\d)(?![\w%°]|[.,:/]\d|-\d)", _year,
         ("in 1984", "in nineteen eighty four"), ("since 2005", "since two thousand five"), ("pre-1990 cars", "pre nineteen ninety cars"),
         ("in 1066", "in ten sixty six"), ("by 2100", "by twenty one hundred"), ("the class of 2010 meets", "the class of twenty ten meets")),
    rule("decimal with letters", r"(?<![\w.])(\d{1,4})\.(\d{1,4})(?![xkmbh](?!\w))([a-z]{1,2})(?![\w.])", lambda m: f"{number(m[1])} point {digits(m[2])} {' '.join(m[3].upper())}", ("in 3.1c it is", "in three point one C it is")),
    rule("times", r"(?<![\w.])(\d{1,6}(?:\.\d{1,3})?)[x×](?!\w)", _times, ("2x faster", "two times faster"), ("2x + 3 = 11", "two x plus three equals eleven")),
    rule("number", rf"{SIGN}{ALONE}(?:{NUMBER}|\.\d{{1,36}})(?!\w)", _number,
         ("3 cats and 12 dogs", "three cats and twelve dogs"), ("1,234", "one thousand two hundred thirty four"), ("3.14", "three point one four"),
         ("-5", "minus five"), ("1234567890", "one two three four five six seven eight nine zero"), ("code 0042", "code zero zero four two"),
         ("2000000 stars", "two million stars")),
    rule("digits left over", r"\d+(?:\.\d{1,36}(?![\d.]))?", _leftover, ("abc123", "abc one hundred twenty three")),
)  # fmt: skip
