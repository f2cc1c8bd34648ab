"""Characters: quotes, dashes and blanks in plain form, compatibility forms and accents folded, emoji left out."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from sopro_np.text.rule import PAUSE, Rule, rule

# character -> what stands for it from here on
PLAIN = {
    **dict.fromkeys("‘’‚‛ʼʹʻ`´′＇", "'"),
    **dict.fromkeys("“”„‟«»″＂〝〞「」『』", '"'),
    **dict.fromkeys("‐‑⁃−﹣－", "-"),
    **dict.fromkeys("‒–", "–"),
    **dict.fromkeys("—―⸺⸻﹘", "—"),
    **dict.fromkeys("•‣◦▪●○■□▸►∙", "•"),
    **dict.fromkeys("。．｡", "."), **dict.fromkeys("、，､", ","),
    "…": "...", "⁄": "/", "∕": "/", "¿": "", "¡": "", "™": "", "®": "", "©": " copyright ", "℠": "", "№": "No. ",
    "ß": "ss", "ẞ": "SS", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d",
    "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "ə": "e", "ŋ": "ng", "Ŋ": "Ng", "ſ": "s", "ħ": "h",
    "Ħ": "H", "¤": "", "º": "°", "·": " ", "‰": " per mille", "†": "", "‡": "", "※": "", "‽": "?!", "¦": "|", "ƒ": "f",
    "\u2028": "\n", "\u2029": "\n\n", "\x85": "\n", "\u00ad": "", "⋅": "×", "∗": "*", "⁎": "*", "★": "", "☆": "",
    "\u2126": "Ω",
}  # fmt: skip
FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
# signs that a later rule reads out; other symbols are left out
KEPT = set("°€£¥¢₹₽₩₿§±×÷≈≠≤≥√∞→←⇒∑∆∂–—•¶") | {PAUSE}
GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi "
        "chi psi omega".split(),
        strict=True,
    )
)


def is_greek(c: str) -> bool:
    return "\u0370" <= c <= "\u03ff" or "\u1f00" <= c <= "\u1fff"


def greek_name(c: str) -> str | None:
    """Of one letter, whatever its accents and form: ά and ϵ are alpha and epsilon."""
    return GREEK.get(unicodedata.normalize("NFKD", c)[0].lower().replace("ς", "σ"))


@lru_cache(4096)
def plain(c: str) -> str:
    """One character beyond ASCII, or a control character, in plain form; '' where nothing is said for it."""
    if c in PLAIN:
        return PLAIN[c]
    if c in KEPT or c in GREEK or (is_greek(c) and c.isalpha()):
        return "μ" if c == "µ" else c
    if "\u2460" <= c <= "\u249b" or "\u2776" <= c <= "\u2793":  # in circles, each a number of its own
        return f" {unicodedata.numeric(c):g} "
    kind = unicodedata.category(c)
    if kind == "Nd":
        return str(unicodedata.digit(c))
    if kind == "Zs":
        return " "
    if kind[0] in "CM":  # control, format and private characters; marks on a letter
        return ""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", c))
    if folded and not folded[0].isascii() and c.isalpha() and c != "\u00b5":
        if folded.lower() in GREEK:
            return folded  # of mathematics
        return c  # of another script, in one piece
    if folded != c:
        folded = "".join(x if x.isascii() or x == "μ" else plain(x) for x in folded)
        return " " if folded.isspace() else folded
    if kind[0] == "S" or kind in ("Pc", "Po", "Ps", "Pe", "Pi", "Pf", "Pd"):
        return ""
    return c  # a letter or number of another script: nobody can say it


def _plain(match: re.Match[str]) -> str:
    return "".join(map(plain, match[0]))


def _fraction(match: re.Match[str]) -> str:
    return (" " if match[1] else "") + FRACTIONS[match[2]]


def _power(match: re.Match[str]) -> str:
    return "^" + match[0].translate(SUPERSCRIPTS)


def _greek(match: re.Match[str]) -> str | None:
    name = greek_name(match[0])
    before = match.string[max(match.start() - 1, 0) : match.start()]
    after = match.string[match.end() : match.end() + 1]
    if not name or is_greek(before) or is_greek(after):
        return None  # a Greek word
    return (" " if before.isalnum() else "") + name + (" " if after.isalnum() else "")


RULES: tuple[Rule, ...] = (
    rule("line break", r"\r\n?|[\v\f]", "\n", ("a dog\r\nand a cat", "a dog and a cat")),
    rule(
        "vulgar fraction",
        "(?<=([0-9" + "".join(FRACTIONS) + "]))?([" + "".join(FRACTIONS) + "])",
        _fraction,
        ("Add 1½ cups.", "Add one and a half cups."),
        ("¼ is little.", "one quarter is little."),
    ),
    rule("superscript", r"(?<=[A-Za-z0-9)])[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]{1,9}", _power, ("x² + 1", "x squared plus one")),
    rule("subscript", r"[₀₁₂₃₄₅₆₇₈₉]+", lambda m: m[0].translate(SUBSCRIPTS), ("H₂O", "H two O")),
    rule(
        "plain characters",
        r"[^\x20-\x7e\n\t\ue000]{1,40}",
        _plain,
        ("don’t “go”", "don't go"),
        ("caf\u00e9 na\u00efve M\u00fcller", "cafe naive Muller"),
        ("Ｈｅｌｌｏ ﬁne", "Hello fine"),
        ("well\u200b\ufeff known\u00a0fact", "well known fact"),
        ("Nice 😀👍🏽!", "Nice!"),
        ("①②③", "one two three"),
        ("٣ cats", "three cats"),
    ),
    rule("blanks", r"\t[ \t]*|  [ \t]*| \t[ \t]*", " ", ("a  b\t c", "a b c")),
    rule(
        "blanks at a line's end",
        r" ?\n ?|\A[ \n]+|[ \n]+\Z",
        lambda m: "\n" if "\n" in m[0] and m.start() and m.end() < len(m.string) else "",
        ("one \n two", "one two"),
    ),
)
# After units, which have a μ of their own.
GREEK_RULES: tuple[Rule, ...] = (
    rule(
        "Greek letter",
        r"[\u0370-\u03ff\u1f00-\u1fff]",
        _greek,
        ("α and π", "alpha and pi"),
        ("Δt", "delta t"),
        ("𝛼 and ά", "alpha and alpha"),
    ),
)
