"""Postal addresses: states by name, post codes digit by digit, points of the compass."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule
from sopro_np.text.spell import digits

STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "FL": "Florida", "GA": "Georgia", "HI": "Hawaii", "ID": "Idaho",
    "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas", "KY": "Kentucky", "LA": "Louisiana",
    "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi",
    "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire", "NJ": "New Jersey",
    "NM": "New Mexico", "NY": "New York", "NC": "North Carolina", "ND": "North Dakota", "OH": "Ohio",
    "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania", "RI": "Rhode Island", "SC": "South Carolina",
    "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia",
    "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming", "DC": "D C",
}  # fmt: skip
# words, titles and degrees: states only before a post code
UNSURE = frozenset("HI ID IN LA MA MD ME MS OH OK OR PA".split())
COMPASS = {
    "N": "North", "S": "South", "E": "East", "W": "West", "NE": "Northeast", "NW": "Northwest", "SE": "Southeast",
    "SW": "Southwest",
}  # fmt: skip
STREET = r"(?:St|Ave|Rd|Blvd|Dr|Ln|Hwy|Pkwy|Street|Avenue|Road|Boulevard|Drive|Lane|Highway)"


def _state(m: re.Match[str]) -> str | None:
    placed = re.search(r"\b(?:in|near|from|to|at|of) $", m.string[max(m.start() - 6, 0) : m.start()])
    if m[2] in UNSURE and not m[3] and not (placed and re.match(r"[.,;]|$", m.string[m.end() :][:1])):
        return None
    post = ", ".join(digits(part) for part in (m[3], m[4]) if part)
    return f"{m[1]}, {STATES[m[2]]}" + (f" {post}" if post else "")


def _compass(m: re.Match[str]) -> str:
    return COMPASS[m[1].replace(".", "")]


RULES: tuple[Rule, ...] = (
    rule("state and post code", r"\b([A-Z][a-z]{2,20}), ?(" + "|".join(STATES) + r")\b(?: (\d{5})(?:-(\d{4}))?(?![\w-]))?(?!')", _state,
         ("Austin, TX 78701", "Austin, Texas seven eight seven zero one"), ("in Dallas, TX.", "in Dallas, Texas."), ("in Salem, OR.", "in Salem, Oregon.")),
    rule("post code", r"\b((?:ZIP|[Zz]ip|[Pp]ost|[Pp]ostal) ?(?:[Cc]ode)?:? (?:is )?)(\d{5})(?:-(\d{4}))?(?![\w-])",
         lambda m: m[1] + ", ".join(digits(part) for part in (m[2], m[3]) if part), ("zip code 10011", "zip code one zero zero one one")),
    rule("point of the compass", r"(?<=\d )([NSEW]|[NS]\.?[EW])\b\.?(?= (?:[A-Z][a-z]{2}|\d{1,3}(?:st|nd|rd|th)))", _compass,
         ("at 350 W. 57th St.", "at three hundred fifty West fifty seventh Street.")),
    rule("quarter of a city", rf"\b({STREET}\.?|I-\d{{1,3}}) ([NSEW]|[NS]\.?[EW])\b\.?(?= ?[,;]| [a-z]|\.?$)",
         lambda m: f"{m[1]} {COMPASS[m[2].replace('.', '')]}" + ("." if m[0].endswith(".") else ""),
         ("on Park Ave. NW, we", "on Park Avenue Northwest, we"), ("I-95 N.", "I ninety five North.")),
)  # fmt: skip
