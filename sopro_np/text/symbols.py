"""Signs of arithmetic, programs and letters, in words."""

from __future__ import annotations

import re

from sopro_np.text.rule import attribute, rule
from sopro_np.text.spell import ONES, TENS

# before numbers are spoken
EARLY = (
    rule("stars of a hotel", r"(?<![*\w.])([1-7])\*(?=[\s.,!?;)]|$)", lambda m: f"{m[1]} star{'' if m[1] == '1' or attribute(m) else 's'}", ("a 5* hotel", "a five star hotel")),
    rule("key", r"(?<=\b(?:the|hit) )([*#])|(?<=\b(?:press|enter) )([*#])|(?<=\bdial )([*#])", lambda m: "star" if "*" in m[0] else "hash", ("the * key", "the star key"), ("press #.", "press hash.")),
    rule("grade", r"(?<![\w-])([A-F])-(?= (?:in|on|for|from|student|average|grade)\b|[.,!?](?:\s|$))", r"\1 minus", ("a C- in maths", "a C minus in maths")),
    rule("programming language", r"(?<!\w)(C|F|J)(\+\+|#)(?!\w)", lambda m: m[1] + (" plus plus" if m[2] == "++" else " sharp"),
         ("in C++ and C#", "in C plus plus and C sharp")),
    rule("dot net", r"(?<!\w)\.NET\b", "dot net", ("a .NET library", "a dot net library")),
    rule("about", r"(?<!\w)~(?=[$€£]?\d)", "about ", ("~5 people", "about five people")),
)  # fmt: skip
NAMES = {
    "=": "equals", "==": "equals", "!=": "is not equal to", "≠": "is not equal to", "<": "is less than", ">": "is greater than",
    "≤": "is at most", "≥": "is at least", "<=": "is at most", ">=": "is at least", "+": "plus", "±": "plus or minus", "×": "times",
    "÷": "divided by", "≈": "is about", "√": "the square root of", "∞": "infinity", "→": "to", "⇒": "implies", "←": "from", "->": "to",
    "=>": "to", "<-": "from", "+=": "plus equals", "-=": "minus equals", "*=": "times equals", "/=": "divided by equals", "∑": "the sum of", "∆": "delta", "∂": "partial", "§": "section", "¶": "paragraph", "&": "and", "&&": "and",
    "||": "or", "%": "percent", "@": "at", "°": "degrees", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "¢": "cents", "₹": "rupee",
    "₩": "won", "₽": "ruble", "₿": "bitcoin",
}  # fmt: skip


NUMERALS = frozenset((*ONES, *TENS, "hundred", "thousand", "million", "billion"))


def _sign(m: re.Match[str]) -> str | None:
    if (name := NAMES.get(m[0])) is None:
        return "".join(f" {NAMES[c]} " for c in m[0] if c in NAMES and c not in "<>=@$") or " "
    around = m.string[max(m.start() - 2, 0) : m.start()], m.string[m.end() : m.end() + 2]
    speaks = re.search(r"[\w)\]'\"∞√∑∂∆]", around[0]) and re.search(r"[\w)\]'\"(∞√∑∂∆]", around[1])
    if m[0] in ("<", ">", "=", "+", "==", "@", "->", "=>", "<-", "→", "←") and not speaks:
        return " "  # an arrow, a mark, a line of signs
    before = re.search(r"([a-z]{3,9}) ?$", m.string[max(m.start() - 10, 0) : m.start()])
    asked = re.search(r"\b(?:[Ii]s|[Aa]re|[Ww]as) [^.?!\n]{0,30}$", m.string[max(m.start() - 36, 0) : m.start()])
    if m[0][0] in "<>≤≥≈" and ((before and before[1] not in NUMERALS) or asked):
        name = name.removeprefix("is ")  # after a word it is no statement: fewer failures, orders below a sum
    return f" {name} "


LATE = (
    rule("sign", r"(?:[=<>!+*/-]=|[-=]>|<-|&&|\|\||[=<>+&%@°$€£¥¢₹₩₽₿±×÷≈≠≤≥√∞→⇒←∑∆∂§¶]){1,20}", _sign,
         ("a + b = c", "a plus b equals c"), ("Tom & Jerry", "Tom and Jerry"), ("x ≥ 2", "x is at least two"), ("3 > 2", "three is greater than two"), ("Is 2 < 3?", "Is two less than three?"), ("a × b", "a times b"),
         ("orders < $25", "orders less than twenty five dollars")),
    rule("slash between blanks", r" / ", ", ", ("cats / dogs", "cats, dogs")),
    rule("slash between words", r"(?<=[A-Za-z])/(?=[A-Za-z])", " slash ", ("input/output", "input slash output")),
)  # fmt: skip
