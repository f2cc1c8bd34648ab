"""Text that arrives in pieces: the sentences of the whole text, each early; and spoken in parts, the same samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, on_kernels
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.errors import UsageError
from sopro_np.options import Options
from sopro_np.script import Part, fitting, sentences
from sopro_np.serve.settled import Settled
from sopro_np.text.split import Piece

PROSE = (Path(__file__).resolve().parents[1] / "sopro_np/evaluate/texts.txt").read_text("utf-8").splitlines()[1:]
ODD = [
    "Yes.", "No!", "Well...", "Dr. Smith came, e.g. today.", "It costs $1,234.56 or so.", 'He said "No." Twice.',
    "- item one\n- item two\n", "1. First\n2. Second\n", "# Title\n", "See https://example.com/x?y=1.", "[pause 0.5]",
    "Is it (really)?", "At 3:30pm.",
    "Or not. [pause 1.5 s]", "Done! \U0001f600", "\U0001f44d\U0001f3fd", "a title\n\n", "approx. ten",
]  # fmt: skip
SPACES = st.sampled_from([" ", " ", "  ", "\n", "\n\n", "\t"])
TEXTS = st.lists(st.tuples(st.sampled_from([line for line in PROSE if line] + ODD), SPACES), max_size=6).map(
    lambda parts: "".join(a + b for a, b in parts)
)
ANY = st.text(st.sampled_from("ab AB.!?,\n*`_#[]()1$'\"\U0001f600é-"), max_size=60)


def asked(text: str) -> Iterator[Piece]:
    return sentences(text, Options(), lambda sentence: len(sentence) <= 150)


def cut(data: st.DataObject, text: str) -> list[str]:
    spots = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *spots], [*spots, len(text)], strict=True)]


def settled(pieces: list[str], end: bool = True) -> list[Piece]:
    reader = Settled(asked)
    found = [piece for more in pieces for piece in reader.push(more)]
    found += reader.end() if end else []
    assert reader.position == sum(1 for piece in found if piece.text)
    return found


def test_a_pause_is_not_heard_as_words_while_half_of_it_is_there() -> None:
    text = "The bridge was closed. Or not. [pause 2.5s] The road was open, it seems. [pause]"
    for size in (1, 5, len(text)):
        assert settled([text[i : i + size] for i in range(0, len(text), size)]) == list(asked(text))


@given(TEXTS, st.data())
def test_prose_is_cut_as_the_whole_text(text: str, data: st.DataObject) -> None:
    try:
        whole = list(asked(text))
    except UsageError:
        with pytest.raises(UsageError):
            settled(cut(data, text))
        return
    assert settled(cut(data, text)) == whole


@given(TEXTS | ANY, st.data())
def test_any_text_is_cut_the_same_however_it_arrives(text: str, data: st.DataObject) -> None:
    """And what is given out before the end is what is given out with it."""
    whole = settled([text], end=False)
    assert settled(list(text), end=False) == settled(cut(data, text), end=False) == whole
    try:
        asked(text)
    except UsageError:
        return
    found = settled(list(text))
    assert found == settled([text])
    assert found[: len(whole)] == whole
    assert all(a.end <= b.start for a, b in itertools.pairwise(found)), "nothing is said twice"
    covered = {i for piece in found for i in range(piece.start, piece.end)}
    assert covered >= {i for piece in asked(text) for i in range(piece.start, piece.end)}, "nothing is lost"


def test_what_grows_together_later_is_not_said_again() -> None:
    last = " The road was open, it seems."
    for text, said in (
        ("The bridge was closed. Or [so](https://example.com/a/long/address)." + last, "The bridge was closed. Or so."),
        ("The bridge was closed. Or <script>no</script>." + last, "The bridge was closed. Or."),
    ):
        assert [piece.text for piece in asked(text)] == [said, last.strip()]
        assert " ".join(piece.text for piece in settled(list(text))) == said + last


def test_as_early_as_it_can_be() -> None:
    reader = Settled(asked)
    assert not reader.push("The bridge was closed. The road")
    assert [piece.text for piece in reader.push(" was not, it seems")] == ["The bridge was closed."]
    assert not reader.push(". Yes. And"), "a short one waits for its neighbour"
    assert [piece.text for piece in reader.push(" nobody knew of it. Nor did I know of it")] == [
        "The road was not, it seems. Yes.",
        "And nobody knew of it.",
    ]
    assert [piece.text for piece in reader.end()] == ["Nor did I know of it."]
    assert reader.position == 4


def test_what_cannot_be_said_is_an_error_at_the_end() -> None:
    reader = Settled(asked)
    assert (
        len(reader.push("The bridge was closed. The road was open. \u65e5\u672c\u8a9e is written here. So it is.")) == 1
    )
    with pytest.raises(UsageError):
        reader.end()


def test_the_work_stays_in_proportion() -> None:
    """However short its sentences are, a long text is looked at a number of times that grows with its logarithm."""
    asked_for = 0

    def count(text: str) -> Iterator[Piece]:
        nonlocal asked_for
        asked_for += len(text)
        return asked(text)

    text = "I see. You go now. " * 200
    reader = Settled(count)
    for letter in text:
        reader.push(letter)
    assert reader.end() or reader.position
    assert asked_for < 12 * len(text)


@on_kernels
@pytest.mark.parametrize("arch", ["v1", "v1.5"])
def test_parts_sound_like_the_whole(tiny: Callable[..., Tiny], arch: str) -> None:
    m = tiny(arch, "int8")
    options: dict[str, Any] = {"seed": 7, "max_frames": 12, "pause": 0.1}
    text = "One bridge was closed. Two roads were open. Three of them came.\n\nFour went home at night. [pause 0.3]"
    fits = fitting(m.tts._open.pace, m.tts.tokenizer.encode, len(m.tts.model.text.positions))
    pieces = list(sentences(text, Options.of(options), fits))
    whole = m.tts.speak(text, m.voice, **options)
    assert len(pieces) >= 5
    for spots in ([], [1], [1, 2, 3], [3], [len(pieces) - 1], list(range(1, len(pieces)))):
        wavs, said, level, position = [], [], 0.0, 0
        for a, b in zip([0, *spots], [*spots, len(pieces)], strict=True):
            speech = m.tts.speak(Part(tuple(pieces[a:b]), position, level), m.voice, **options)
            level = speech.level if a == 0 else level
            assert speech.level == level
            position += len(speech.sentences)
            wavs.append(speech.wav)
            said += [(s.text, s.span, s.seed) for s in speech.sentences]
        assert (np.concatenate(wavs) == whole.wav).all()
        assert said == [(s.text, s.span, s.seed) for s in whole.sentences]
