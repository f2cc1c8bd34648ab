"""Signs of arithmetic, programs and letters, in words."""

from __future__ import annotations

import re

from sopro_np.text.rule import rule

# before numbers are spoken
EARLY = (
    rule("times between numbers", r"(?<=\d) ?[x×*] ?(?=\d[\d.,]{0,20} ?=)", " times ", ("3 x 4 = 12", "three times four equals twelve")),
    rule("minus between numbers", r"(?<=\d) ?- ?(?=\d[\d.,]{0,20} ?=)", " minus ", ("5 - 3 = 2", "five minus three equals two")),
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


def _sign(m: re.Match[str]) -> str | None:
    if (name := NAMES.get(m[0])) is None:
        return "".join(f" {NAMES[c]} " for c in m[0] if c in NAMES and c not in "<>=@$") or " "
    around = m.string[max(m.start() - 2, 0) : m.start()], m.string[m.end() : m.end() + 2]
    speaks = all(re.search(r"[\w)\]'\"]", part) for part in around)
    if m[0] in ("<", ">", "=", "+", "==", "@", "->", "=>", "<-", "→", "←") and not speaks:
        return " "  # an arrow, a mark, a line of signs
    if m[0][0] in "<>≤≥≈" and re.search(r"[a-z]{3} ?$", m.string[max(m.start() - 4, 0) : m.start()]):
        name = name.removeprefix("is ")  # after a word it is no statement: fewer failures, orders below a sum
    return f" {name} "


LATE = (
    rule("times sign", r"(?<=[\w)]) ?\* ?(?=[\w(])", " times ", ("a * b", "a times b")),
    rule("sign", r"(?:[=<>!]=|[-=]>|<-|&&|\|\||[=<>+&%@°$€£¥¢₹₩₽₿±×÷≈≠≤≥√∞→⇒←∑∆∂§¶]){1,20}", _sign,
         ("a + b = c", "a plus b equals c"), ("Tom & Jerry", "Tom and Jerry"), ("x ≥ 2", "x is at least two"), ("a × b", "a times b"),
         ("orders < $25", "orders less than twenty five dollars")),
    rule("slash between words", r"(?<=[A-Za-z])/(?=[A-Za-z])", " slash ", ("input/output", "input slash output")),
)  # fmt: skip
