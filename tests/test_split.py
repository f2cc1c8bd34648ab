"""Segmentation: pieces fit, cover the text, and end where a reader would end them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.text.spell import cardinal
from sopro_np.text.split import Piece, finished, split

ANYTHING = st.text(st.sampled_from("abcdef ABC .,;:!?…—-\n\"'()0123456789ü"), max_size=300)


def pieces(text: str, most: int = 72, **more: float) -> list[Piece]:
    return list(split(text, lambda t: len(t) <= most, **more))  # type: ignore[arg-type]


def texts(text: str, most: int = 72) -> list[str]:
    return [p.text for p in pieces(text, most)]


@given(ANYTHING, st.integers(8, 90), st.one_of(st.none(), st.integers(10, 80)))
def test_pieces_fit_and_cover(text: str, most: int, first: int | None) -> None:
    found = list(split(text, lambda t: len(t) <= most, 0.2, 0.6, first))
    at = 0
    for piece in found:
        assert piece.start >= at and not text[at : piece.start].strip(), "nothing is left out"
        own = text[piece.start : piece.end]
        assert own and own == own.strip()
        assert piece.text == finished(own)
        assert len(piece.text) <= most
        at = piece.end
    assert not text[at:].strip()


@given(
    st.lists(
        st.sampled_from(["[pause 0.5]", "One more word. ", "\n\n", "and so on, for a while ", "Why? "]), max_size=12
    )
)
def test_pauses_are_as_asked(parts: list[str]) -> None:
    """The sum of all pauses: marks count in full; between other sentences the given ones."""
    text = "".join(parts)
    found = pieces(text, pause=0.0, paragraph_pause=0.0)
    assert sum(p.pause for p in found) == pytest.approx(0.5 * text.count("[pause"))
    assert not any("[pause" in p.text for p in found)
    assert all(p.text for p in found[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sopro", ["Sopro."]),
        ("I met Bob there. He left the place at once.", ["I met Bob there.", "He left the place at once."]),
        ('She asked him "Why is it?" and went on.', ['She asked him "Why is it?" and went on.']),
        ("He came to her. “Then we go together,” he said.", ["He came to her.", "“Then we go together,” he said."]),
        ("It costs 3.5 dollars at Dr. Smith's place.", ["It costs 3.5 dollars at Dr. Smith's place."]),
        ("J. R. Miller wrote it, e.g. in the evening.", ["J. R. Miller wrote it, e.g. in the evening."]),
        (
            "We read the whole of it... And then we slept well.",
            ["We read the whole of it...", "And then we slept well."],
        ),
        ("That is what we saw! No. Yes.", ["That is what we saw! No. Yes."]),
        ("one two three four five six seven", ["one two.", "three.", "four five.", "six seven."]),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", ["aaaaaaaaa.", "aaaaaaaaa.", "aaaaaa."]),
    ],
)
def test_examples(text: str, expected: list[str]) -> None:
    assert texts(text, 10 if text.startswith(("one", "aaa")) else 72) == expected


def test_pauses_between_sentences_and_paragraphs() -> None:
    text = "This is the first one. This is the second one.\n\nAnd a new paragraph [pause 1.5] goes on. [pause 2]"
    found = pieces(text, pause=0.2, paragraph_pause=0.6)
    assert [(p.text, p.pause) for p in found] == [
        ("This is the first one.", 0.0),
        ("This is the second one.", 0.2),
        ("And a new paragraph.", 0.6),
        ("goes on.", 1.5),
        ("", 2.0),
    ]


def test_parts_of_a_sentence_follow_without_a_pause() -> None:
    found = pieces("This goes on, and on, and on, and after that it comes to its end at last.", 40, pause=0.5)
    assert len(found) == 3 and not any(p.pause for p in found)


def test_a_long_first_sentence_begins_with_its_first_clause() -> None:
    text = "After a while, when nobody thought of it any more, it came back to them. It stayed there, as it seemed."
    found = [p.text for p in split(text, lambda t: len(t) <= 200, first=40)]
    assert found == [
        "After a while.",
        "when nobody thought of it any more, it came back to them.",
        "It stayed there, as it seemed.",
    ]


def test_long_texts_take_linear_time() -> None:
    for text in ("a" * 200_000, "word " * 40_000, "a, " * 60_000, "." * 100_000, "! " * 60_000, "\n" * 100_000):
        assert sum(1 for _ in split(text, lambda t: len(t) <= 72)) >= (0 if not text.strip() else 1)


@given(st.lists(st.one_of(st.sampled_from(["birds", "and", "of the", "isles"]), st.integers(0, 10**6)), max_size=20))
def test_a_number_that_fits_is_not_cut(parts: list[str | int]) -> None:
    words = ["birds"]
    for part in parts:  # no two numbers beside each other
        words += [part] if isinstance(part, str) else [cardinal(part), "of them"]
    found = texts(" ".join(words))
    for number in (cardinal(part) for part in parts if isinstance(part, int) and len(cardinal(part)) < 72):
        assert any(number in piece for piece in found)


def test_a_number_that_does_not_fit_is_cut_at_its_millions() -> None:
    number = cardinal(777_777_777_777)
    assert texts(number)[0].endswith(("billion.", "million.", "thousand."))
