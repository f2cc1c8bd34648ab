"""Times of day and spans of them."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule, stop_after
from sopro_np.text.spell import ONES, cardinal

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
    return f"{_clock(hour, minute, True)}{_seconds(m[3])} {letter} M" + (stop_after(m) if m[0].endswith(".") else "")


def _day(m: re.Match[str]) -> str | None:
    hour, minute = int(m[1]), int(m[2])
    if hour > 24 or minute > 59 or int(m[3] or 0) > 59:
        return None
    return _clock(hour, minute, False) + _seconds(m[3]) + (", U T C" if m[4] else "")


RULES: tuple[Rule, ...] = (
    rule("time range", rf"(?:(?<=\d)|(?<=[aApP][mM])|(?<=m\.)) ?[-–—] ?(?=\d{{1,2}}(?:(?::\d\d)? ?{HALF}|:\d\d))", " to ",
         ("open 9-5pm", "open nine to five P M"), ("8:30–10:15", "eight thirty to ten fifteen")),
    rule("time, twelve hours", rf"(?<![\w.:,$])(\d{{1,2}})(?:[:.](\d{{2}}))?(?::(\d{{2}}))? ?{HALF}", _twelve,
         ("at 3:30pm", "at three thirty P M"), ("at 9 a.m. sharp", "at nine A M sharp"), ("Come at 10 p.m.", "Come at ten P M.")),
    rule("time of day", r"(?<![\w:.,])(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d{1,6})?)?(Z)?(?![\w:])(?: ?(?:h|hrs|hours|Uhr)\b)?", _day,
         ("The train leaves at 15:45.", "The train leaves at fifteen forty five."), ("at 9:05", "at nine oh five"),
         ("at 8:00", "at eight o'clock"), ("10:15:30", "ten fifteen and thirty seconds")),
    rule("ratio", r"(?<![\w:.,])(\d{1,4}):(\d{1,4})(?![\w:])", r"\1 to \2", ("a ratio of 3:1", "a ratio of three to one")),
)  # fmt: skip
