"""Text normalisation: English text -> what is said, in plain words, with its alignment and the rules that fired.

The spoken text has letters, `.` `,` `?` `!`, apostrophes inside words, single blanks, "\\n\\n" between paragraphs and
`[pause 0.5]`; nothing else.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import NamedTuple

from sopro_np.errors import NothingToSay, UsageError
from sopro_np.text import (
    abbreviations,
    addresses,
    chemistry,
    dates,
    formulas,
    fractions,
    initialisms,
    markup,
    money,
    numbers,
    programs,
    punctuation,
    roman,
    scripture,
    symbols,
    times,
    typography,
    units,
    web,
)
from sopro_np.text.aligned import Aligned, Edit, span_of
from sopro_np.text.blocks import PARAGRAPH, blocks
from sopro_np.text.lexicon import Respelling
from sopro_np.text.lexicon import read_lexicon as read_lexicon
from sopro_np.text.rule import PAUSE, Rule, Stage, rule
from sopro_np.text.sayable import BEYOND, NAMED, PAUSE_FORM, UNSAYABLE, doubtful, named, seconds

PASSES = 6  # a second pass changes nothing in nearly every text; see `Normaliser`
SPEAKABLE = re.compile(r"(?<![\[A-Za-z])[A-Za-z]")  # and no mark of a pause
PRIVATE = re.compile(PAUSE)
CLAUSE_END = re.compile(r"[,;:][\"'”’)]?\Z")
EDGES = re.compile(r"\A\s+|\s+\Z")
TOLD = 40  # of the characters that are left out


@dataclass(frozen=True)
class Fired:
    """A rule that changed something: characters start..end-1 of the text given, `before`, are said as `after`."""

    rule: str
    start: int
    end: int
    after: str
    given: str = field(repr=False)

    @property
    def before(self) -> str:
        """What was written. (No copy: many changes may come from one long piece.)"""
        return self.given[self.start : self.end]


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
        return span_of(self.starts, self.ends, first, last)


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


ODD = r"[^A-Za-z .,?!'\n]"  # more than plain words


@cache
def stages(day_first: bool) -> tuple[Stage, ...]:
    """All rules in the order in which they are applied; lines are taken apart at the stage without a rule."""
    return (
        Stage(r"[^\x21-\x7e ]|  |\A | \Z", typography.RULES),
        Stage(r"[<&`\[*_~]", markup.INLINE_RULES),
        Stage(ODD, ()),
        Stage(r"\n", LINE_RULES),
        Stage(r"[<\[*#]|::", programs.RULES),
        Stage(rf"{ODD}|\w\.\w|\.[A-Za-z]|[a-z][A-Z]", web.RULES),
        Stage(r"[-+=/<>≤≥×*^√±!(]", formulas.RULES),
        Stage(rf"{ODD}|!|\.N", symbols.EARLY),
        Stage(rf"\d|{dates.NAMES}", dates.rules(day_first)),
        Stage(r"\d:\d", scripture.RULES),
        Stage(r"[\d–—-]", times.RULES),
        Stage(r"\d|[A-Z](?![a-z])", addresses.RULES),
        Stage("", abbreviations.RULES),
        Stage(r"\d", money.RULES),
        Stage(r"[IVXLCDM](?![a-z])|\b[ivxlc]{1,7}\b|[IVXLC](?:st|nd|rd|th)", roman.RULES),
        Stage(r"\d/\d", fractions.RULES),
        Stage(r"\d", numbers.CODES),
        Stage(r"[\d/]", units.RULES),
        Stage(r"[A-Z][a-z]?[A-Z(\d]", chemistry.RULES),
        Stage(r"[\d&]", initialisms.MIXED),
        Stage(r"[\d^]", numbers.RULES),
        Stage(r"[\u0370-\u03ff\u1f00-\u1fff]", typography.GREEK_RULES),
        Stage(r"\b[A-Za-z]\.", initialisms.LETTERS),
        Stage(r"[A-Z]{2}", initialisms.RULES),
        Stage(ODD, symbols.LATE),
        Stage(punctuation.WAKES, punctuation.RULES),
    )


def pipeline(day_first: bool) -> tuple[Rule, ...]:
    """All rules in the order in which they are applied."""
    return tuple(rule for stage in stages(day_first) for rule in stage.rules)


class _Pass:
    """The text on its way, and what has been done to it."""

    def __init__(self, given: str) -> None:
        self.given, self.text, self.fired = given, Aligned(given), list[Fired]()
        self._pauses: list[tuple[int, int, float]] = []  # where one stands in the text given, and its seconds

    def apply(self, name: str, edits: list[Edit]) -> None:
        if edits:
            for first, last, new in edits:
                start, end = self.text.span(first, last)
                self.fired.append(Fired(name, start, end, new.replace(PAUSE, "[pause]"), self.given))
            self.text = self.text.edit(edits)

    def mark_pauses(self) -> None:
        """Marks of pauses -> PAUSE; their lengths are remembered."""
        for mark in PAUSE_FORM.finditer(self.text.text):
            self._pauses.append((*self.text.span(mark.start(), mark.end()), seconds(mark)))
        self.apply("pause", self.text.edits(PAUSE_FORM, lambda m: PAUSE))

    def pauses(self) -> Aligned:
        """The text with its pauses in their one form, each as long as the mark it comes from."""
        left = sorted(self._pauses, key=lambda one: one[:2])

        def form(m: re.Match[str]) -> str:
            start, end = self.text.span(m.start(), m.end())
            found = next((i for i, one in enumerate(left) if start <= one[0] and one[1] <= end), None)
            return f"[pause {round(left.pop(found)[2], 3) if found is not None else 0.5:g}]"

        return self.text.edit(self.text.edits(PRIVATE, form))

    def run(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            if stage.concerns(self.text.text):
                for each in stage.rules:
                    self.apply(each.name, self.text.edits(each.pattern, each.replace))
                if not stage.rules:
                    self.apply("line", markup.line_edits(self.text.text))


class Passage(NamedTuple):
    """A block of a text as it is said. start: where it stands in the text; joint: what stands before it when said."""

    start: int
    joint: str
    spoken: Spoken


class Normaliser:
    """The rules with their options: text -> what is said, block by block, each when it is asked for.

    `lexicon`: word -> respelling; `day_first`: 1/2/2026 is the first of February. `lenient`: letters that cannot be
    said are left out.
    """

    def __init__(
        self, *, day_first: bool = False, lexicon: Mapping[str, str] | None = None, lenient: bool = False
    ) -> None:
        self._stages, self._respelling, self._lenient = stages(day_first), Respelling(lexicon or {}), lenient
        # which blocks a first look cannot clear: any, if a respelling may bring in what the text does not have
        self._any = any(BEYOND.search(new) or set(new) & set("[&") for new in (lexicon or {}).values())

    def block(self, text: str) -> Spoken:
        """A block by itself, what cannot be said left out. The rules are passed over it until nothing changes."""
        work = _Pass(text)
        work.apply("lexicon", self._respelling.edits(work.text))
        work.apply("private use", work.text.edits(PRIVATE, lambda m: ""))
        dropped = ""
        for _ in range(PASSES):
            before = work.text.text
            work.mark_pauses()
            work.run(self._stages)
            dropped += "".join(UNSAYABLE.findall(work.text.text))
            work.apply("left out", work.text.edits(UNSAYABLE, lambda m: " "))
            work.run(self._stages[-1:])
            work.apply("blanks at the ends", work.text.edits(EDGES, lambda m: ""))
            if work.text.text == before:
                break
        done = work.pauses()
        return Spoken(done.text, done.starts, done.ends, tuple(work.fired), dropped)

    def read(self, text: str) -> tuple[Iterator[Passage], str]:
        """A text -> (its passages, one by one; the first letters that are left out).

        UsageError, before any passage: letters that cannot be said (unless `lenient`), nothing to say, a pause that is
        too long. Passages without text are among them, for what was left out there.
        """
        left_out = self._left_out(text)
        passages = self._passages(text)
        begun: list[Passage] = []
        for passage in passages:
            begun.append(passage)
            if SPEAKABLE.search(passage.spoken.text):
                return chain(begun, passages), left_out
        raise NothingToSay(_nothing(text, "".join(passage.spoken.dropped for passage in begun)))

    def _passages(self, text: str) -> Iterator[Passage]:
        joint, begun, last, ended = "", False, "", 0
        for block in blocks(text):
            spoken = self.block(text[block.start : block.end])
            joint = (joint if joint == PARAGRAPH else block.joint) if begun else ""
            if joint == " " and CLAUSE_END.search(text, max(ended - 2, 0), ended) and last[-1:].isalpha():
                joint = ", "  # the block before was cut at a comma, which no block ends with
            yield Passage(block.start, joint, spoken)
            if spoken.text:
                joint, begun, last = "", True, spoken.text
            ended = block.end

    def _left_out(self, text: str) -> str:
        """The first letters that cannot be said. UsageError, unless `lenient`, naming those of the whole text."""
        odd = ""
        if not self._any and not doubtful(text):
            return odd
        for block in blocks(text):
            if len(odd) >= TOLD if self._lenient else len(set(odd)) > NAMED:
                break
            part = text[block.start : block.end]
            if self._any or (doubtful(part) and doubtful(self._respelt(part)) and not self._known(part, odd)):
                odd += self.block(part).dropped
        if odd and not self._lenient:
            raise UsageError(_cannot(odd))
        return odd

    def _respelt(self, part: str) -> str:
        aligned = Aligned(part)
        return aligned.edit(self._respelling.edits(aligned)).text

    def _known(self, part: str, odd: str) -> bool:
        """Would nothing new be found in it, for the error?"""
        return bool(odd) and not self._lenient and "&" not in part and set(BEYOND.findall(part)) <= set(odd)


def normalise(
    text: str, *, day_first: bool = False, lexicon: Mapping[str, str] | None = None, lenient: bool = False
) -> Spoken:
    """English text -> what is said. `lexicon`: word -> respelling; `day_first`: 1/2/2026 is the first of February.

    A text is what its blocks are (text/blocks.py); normalising twice is normalising once. UsageError: letters that
    cannot be said (left out, and in `dropped`, if `lenient`), or nothing to say.
    """
    if not isinstance(text, str):
        raise UsageError(f"a text must be a str, not {type(text).__name__}")
    said: list[str] = []
    starts, ends = array("q"), array("q")
    fired: list[Fired] = []
    dropped: list[str] = []
    passages, _ = Normaliser(day_first=day_first, lexicon=lexicon, lenient=lenient).read(text)
    for start, joint, spoken in passages:
        fired += (replace(f, start=f.start + start, end=f.end + start, given=text) for f in spoken.fired)
        dropped.append(spoken.dropped)
        if spoken.text:
            last = ends[-1] if ends else 0
            said += joint, spoken.text
            starts.extend([last] * len(joint))
            ends.extend([start] * len(joint))
            starts.extend(start + i for i in spoken.starts)
            ends.extend(start + i for i in spoken.ends)
    return Spoken("".join(said), starts, ends, tuple(fired), "".join(dropped))


def as_given(text: str) -> Iterator[Passage]:
    """The passages of a text that is not to be normalised."""
    for block in blocks(text):
        part = text[block.start : block.end]
        yield Passage(block.start, block.joint, Spoken(part, range(len(part)), range(1, len(part) + 1), (), ""))


def _cannot(odd: str) -> str:
    return (
        f"the text has characters that cannot be said in English: {named(odd)}; leave them out with --lenient "
        "(lenient=True), or give their words a respelling in a --lexicon file (lexicon=)"
    )


def _nothing(text: str, dropped: str) -> str:
    shown = ascii(text if len(text) <= 40 else text[:37] + "...")
    left = f" (left out: {named(dropped)})" if dropped else ""
    return f"the text has nothing to say: {shown}{left}; give it at least one word"
