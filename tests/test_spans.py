"""Where the sentences of a text stand in it: in order, and every word that is said in one of them."""

from __future__ import annotations

import warnings
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sopro_np.errors import SoproWarning, UsageError
from sopro_np.options import Options
from sopro_np.script import sentences
from sopro_np.text.split import Piece

WORDS = st.sampled_from(
    [
        "bird",
        "Isle.",
        "and,",
        "“so”",
        "(we)",
        "on!",
        "[pause 1]",
        "\n\n",
        "-",
        "*",
        "Dr.",
        "$3.50",
        "1234567",
        "NASA",
        "don't",
    ]
)
PLAIN = st.sampled_from(["bird", "isle.", "and,", "went;", "on!", "Why?", "\n\n", "[pause 1]", "—"])


def pieces(text: str) -> list[Piece]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        return [piece for piece in sentences(text, Options(lenient=True), lambda s: len(s) <= 40) if piece.text]


@given(st.lists(WORDS, max_size=60).map(" ".join) | st.text(max_size=200))
def test_spans_are_in_order_and_inside_the_text(text: str) -> None:
    try:
        found = pieces(text)
    except UsageError:
        return
    assert all(0 <= p.start < p.end <= len(text) for p in found)
    for one, other in pairwise(found):
        assert one.start <= other.start and one.end <= other.end


@given(st.lists(PLAIN, max_size=60).map(" ".join))
def test_every_letter_of_plain_words_is_in_exactly_one(text: str) -> None:
    try:
        found = pieces(text)
    except UsageError:
        return
    bare = text.replace("[pause 1]", "         ")
    for i in (i for i, c in enumerate(bare) if c.isalpha()):
        assert sum(p.start <= i < p.end for p in found) == 1
    for one, other in pairwise(found):
        assert one.end <= other.start
