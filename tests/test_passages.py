"""A long text is read block by block: the same as whole, refused before its first sound, in time by its length."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import assume, given
from hypothesis import strategies as st
from test_normalise import PIECES

import sopro_np.text.normalise as normalising
from sopro_np.cli.main import main
from sopro_np.errors import SoproWarning, UsageError
from sopro_np.options import Options
from sopro_np.script import FIRST, sentences
from sopro_np.text.blocks import MOST, blocks
from sopro_np.text.normalise import Normaliser, normalise
from sopro_np.text.sayable import doubtful
from sopro_np.text.split import Piece, split

ODD = st.sampled_from(
    [
        "日", "α", "β ", "λόγος", "ς", "Ω", "\u2126", "&alpha;", "&beta;", "&#26085;", "&eacute;", "&zwj;", "ø", "①",
        "℃", "•", "ﬃ", "∂", "¶", "[pause 99]", "[pause\n", "<!--", "-->", "<h1>", "<b\n>", "µ", "ϑ", "ά",
    ]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, ODD), max_size=30).map("".join) | st.lists(st.one_of(PIECES, ODD)).map(" ".join)
PARAGRAPHS = st.lists(st.lists(PIECES, max_size=12).map(" ".join), max_size=8)
BOOK = "It is said that 3 of them came. They stayed, Dr. Smith says, until 5pm on May 3.\n\n" * 3000


# ---------------------------------------------------------------- blocks


@given(TEXTS | st.text(max_size=300), st.integers(1, 40), st.integers(2, 80))
def test_blocks_hold_a_text(text: str, least: int, most: int) -> None:
    at = 0
    for block in blocks(text, least, most):
        part = text[block.start : block.end]
        assert part and part == part.strip() and not text[at : block.start].strip()
        assert (block.joint == "") == (at == 0) and block.joint in ("", " ", "\n\n")
        assert len(part) <= most or "<" in part or "[" in part
        at = block.end
    assert not text[at:].strip()


@given(PARAGRAPHS)
def test_a_paragraph_is_normalised_by_itself(paragraphs: list[str]) -> None:
    """No rule looks across a blank line; where one does (a tag, a comment), the blocks hold it together."""
    normaliser, text = Normaliser(lenient=True), "\n\n".join(paragraphs)
    try:
        whole = normaliser.block(text)
        parts = [normaliser.block(text[b.start : b.end]) for b in blocks(text, least=1)]
    except UsageError:
        return  # a pause that is too long
    assert "\n\n".join(part.text for part in parts if part.text) == whole.text


@pytest.mark.parametrize(
    "text",
    [
        "Hi there, <!-- one\n\ntwo --> you.",
        "<h1>The\n\nnews</h1>All is well.",
        "A <b\n\nclass='x'>dog</b>.",
        "So [pause\n\n2] it is.",
        "<script>x\n\ny</script>Go on.",
    ],
)
def test_what_is_one_thing_is_not_cut(text: str) -> None:
    assert len(list(blocks(text, least=1))) == 1
    assert len(list(blocks(f"One.\n\n{text}\n\nTwo.", least=1, most=12))) >= 3
    assert f"One.\n\n{normalise(text).text}\n\nTwo." == normalise(f"One.\n\n{text}\n\nTwo.").text


def test_long_paragraphs_are_cut_at_items_sentences_blanks() -> None:
    items = "".join(f"- item {i}\n" for i in range(600))
    assert normalise(items).text == "\n\n".join(f"item {normalise(str(i)).text}." for i in range(600))
    sentence = "Prof. Smith paid $5 to Dr. Jones, e.g. on May 3, he said. "
    once = normalise(sentence).text
    assert normalise(sentence * 200).text == " ".join([once] * 200)
    assert normalise("word " * 5000).text == " ".join(["word"] * 5000)
    assert all(b.end - b.start <= MOST for b in blocks("a" * 50_000))


# ---------------------------------------------------------------- sentences


def whole(text: str, options: Options) -> list[Piece]:
    """Sentences the plain way: all of the text is normalised, then all of it is split."""
    spoken = normalise(text, day_first=options.day_first, lexicon=options.lexicon, lenient=options.lenient)
    found = split(spoken.text, lambda s: len(s) <= 72, options.pause, options.paragraph_pause, first=FIRST)
    return [Piece(p.text, *(spoken.span(p.start, p.end) if p.text else (len(text), len(text))), p.pause) for p in found]


def lazily(text: str, options: Options) -> list[Piece]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        return list(sentences(text, options, lambda s: len(s) <= 72))


@given(st.lists(TEXTS, max_size=12).map("\n\n".join), st.booleans(), st.booleans(), st.booleans())
def test_lazily_is_whole(text: str, day_first: bool, lenient: bool, respelt: bool) -> None:
    options = Options(
        day_first=day_first, lenient=lenient, lexicon={"日": "day α", "may": "[pause 2]"} if respelt else None
    )
    assume(text.strip())
    try:
        expected = whole(text, options)
    except UsageError as error:
        with pytest.raises(UsageError) as found:
            sentences(text, options, lambda s: len(s) <= 72)  # before the first sentence is asked for
        assert str(found.value) == str(error)
    else:
        assert lazily(text, options) == expected


@given(st.lists(st.text("ab .,!?\n[pause1]", max_size=200), max_size=8).map("\n\n".join))
def test_as_it_is_too(text: str) -> None:
    assume(text.strip())
    options = Options(normalise=False)
    found = list(sentences(text, options, lambda s: len(s) <= 72))
    expected = split(text, lambda s: len(s) <= 72, options.pause, options.paragraph_pause, first=FIRST)
    assert found == list(expected)


# ---------------------------------------------------------------- what cannot be said


@given(TEXTS)
def test_a_text_without_doubt_is_said(text: str) -> None:
    """The first look is never wrong when it says no; and it is not always yes."""
    assert not doubtful("It's 5 °C, α is 1.5 – so “they” say… <b>naïve</b> &mdash; [pause 60]")
    if not doubtful(text):
        assert not Normaliser().block(text).dropped


class Count:
    """How many characters the rules were tried on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters, block = 0, Normaliser.block

        def counted(own: Normaliser, text: str) -> Any:
            self.characters += len(text)
            return block(own, text)

        monkeypatch.setattr(normalising.Normaliser, "block", counted)


