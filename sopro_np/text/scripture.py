"""Chapter and verse of the Bible."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule
from sopro_np.text.spell import cardinal

# how a name may begin and be cut short -> the name
BOOKS = {
    "Gen": "Genesis", "Exod": "Exodus", "Ex": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deut": "Deuteronomy",
    "Josh": "Joshua", "Judg": "Judges", "Ruth": "Ruth", "Sam": "Samuel", "Kgs": "Kings", "Chr": "Chronicles", "Chron": "Chronicles",
    "Neh": "Nehemiah", "Esth": "Esther", "Job": "Job", "Ps": "Psalm", "Pss": "Psalms", "Prov": "Proverbs", "Eccl": "Ecclesiastes",
    "Isa": "Isaiah", "Jer": "Jeremiah", "Lam": "Lamentations", "Ezek": "Ezekiel", "Dan": "Daniel", "Hos": "Hosea", "Mic": "Micah",
    "Hab": "Habakkuk", "Zech": "Zechariah", "Mal": "Malachi", "Matt": "Matthew", "Mt": "Matthew", "Mk": "Mark", "Lk": "Luke",
    "Jn": "John", "Rom": "Romans", "Cor": "Corinthians", "Gal": "Galatians", "Eph": "Ephesians", "Phil": "Philippians",
    "Col": "Colossians", "Thess": "Thessalonians", "Tim": "Timothy", "Tit": "Titus", "Philem": "Philemon", "Heb": "Hebrews",
    "Jas": "James", "Pet": "Peter", "Rev": "Revelation",
}  # fmt: skip
BOOKS |= {
    name: name
    for name in (
        *BOOKS.values(),
        "Joel",
        "Amos",
        "Jude",
        "Acts",
        "Revelations",
        "Mark",
        "Luke",
        "John",
        "James",
        "Ezra",
        "Jonah",
    )
}
NUMBERED = {"1": "First ", "2": "Second ", "3": "Third ", "I": "First ", "II": "Second ", "III": "Third "}


def _verse(m: re.Match[str]) -> str:
    """John 3:16 -> John three sixteen; with several verses a pause before them."""
    book = NUMBERED.get(m[1] or "", "") + BOOKS[m[2]]
    chapter, verse = cardinal(int(m[3])), cardinal(int(m[4]))
    return f"{book} {chapter}" + (f", {verse} to {cardinal(int(m[5]))}" if m[5] else f" {verse}")


RULES: tuple[Rule, ...] = (
    rule("chapter and verse", r"(?:\b([123]|I{1,3}) )?\b(" + "|".join(sorted(BOOKS, key=len, reverse=True)) + r")\.? (\d{1,3}):(\d{1,3})(?:[-–](\d{1,3}))?(?![\w:]|[.,]\d| ?[ap]\.?m)", _verse,
         ("Gen. 1:1-3", "Genesis one, one to three"), ("John 3:16", "John three sixteen"), ("1 Cor 13:4", "First Corinthians thirteen four")),
)  # fmt: skip
