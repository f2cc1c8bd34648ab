"""Dates, in digits and with names of months; decades and centuries."""

from __future__ import annotations

import re
from collections.abc import Callable

from sopro_np.text.rule import Rule, rule, stop_after
from sopro_np.text.spell import ordinal, plural, year

MONTHS = ("January February March April May June July August September October November December").split()
SHORT = {name[:3]: name for name in MONTHS} | {"Sept": "September"} | {name: name for name in MONTHS}
DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
    "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
MONTH = r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|January|February|March|April|June|July|August|September|October|November|December)\b\.?"
YEAR = r"(?:,? ?'?((?:1[0-9]|20)\d\d)(?![\w%]|[.,:/]\d|-\d))?"


def _year(text: str | None) -> str:
    if not text:
        return ""
    n = int(text)
    return ", " + year(n if len(text) == 4 else n + (2000 if n < 70 else 1900))


def _date(month: int, day: int, then: str | None) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{MONTHS[month - 1]} {ordinal(day)}{_year(then)}"


def _iso(m: re.Match[str]) -> str | None:
    spoken = _date(int(m[3]), int(m[4]), m[1])
    return None if spoken is None else spoken + (", " if m[5] else "")


def _slashes(day_first: bool) -> Callable[[re.Match[str]], str | None]:
    def date(m: re.Match[str]) -> str | None:
        a, b = int(m[1]), int(m[3])
        first, second = ((b, a), (a, b)) if day_first or m[2] == "." else ((a, b), (b, a))
        return _date(*first, m[4]) or _date(*second, m[4])

    return date


def _short_slashes(day_first: bool) -> Callable[[re.Match[str]], str | None]:
    def date(m: re.Match[str]) -> str | None:
        a, b = int(m[2]), int(m[3])
        if (a, b) == (9, 11) and re.match(r"(?i)since|before|after", m[1]):
            return None  # nine eleven
        spoken = _date(b, a, None) or _date(a, b, None) if day_first else _date(a, b, None) or _date(b, a, None)
        return spoken and m[1] + spoken

    return date


def _month_day(m: re.Match[str]) -> str | None:
    day, last = int(m[2]), int(m[3] or 1)
    if not (1 <= day <= 31 and 1 <= last <= 31):
        return None
    return f"{SHORT[m[1]]} {ordinal(day)}" + (f" to {ordinal(last)}" if m[3] else "") + _year(m[4])


def _day_month(m: re.Match[str]) -> str | None:
    day, the = int(m[2]), m[1] or "the "
    then = _year(m[4])
    return f"{the}{ordinal(day)} of {SHORT[m[3]]}{then}" if 1 <= day <= 31 else None


def _days_month(m: re.Match[str]) -> str | None:
    first, last = int(m[2]), int(m[4])
    if not (1 <= first <= 31 and 1 <= last <= 31):
        return None
    between = m[3].strip(" -–") or "to"
    return f"{m[1] or 'the '}{ordinal(first)} {between} the {ordinal(last)} of {SHORT[m[5]]}{_year(m[6])}"


def _month_year(m: re.Match[str]) -> str:
    then = m[2].lstrip("'")
    return f"{SHORT[m[1]]}{_year(then)[1:]}"


def _weekday(m: re.Match[str]) -> str | None:
    return DAYS[m[1]] + (stop_after(m) if m[0].endswith(".") else "")


def _decade(m: re.Match[str]) -> str | None:
    n = int(m[1])
    if m[1][-1] != "0" or (n > 99 and not 1100 <= n <= 2099) or n == 0:
        return None
    if n < 100 and m[0][0] != "'" and SECONDS.search(m.string[max(m.start() - 12, 0) : m.start()]):
        return None  # in 30s
    return plural(year(n))


TENS_OF = {
    "10": "tens", "100": "hundreds", "1000": "thousands", "10000": "tens of thousands", "100000": "hundreds of thousands",
    "1000000": "millions",
}  # fmt: skip
# before 30s these mean seconds, not the thirties
SECONDS = re.compile(
    r"(?:\b(?i:after|for|every|within|waits?|takes?|took|in|than|about|least|most|last|lasts|sleep|timeout|of|=)|\d ?m(?:in)?) ?$"
)


NAMES = "Mon|Tue|Wed|Thu|Fri|Sat|Sun|day|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec|[FC]Y"


