"""Text that arrives piece by piece: the same sentences however it is cut, nothing lost, each as early as it can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.text import growing
from sopro_np.text.growing import Growing

TEXTS = st.lists(
    st.sampled_from(
        ["Hi", "ten", "Dr", "e.g", ".", "...", "!", "?", '"', ")", " ", "  ", "\n", "\n\n", "\u2003", "3", "é"]
    )
).map("".join)


def sentences(pieces: list[str]) -> list[str]:
    reader = Growing()
    return [s for piece in pieces for s in reader.push(piece)] + list(reader.end())


@given(st.lists(TEXTS | st.text(max_size=5)), st.integers(1, 40))
def test_the_same_however_it_is_cut(pieces: list[str], longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "LONGEST", longest)
        whole = sentences(["".join(pieces)])
        assert sentences(pieces) == sentences(list("".join(pieces))) == whole
        assert "".join("".join(whole).split()) == "".join("".join(pieces).split()), "nothing is lost"
        assert all(0 < len(s) <= longest and s == s.strip() for s in whole)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello. World", ["Hello.", "World"]),
        ('Dr. Who is 3.5 m tall. He said "No." Twice', ["Dr. Who is 3.5 m tall.", 'He said "No."', "Twice"]),
        ("It goes on, e.g. here. approx. ten. Yes!\nno", ["It goes on, e.g. here. approx. ten.", "Yes!", "no"]),
        ("a title\n\nIts text", ["a title", "Its text"]),
        ("one line\nbroken", ["one line\nbroken"]),
        (" \n\n \n", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences([text]) == expected


def test_as_early_as_it_can_be() -> None:
    reader = Growing()
    assert list(reader.push("One.")) == list(reader.push(" ")) == []
    assert list(reader.push("T")) == ["One."]
    assert list(reader.push("wo.\n")) == ["Two."], "the end of a line is the end"


def test_a_long_run_is_read_once() -> None:
    reader = Growing()
    for _ in range(60_000):
        assert not any(reader.push("a"))
        if len(reader._text) > 2:
            assert reader._from >= len(reader._text) - 1
        if len(reader._text) == growing.LONGEST - 1:
            break
    assert [len(s) for s in reader.push("ab")] == [growing.LONGEST]
