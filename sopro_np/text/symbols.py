"""Signs of arithmetic, programs and letters, in words."""

from __future__ import annotations

import re

from sopro_np.text.rule import attribute, rule
from sopro_np.text.spell import ONES, TENS

FUNCTIONS = {"sin": "sine", "cos": "cosine", "tan": "tangent", "log": "log", "ln": "natural log", "exp": "exponential"}


def _minus(m: re.Match[str]) -> str | None:
    """A hyphen between blanks is a minus in a line with = or ^, between what has a value."""
    around = m.string[max(m.start() - 30, 0) : m.start()], m.string[m.end() : m.end() + 30]
    lines = around[0].rpartition("\n")[2], around[1].partition("\n")[0]
    value = re.search(r"(?:\d|\b[A-Za-z]|\))$", lines[0]) and re.match(r"\d|[A-Za-z]\b|\(", lines[1])
    return " minus " if value and re.search(r"[=^]", "".join(lines)) else None


# before numbers are spoken
EARLY = (
    rule("function of", r"\b([fghOP]|" + "|".join(FUNCTIONS) + r")\(([^()\n]{1,30})\)", lambda m: f"{FUNCTIONS.get(m[1], m[1])} of {m[2]}", ("f(x) = 2", "f of x equals two"), ("O(n)", "O of n")),
    rule("factorial", r"(?<![\w.])(\d{1,3}|n)!(?= ?[=+*/×)])", r"\1 factorial", ("5! = 120", "five factorial equals one hundred twenty")),
    rule("minus in a formula", r" - | -(?=[a-z]\b)", _minus, ("y = x - 1", "y equals x minus one")),
    rule("stars of a hotel", r"(?<![*\w.])([1-7])\*(?=[\s.,!?;)]|$)", lambda m: f"{m[1]} star{'' if m[1] == '1' or attribute(m) else 's'}", ("a 5* hotel", "a five star hotel")),
    rule("key", r"(?<=\b(?:the|hit) )([*#])|(?<=\b(?:press|enter) )([*#])|(?<=\bdial )([*#])", lambda m: "star" if "*" in m[0] else "hash", ("the * key", "the star key"), ("press #.", "press hash.")),
    rule("grade", r"(?<![\w-])([A-F])-(?= (?:in|on|for|from|student|average|grade)\b|[.,!?](?:\s|$))", r"\1 minus", ("a C- in maths", "a C minus in maths")),
    rule("times between numbers", r"(?<=\d) ?[x×*] ?(?=\d[\d.,]{0,20} ?=)", " times ", ("3 x 4 = 12", "three times four equals twelve")),
    rule("minus between numbers", r"(?<=\d) ?- ?(?=\d[\d.,]{0,20} ?=)", " minus ", ("5-3 = 2", "five minus three equals two")),
    rule("programming language", r"(?<!\w)(C|F|J)(\+\+|#)(?!\w)", lambda m: m[1] + (" plus plus" if m[2] == "++" else " sharp"),
         ("in C++ and C#", "in C plus plus and C sharp")),
    rule("dot net", r"(?<!\w)\.NET\b", "dot net", ("a .NET library", "a dot net library")),
    rule("about", r"(?<!\w)~(?=[$€£]?\d)", "about ", ("~5 people", "about five people")),
)  # fmt: skip
NAMES = {
    "=": "equals", "==": "equals", "!=": "is not equal to", "≠": "is not equal to", "<": "is less than", ">": "is greater than",
    "≤": "is at most", "≥": "is at least", "<=": "is at most", ">=": "is at least", "+": "plus", "±": "plus or minus", "×": "times",
    "÷": "divided by", "≈": "is about", "√": "the square root of", "∞": "infinity", "→": "to", "⇒": "implies", "←": "from", "->": "to",
    "=>": "to", "<-": "from", "∑": "the sum of", "∆": "delta", "∂": "partial", "§": "section", "¶": "paragraph", "&": "and", "&&": "and",
    "||": "or", "%": "percent", "@": "at", "°": "degrees", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "¢": "cents", "₹": "rupee",
    "₩": "won", "₽": "ruble", "₿": "bitcoin",
}  # fmt: skip


NUMERALS = frozenset((*ONES, *TENS, "hundred", "thousand", "million", "billion"))


def _sign(m: re.Match[str]) -> str | None:
    if (name := NAMES.get(m[0])) is None:
        return "".join(f" {NAMES[c]} " for c in m[0] if c in NAMES and c not in "<>=@$") or " "
    around = m.string[max(m.start() - 2, 0) : m.start()], m.string[m.end() : m.end() + 2]
    speaks = all(re.search(r"[\w)\]'\"∞√∑∂∆]", part) for part in around)
    if m[0] in ("<", ">", "=", "+", "==", "@", "->", "=>", "<-", "→", "←") and not speaks:
        return " "  # an arrow, a mark, a line of signs
    before = re.search(r"([a-z]{3,9}) ?$", m.string[max(m.start() - 10, 0) : m.start()])
    asked = re.search(r"\b(?:[Ii]s|[Aa]re|[Ww]as) [^.?!\n]{0,30}$", m.string[max(m.start() - 36, 0) : m.start()])
    if m[0][0] in "<>≤≥≈" and ((before and before[1] not in NUMERALS) or asked):
        name = name.removeprefix("is ")  # after a word it is no statement: fewer failures, orders below a sum
    return f" {name} "


LATE = (
    rule("times sign", r"(?<=[\w)]) ?\* ?(?=[\w(])", " times ", ("a * b", "a times b")),
    rule("sign", r"(?:[=<>!]=|[-=]>|<-|&&|\|\||[=<>+&%@°$€£¥¢₹₩₽₿±×÷≈≠≤≥√∞→⇒←∑∆∂§¶]){1,20}", _sign,
         ("a + b = c", "a plus b equals c"), ("Tom & Jerry", "Tom and Jerry"), ("x ≥ 2", "x is at least two"), ("3 > 2", "three is greater than two"), ("Is 2 < 3?", "Is two less than three?"), ("a × b", "a times b"),
         ("orders < $25", "orders less than twenty five dollars")),
    rule("slash between blanks", r" / ", ", ", ("cats / dogs", "cats, dogs")),
    rule("slash between words", r"(?<=[A-Za-z])/(?=[A-Za-z])", " slash ", ("input/output", "input slash output")),
)  # fmt: skip