def rules(day_first: bool) -> tuple[Rule, ...]:
    """The pass over dates; 11/12/2026 is 11 December if `day_first`."""
    return (
        rule("ISO date", r"(?<![\w./-])(\d{4})([-/.])(\d{2})\2(\d{2})(?![\d/-]|[.]\d)(?:(T| )(?=\d\d:))?", _iso,
             ("On 2026-11-28 we met.", "On November twenty eighth, twenty twenty six we met."),
             ("2026-11-28T15:30", "November twenty eighth, twenty twenty six, fifteen thirty"),
             ("of 2026/11/03", "of November third, twenty twenty six")),
        rule("numeric date", r"(?<![\w./-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?![\w/-]|[.]\d)", _slashes(day_first),
             *((("Due 11/12/2026.", "Due December eleventh, twenty twenty six."),) if day_first else
               (("Due 11/12/2026.", "Due November twelfth, twenty twenty six."),
                ("am 28.11.1999", "am November twenty eighth, nineteen ninety nine"),
                ("28/11/05", "November twenty eighth, two thousand five")))),
        rule("short date", r"\b((?:[Oo]n|[Bb]y|[Uu]ntil|[Tt]ill|[Ss]ince|[Dd]ue|[Ff]rom|[Bb]efore|[Aa]fter|Mon|Tue|Wed|Thu|Fri|Sat|Sun|\w{3,6}day),? )"
             r"(\d{1,2})/(\d{1,2})(?![\w/]|[.,]\d)", _short_slashes(day_first), ("See you on 12/24.", "See you on December twenty fourth.")),
        rule("days and month", rf"(?<![\w.,:$-])([Tt]he )?(\d{{1,2}})(?:st|nd|rd|th)?(?:( (?:to|and|or) | ?[-–] ?))(?:the )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {MONTH}{YEAR}", _days_month,
             ("12-15 March", "the twelfth to the fifteenth of March"), ("the 5th and 6th of May", "the fifth and the sixth of May")),
        rule("day and month", rf"(?<![\w.,:$-])([Tt]he )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of|,)? {MONTH}{YEAR}", _day_month,
             ("It is 4 July 1999.", "It is the fourth of July, nineteen ninety nine."), ("the 1st of May", "the first of May")),
        rule("month and day", rf"\b{MONTH} (?:the )?(\d{{1,2}})(?:st|nd|rd|th)?(?: ?[-–] ?(\d{{1,2}})(?:st|nd|rd|th)?)?(?![\w:%/]|[.,]\d|-\d){YEAR}", _month_day,
             ("May 5, 2024 was wet.", "May fifth, twenty twenty four was wet."), ("On Nov. 3rd.", "On November third."), ("June 5-7", "June fifth to seventh")),
        rule("month and year", rf"\b{MONTH},? ((?:1[0-9]|20)\d\d|'\d\d)(?![\w%]|[.,:/]\d|-\d)", _month_year, ("in Sept. 2021", "in September twenty twenty one"), ("since Feb. '22", "since February twenty twenty two")),
        rule("fiscal year", r"\b([FC])Y ?'?(\d{4}|\d{2})(?!\w)", lambda m: f"{m[1]} Y {year(int(m[2]))}", ("FY2025", "F Y twenty twenty five")),
        rule("weekday at the end", r"\b(on|by|thru|through|until|till|next|last|this|every) (Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)\b\.?(?=[,;:!?)]|\s*$)", lambda m: f"{m[1]} {DAYS[m[2]]}" + (stop_after(m) if m[0][-1] == "." else ""),
             ("Come by Fri.", "Come by Friday.")),
        rule("weekday", r"(?<![Tt]he )\b(Mon|Tues?|Wed|Thurs?|Thur|Fri|Sat|Sun)\b(?:\.(?=,? |[-–])|(?= (?:&|and) (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b)|(?<=day & ...)|(?<=day and ...)|(?=,? (?:\d|the [a-z]|[A-Z][a-z]{2,8}\.? \d|January|February|March|April|May|June|July|August|September|October|November|December))|(?= ?[-–] ?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun))|(?=:)|(?<=[-–]...)|(?<=[-–] ...))",
             _weekday, ("Fri, May 1", "Friday, May first"), ("Open Mon-Fri.", "Open Monday to Friday."), ("Mon.-Fri., 8 am", "Monday to Friday, eight A M"), ("Sat & Sun", "Saturday and Sunday")),
        rule("month", r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.(?= )", lambda m: SHORT[m[1]], ("in Dec. we ski", "in December we ski")),
        rule("weekday range", r"(?<=day) ?[-–] ?(?=(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)", " to ", ("Mon–Sat", "Monday to Saturday")),
        rule("hundreds of", r"(?<![\w.,$])(10|100|1,?000|10,?000|100,?000|1,?000,?000)s(?= of\b)", lambda m: TENS_OF[m[1].replace(",", "")], ("100s of people", "hundreds of people")),
        rule("quarter of a year", r"\b([QH][1-4])[ -]?(?:FY ?)?'(\d\d)(?!\w)", lambda m: f"{m[1]} {_year(m[2])[2:]}", ("Q4'23", "Q four twenty twenty three")),
        rule("decade", r"(?<![\w.,$])'?(\d{2}(?:\d{2})?)'?s\b", _decade, ("the 1990s and '60s", "the nineteen nineties and sixties"), ("the 2010s", "the twenty tens")),
    )  # fmt: skip