def test_only_what_is_needed_is_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    count, pieces = Count(monkeypatch), sentences(BOOK, Options(), lambda s: len(s) <= 72)
    assert next(pieces).text == "It is said that three of them came."
    assert count.characters <= 1000
    for _ in range(100):
        next(pieces)
    assert count.characters <= 10_000


@pytest.mark.parametrize("end", ["Say 日.", "[pause 61]", "This is αβ.", "A &#26085;."])
def test_what_cannot_be_said_is_an_error_before_any_sound(
    end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tts, voice, count, text = tiny.model("v1"), tiny.voice("v1"), Count(monkeypatch), BOOK + end
    for say in (tts.speak, tts.synthesize, tts.stream, tts.batch(1).add):
        with pytest.raises(UsageError, match=r"U\+|at most 60"):
            say(text, voice)
    assert count.characters <= 4 * 1000
    own = tmp_path / "v.voice.safetensors"
    voice.save(own)
    (tmp_path / "text").write_text(BOOK[:50_000] + end)
    args = ["--model", str(tiny.model_file("v1")), "--voice", str(own), "-o", str(tmp_path / "x.wav"), "-q"]
    assert main(["say", BOOK[:50_000] + end, *args]) == 2
    assert "sopro-np: " in capsys.readouterr().err and not (tmp_path / "x.wav").exists()


def test_the_error_names_what_the_whole_text_has() -> None:
    text = BOOK.join(["日", "日", "本", "日", "本", "語"])
    with pytest.raises(UsageError, match=r"'日' \(U\+65E5\), '本' \(U\+672C\), '語' \(U\+8A9E\); leave"):
        sentences(text, Options(), lambda s: True)
    with pytest.warns(SoproWarning, match="cannot be said: '日日本日本語'"):
        sentences(text, Options(lenient=True), lambda s: True)


@pytest.mark.parametrize("nothing", ["😀 ", "***\n\n", "[pause 1]\n\n", ". "])
def test_nothing_to_say_is_an_error_before_any_sound(nothing: str) -> None:
    with pytest.raises(UsageError, match="nothing to say"):
        sentences(nothing * 2000, Options(), lambda s: True)
    assert next(sentences(nothing * 2000 + "\n\nyes", Options(), lambda s: True)).text.startswith("yes")


# ---------------------------------------------------------------- time and memory


@pytest.mark.parametrize(
    "piece",
    [
        "½", "1/2 ", "a.b.c.", "((((", "www.", "#", "<", "&", "`", "\n", "I.V.", "A. Bc ", "* ", "> ", "=\n", "%", "°",
        "℃", "[a](", "<!--", "<h1>", "<script>", "~~a", "1-", "x=", "3 x 4 ", "May 5, ", "27\" ", "e.g. ", "—", "# a\n",
        "1. a\n", "| a ", "é", "日", "αβ", "α ", "[pause", "[pause 1]", "1.1.1.", "2^", "x²", "XIV ", "FBI ", "aB",
        "a_", "5km ", "..", ", ", "ab-\n", "http://a", "+44 20 ", "&amp;", "1st", "3:00-", "&lt;", "a \n\n", "( ", ") ",
    ],
)  # fmt: skip
def test_hostile_runs_take_time_in_proportion(piece: str) -> None:
    """Nothing is quadratic: with so much in one block the test's own time limit would stop it."""
    spoken = Normaliser(lenient=True).block(piece * (8_000 // len(piece)) + " yes")
    assert spoken.text.endswith(("yes", "yes."))
    assert all(b.end - b.start <= MOST + 8 for b in blocks(piece * (100_000 // len(piece))))


def test_memory_does_not_grow_with_the_text() -> None:
    def peak(text: str) -> int:
        pieces = sentences(text, Options(), lambda s: len(s) <= 72)
        tracemalloc.start()
        try:
            assert sum(1 for _ in pieces) > 100
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short = peak(BOOK[:8000])
    assert peak(BOOK[:30_000]) < short + 100_000
