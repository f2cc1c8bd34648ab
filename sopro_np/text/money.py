"""Sums of money: signs and codes of currencies, with cents, scales and ranges."""

from __future__ import annotations

import re

from sopro_np.text.rule import NUMBER, Rule, attribute, rule
from sopro_np.text.spell import is_one, number

# sign or code -> (one, many, one of the hundredths, many of them)
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""),
    "US$": ("U S dollar", "U S dollars", "cent", "cents"),
    "C$": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "A$": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "USD": ("U S dollar", "U S dollars", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "JPY": ("yen", "yen", "", ""),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "INR": ("rupee", "rupees", "paisa", "paise"),
    "Rs": ("rupee", "rupees", "paisa", "paise"),
    "NZD": ("New Zealand dollar", "New Zealand dollars", "cent", "cents"),
    "HKD": ("Hong Kong dollar", "Hong Kong dollars", "cent", "cents"),
    "SGD": ("Singapore dollar", "Singapore dollars", "cent", "cents"),
    "CNY": ("yuan", "yuan", "", ""),
    "RMB": ("yuan", "yuan", "", ""),
    "KRW": ("won", "won", "", ""),
    "SEK": ("Swedish krona", "Swedish kronor", "", ""),
    "NOK": ("Norwegian krone", "Norwegian kroner", "", ""),
    "DKK": ("Danish krone", "Danish kroner", "", ""),
    "PLN": ("zloty", "zloty", "", ""),
    "CZK": ("Czech koruna", "Czech koruna", "", ""),
    "ZAR": ("rand", "rand", "cent", "cents"),
    "BRL": ("real", "reais", "", ""),
    "MXN": ("Mexican peso", "Mexican pesos", "", ""),
    "AED": ("dirham", "dirhams", "", ""),
    "Fr": ("franc", "francs", "centime", "centimes"),
}
SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "b": "billion", "B": "billion",
    "bn": "billion", "T": "trillion", "tn": "trillion",
    **{word: word for word in ("hundred", "thousand", "million", "billion", "trillion")},
}  # fmt: skip
SCALE = r"(?:([ -]?(?:hundred|thousand|million|billion|trillion)|k|K|mn|bn|tn|m|M|b|B|T)\b)?"
SIGNS = r"(US\$|C\$|A\$|[$€£¥₹₽₩₿])"
CODES = r"(USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|NZD|HKD|SGD|CNY|RMB|KRW|SEK|NOK|DKK|PLN|CZK|ZAR|BRL|MXN|AED)"


def spoken(amount: str, scale: str | None, currency: str, sign: str = "") -> str:
    """'1,234.56', None, '$' -> one thousand two hundred thirty four dollars and fifty six cents."""
    one, many, cent, cents = CURRENCIES[currency]
    minus = {"-": "minus ", "+": "plus "}.get(sign, "")
    if scale and (word := scale.strip(" -")):
        return f"{minus}{number(amount)} {SCALES[word]} {many}"
    whole, _, rest = amount.replace(",", "").partition(".")
    if len(rest) != 2 or not cent:
        return f"{minus}{number(amount)} {one if is_one(amount) else many}"
    main = f"{number(whole)} {one if is_one(whole) else many}"
    if not int(rest):
        return minus + main
    small = f"{number(rest)} {cent if int(rest) == 1 else cents}"
    return minus + (f"{main} and {small}" if int(whole or 0) else small)


def _signed(m: re.Match[str]) -> str:
    said = spoken(m[4], m[5], m[2], m[1] or m[3] or "")
    if attribute(m):  # a five dollar bill
        for singular, many in ((CURRENCIES[m[2]][i], CURRENCIES[m[2]][i + 1]) for i in (0, 2)):
            said = re.sub(rf"\b{many}\b", singular, said) if many else said
    return said


def _after(m: re.Match[str]) -> str:
    return spoken(m[1], m[2], m[3])


def _range(m: re.Match[str]) -> str:
    many = CURRENCIES[m[1]][1]
    if "." in m[2] + m[4] and not (m[3] or m[5]):
        return f"{spoken(m[2], None, m[1])} to {spoken(m[4], None, m[1])}"
    first, second = (SCALES[s.strip(" -")] + " " if s else "" for s in (m[3], m[5]))
    return f"{number(m[2])} {first}to {number(m[4])} {second}{many}"


def _cents(m: re.Match[str]) -> str | None:
    if m[2] and re.search(
        r"(?:over|times|plus|minus|equals|by|[-+=*/^]) ?$", m.string[max(m.start() - 8, 0) : m.start()]
    ):
        return None  # 2c of a formula
    amount = m[1] or m[2]
    return f"{number(amount)} cent{'' if is_one(amount) or attribute(m) else 's'}"


RULES: tuple[Rule, ...] = (
    rule("range of money", rf"(?<![\w.]){SIGNS} ?({NUMBER}){SCALE} ?[-–—] ?(?:\1 ?)?({NUMBER}){SCALE}(?![\w%-]|[.,]\d)", _range,
         ("for $20-$30", "for twenty to thirty dollars"), ("€5–10 million", "five to ten million euros")),
    rule("money", rf"(?:(?<![\w.,)])([-+]))?(?<![\w.]){SIGNS} ?(-(?=\d))?({NUMBER})(?:\.[-–—](?!\w))?{SCALE}", _signed,
         ("It costs $1,234.56.", "It costs one thousand two hundred thirty four dollars and fifty six cents."),
         ("£1", "one pound"), ("$3.5 million", "three point five million dollars"), ("$0.99", "ninety nine cents"),
         ("-$5", "minus five dollars"), ("$-5", "minus five dollars"), ("+$2m", "plus two million dollars"), ("a $5.5-million house", "a five point five million dollar house"), ("$20k", "twenty thousand dollars"), ("a $5 bill", "a five dollar bill"),
         ("from $1.05 to $82.40", "from one dollar and five cents to eighty two dollars and forty cents")),
    rule("money with a code first", rf"\b{CODES[:-1]}|Rs(?=\.? ?\d)|Fr(?=\. ?\d))\.? ?({NUMBER})(?:\.[-–—](?!\w))?{SCALE}", lambda m: spoken(m[2], m[3], m[1]), ("EUR 20", "twenty euros"), ("Rs. 500", "five hundred rupees"), ("CHF 50.-", "fifty Swiss francs")),
    rule("money, currency last", rf"(?<![\w.,])({NUMBER}){SCALE} ?([€£¥₹₽$]|{CODES[1:-1]}\b)(?!\w)", _after,
         ("for 50 € each", "for fifty euros each"), ("100 USD", "one hundred U S dollars")),
    rule("cents", rf"(?<![\w.,])({NUMBER}) ?¢|(?<![\w.,-])(?<![Aa]t )([1-9]\d?)c(?=[.,;:!?)]|$| [a-z])", _cents, ("only 50¢", "only fifty cents"), ("It costs 50c.", "It costs fifty cents.")),
)  # fmt: skip
