"""Text normalisation: English text -> what is said, in plain words, with its alignment and the rules that fired.

The spoken text has letters, `.` `,` `?` `!`, apostrophes inside words, single blanks, "\\n\\n" between paragraphs and
`[pause 0.5]`; nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from sopro_np.errors import UsageError
from sopro_np.text import (
    abbreviations,
    addresses,
    dates,
    initialisms,
    markup,
    money,
    numbers,
    punctuation,
    roman,
    symbols,
    times,
    typography,
    units,
    web,
)
from sopro_np.text.aligned import Aligned, Edit
from sopro_np.text.lexicon import read_lexicon as read_lexicon
from sopro_np.text.lexicon import respell
from sopro_np.text.rule import PAUSE, Rule, rule

LONGEST_PAUSE = 60.0  # seconds
PASSES = 6  # a second pass changes nothing in nearly every text; see `normalise`
PAUSE_FORM = re.compile(r"\[\s{0,9}pause(?:[\s:=]{1,9}(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s{0,9}(s|ms)?)?\s{0,9}\]", re.I)
SPEAKABLE = re.compile(r"[A-Za-z]")
UNSPEAKABLE = re.compile(r"[^A-Za-z.,?! '\n\ue000]+")


@dataclass(frozen=True)
class Fired:
    """A rule that changed something: characters start..end-1 of the text given, `before`, are said as `after`."""

    rule: str
    start: int
    end: int
    before: str
    after: str


@dataclass(frozen=True)
class Spoken:
    """What is said; `starts[i]`, `ends[i]`: the characters of the text given that `text[i]` comes from."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    fired: tuple[Fired, ...]
    dropped: str  # letters that cannot be said and were left out (lenient)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Characters first..last-1 of `text` -> (start, end) in the text given."""
        return Aligned(self.text, self.starts, self.ends).span(first, last)


@cache
def pipeline(day_first: bool) -> tuple[Rule, ...]:
    """All rules in the order in which they are applied. Lines are taken apart after `markup.INLINE_RULES`."""
    return (
        *typography.RULES, *markup.INLINE_RULES, *LINE_RULES, *web.RULES, *symbols.EARLY, *dates.rules(day_first),
        *times.RULES, *addresses.RULES, *abbreviations.RULES, *money.RULES, *roman.RULES, *numbers.CODES, *units.RULES,
        *initialisms.MIXED, *numbers.RULES, *typography.GREEK_RULES, *initialisms.LETTERS,
        *initialisms.RULES, *symbols.LATE, *punctuation.RULES,
    )  # fmt: skip


LINE_RULES: tuple[Rule, ...] = (
    rule("paragraph", r"\n{3,}|\A\n+|\n+\Z", lambda m: "\n\n" if m.start() and m.end() < len(m.string) else "",
         ("one.\n\n\n\ntwo.", "one.\n\ntwo.")),
    rule("broken line", r"(?<!\n)-\n(?=[a-z])|(?<!\n)\n(?!\n)", lambda m: "-" if len(m[0]) == 2 else " ",
         ("a line\nbroken", "a line broken")),
)  # fmt: skip
LINE_EXAMPLES = (
    ("# News\nAll is well.", "News.\n\nAll is well."), ("- eggs\n- milk", "eggs.\n\nmilk."),
    ("1. Mix.\n2. Bake.", "one, Mix.\n\ntwo, Bake."), ("> She said\n> no.", "She said no."),
    ("| a | b |\n|---|---|\n| c | d |", "a, b.\n\nc, d."), ("// a note\n// on two lines", "a note on two lines"),
)  # fmt: skip


class _Pass:
    """The text on its way, and what has been done to it."""

    def __init__(self, given: str) -> None:
        self.given, self.text, self.fired = given, Aligned(given), list[Fired]()

    def apply(self, name: str, edits: list[Edit]) -> None:
        if edits:
            for first, last, new in edits:
                start, end = self.text.span(first, last)
                self.fired.append(Fired(name, start, end, self.given[start:end], new))
            self.text = self.text.edit(edits)

    def run(self, rules: Sequence[Rule]) -> None:
        for each in rules:
            self.apply(each.name, self.text.edits(each.pattern, each.replace))
            if each is markup.INLINE_RULES[-1]:
                self.apply("line", markup.line_edits(self.text.text))


def normalise(
    text: str, *, day_first: bool = False, lexicon: Mapping[str, str] | None = None, lenient: bool = False
) -> Spoken:
    """English text -> what is said. `lexicon`: word -> respelling; `day_first`: 1/2/2026 is the first of February.

    The rules are passed over until nothing changes, so that normalising twice is normalising once. UsageError:
    letters that cannot be said (left out, and in `dropped`, if `lenient`), or nothing to say.
    """
    if not isinstance(text, str):
        raise UsageError(f"a text must be a str, not {type(text).__name__}")
    work = _Pass(text)
    work.apply("lexicon", respell(work.text, lexicon or {}))
    work.apply("private use", work.text.edits(re.compile(PAUSE), lambda m: ""))
    dropped = ""
    for _ in range(PASSES):
        before = work.text.text
        work.apply("pause", work.text.edits(PAUSE_FORM, _pause))
        work.run(pipeline(day_first))
        odd = "".join(UNSPEAKABLE.findall(work.text.text))
        if odd and not lenient:
            raise UsageError(_cannot(odd))
        dropped += odd
        work.apply("left out", work.text.edits(UNSPEAKABLE, lambda m: " "))
        work.run(punctuation.RULES)
        work.apply("blanks at the ends", work.text.edits(re.compile(r"\A\s+|\s+\Z"), lambda m: ""))
        if work.text.text == before:
            break
    if not SPEAKABLE.search(work.text.text):
        left = f" (left out: {_named(dropped)})" if dropped else ""
        raise UsageError(f"the text has nothing to say: {_short(text)}{left}; give it at least one word")
    done = work.text.edit(work.text.edits(re.compile(PAUSE), lambda m: _pause_text(m, work)))
    return Spoken(done.text, done.starts, done.ends, tuple(work.fired), dropped)


def _seconds(m: re.Match[str]) -> float:
    seconds = float(m[1] or 0.5) / (1000 if (m[2] or "").lower() == "ms" else 1)
    if seconds > LONGEST_PAUSE:
        raise UsageError(f"{m[0]}: a pause is at most {LONGEST_PAUSE:g} seconds long")
    return seconds


def _pause(m: re.Match[str]) -> str:
    _seconds(m)
    return PAUSE


def _pause_text(m: re.Match[str], work: _Pass) -> str:
    """The pause in its one form; its length is read off the text given."""
    start, end = work.text.span(m.start(), m.end())
    found = PAUSE_FORM.search(work.given[start:end])
    return f"[pause {round(_seconds(found), 3) if found else 0.5:g}]"


def _named(odd: str) -> str:
    """Up to five of the characters, with their numbers."""
    different = list(dict.fromkeys(odd))
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in different[:5]) + (" ..." if len(different) > 5 else "")


def _cannot(odd: str) -> str:
    return (
        f"the text has characters that cannot be said in English: {_named(odd)}; leave them out with --lenient "
        "(lenient=True), or give their words a respelling in a --lexicon file (lexicon=)"
    )


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")
