"""Times of day and spans of them."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule, stop_after_time
from sopro_np.text.spell import ONES, cardinal, number

HALF = r"(?:([aApP])\.m\.|([aApP])\.?[mM]\b|([AP])\.M\.)"


def _clock(hour: int, minute: int, half: bool) -> str:
    if minute:
        return f"{cardinal(hour)} {'oh ' + ONES[minute] if minute < 10 else cardinal(minute)}"
    if half:
        return cardinal(hour)
    if hour == 0:
        return "midnight"
    return f"{cardinal(hour)} o'clock" if hour <= 12 else f"{cardinal(hour)} hundred"


def _seconds(text: str | None) -> str:
    n = int(text or 0)
    return f" and {cardinal(n)} second{'s' if n != 1 else ''}" if n else ""


def _twelve(m: re.Match[str]) -> str | None:
    hour, minute = int(m[1]), int(m[2] or 0)
    if hour > 12 or minute > 59:
        return None
    letter = (m[4] or m[5] or m[6]).upper()
    return f"{_clock(hour, minute, True)}{_seconds(m[3])} {letter} M" + (
        stop_after_time(m) if m[0].endswith(".") else ""
    )


def _day(m: re.Match[str]) -> str | None:
    hour, minute = int(m[1]), int(m[2])
    if hour > 24 or minute > 59 or int(m[3] or 0) > 59:
        return None
    return (
        _clock(hour, minute, False)
        + _seconds(m[3])
        + (", U T C" if m[4] else "")
        + (" " if m.string[m.end() : m.end() + 1].isalpha() else "")
    )


def _lap(m: re.Match[str]) -> str:
    return f"{cardinal(int(m[1]))} minute{'' if m[1] == '1' else 's'} {number(m[2])} seconds"


def _duration(m: re.Match[str]) -> str:
    hours, minutes, seconds = (m[1], m[2], m[3]) if m[1] else (None, m[4], m[5])
    parts = ((hours, "hour"), (minutes, "minute"), (seconds, "second"))
    return " ".join(f"{number(n)} {name}{'' if int(n) == 1 else 's'}" for n, name in parts if n)


RULES: tuple[Rule, ...] = (
    rule("lap time", r"(?<![\w:.,])(\d{1,2}):(\d{2}\.\d{1,3})(?![\w:]|\.\d)", _lap, ("in 1:32.4", "in one minute thirty two point four seconds")),
    rule("hours and minutes", r"(?<![\w.,])(\d{1,3}) ?h(?:rs?)? ?(\d{1,2})(?: ?m(?:in)?\b)?(?: ?(\d{1,2}) ?s(?:ec)?\b)?(?![\w])|(?<![\w.,])(\d{1,3})m ?(\d{1,2})s\b",
         _duration, ("in 2h 15m 30s", "in two hours fifteen minutes thirty seconds"), ("1h45 long", "one hour forty five minutes long")),
    rule("time that was taken", r"\b((?:[Tt]ook|[Tt]akes|[Rr]an|[Rr]uns|[Ll]asted|[Ll]asts|[Tt]ime of|[Tt]ime:|[Dd]uration:?|[Ll]ength:?|[Ii]t in|[Mm]arathon in|[Rr]ace in|[Ff]inished in|[Cc]locked|[Uu]nder|[Ss]ub) )(\d{1,2}):(\d\d):(\d\d)(?![\w:]|\.\d)",
         lambda m: m[1] + " ".join(f"{cardinal(int(n))} {name}{'' if int(n) == 1 else 's'}" for n, name in ((m[2], "hour"), (m[3], "minute"), (m[4], "second")) if int(n)),
         ("She ran it in 2:15:25.", "She ran it in two hours fifteen minutes twenty five seconds.")),
    rule("scale or odds", r"(?<![\w:.,])(\d{1,4}):(\d{1,4})(?= (?:scale|ratio|odds|mix|split|mixture|majority)\b)|(?<=[Rr]atio of )(\d{1,4}):(\d{1,4})|(?<=[Oo]dds of )(\d{1,4}):(\d{1,4})|(?<=[Ss]cale of )(\d{1,4}):(\d{1,4})",
         lambda m: " to ".join(filter(None, m.groups())), ("a 1:24 scale", "a one to twenty four scale"), ("a ratio of 16:10", "a ratio of sixteen to ten")),
    rule("minutes past the hour", r"(?<= ):(?=[0-5]\d\b(?!:))", "", ("at :15 and :45", "at fifteen and forty five")),
    rule("odds", r"\b([Oo]dds (?:of|at|are|were) (?:\d{1,3}[/:]\d{1,3} (?:or|and|to) )?)(\d{1,3})/(\d{1,3})\b", r"\1\2 to \3", ("odds of 7/2", "odds of seven to two")),
    rule("time range", rf"(?:(?<=\d)|(?<=[aApP][mM])|(?<=m\.)|(?<=[Nn]oon)|(?<=night)) ?[-–—] ?(?=noon\b|midnight\b|\d{{1,2}}(?:(?::\d\d)? ?{HALF}|:\d\d))", " to ",
         ("open 9-5pm", "open nine to five P M"), ("8:30–10:15", "eight thirty to ten fifteen"), ("noon–1 pm", "noon to one P M")),
    rule("time, twelve hours", rf"(?<![\w.:,$])(\d{{1,2}})(?:[:.](\d{{2}}))?(?::(\d{{2}}))? ?{HALF}", _twelve,
         ("at 3:30pm", "at three thirty P M"), ("at 9 a.m. sharp", "at nine A M sharp"), ("Come at 10 p.m.", "Come at ten P M."), ("I was there at 3 p.m. Bob came.", "I was there at three P M. Bob came."),
         ("At 3 p.m. Bob came.", "At three P M Bob came."), ("at 10 a.m. Monday", "at ten A M Monday")),
    rule("time of day", r"(?<![\w:.,])(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d{1,6})?)?(Z)?(?:(?![\w:])|(?=ish\b))(?: ?(?:h|hrs|hours|Uhr)\b)?", _day,
         ("The train leaves at 15:45.", "The train leaves at fifteen forty five."), ("at 9:05", "at nine oh five"),
         ("at 8:00", "at eight o'clock"), ("10:15:30", "ten fifteen and thirty seconds")),
    rule("ratio", r"(?<![\w:.,])(\d{1,4}):(\d{1,4})(?![\w:])", r"\1 to \2", ("They led 3:1.", "They led three to one.")),
)  # fmt: skip
