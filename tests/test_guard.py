"""The guard: bounds from the length of a text, loops, tries, derived seeds."""

from __future__ import annotations

import hashlib

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.errors import FormatError
from sopro_np.guard import (
    GRACE_FRAMES,
    LOOP,
    LOOP_FRAMES,
    LOOP_TIMES,
    NO_END,
    TOO_SHORT,
    Guard,
    derived_seed,
    loop_length,
)
from sopro_np.pace import MOST_FRAMES, Pace

PACE = Pace.unmeasured(12.5)


@given(st.integers(1, 2000))
def test_bounds_are_ordered(n: int) -> None:
    assert 1 <= PACE.least(n) <= PACE.most(n) <= MOST_FRAMES
    assert PACE.least(n) <= PACE.least(n + 1) and PACE.most(n) <= PACE.most(n + 1)


def test_what_fits_can_be_said_slowly() -> None:
    """At a hundred words a minute the longest piece stays below the limit of a sentence."""
    assert PACE.expected(PACE.longest) <= MOST_FRAMES
    assert PACE.most(5) == 47  # "Hello": not 32 s any more


def oracle(codes: list[int]) -> int:
    """The longest tail with a period of at most 8, by its definition."""
    best = 0
    for period in range(1, 9):
        for length in range(max(LOOP_FRAMES, LOOP_TIMES * period), len(codes) + 1):
            tail = codes[len(codes) - length :]
            if tail[period:] == tail[:-period]:
                best = max(best, length)
    return best


@given(
    st.lists(st.integers(0, 3), max_size=20),
    st.lists(st.integers(0, 3), min_size=1, max_size=9),
    st.integers(0, 40),
    st.lists(st.integers(0, 3), max_size=2),
)
def test_loops(before: list[int], again: list[int], times: int, after: list[int]) -> None:
    codes = [*before, *(again * times)[:70], *after]
    assert (loop_length(codes) > 0) == (oracle(codes) > 0)


def test_seeds_are_the_published_function() -> None:
    assert derived_seed(7, 0, 0) == 7
    assert derived_seed(7, 2, 1) == int.from_bytes(hashlib.sha256(b"7/2/1").digest()[:8], "little")
    many = {derived_seed(s, p, t) for s in range(5) for p in range(5) for t in range(4)}
    assert len(many) == 5 * 5 * 4


def test_judging_and_the_best_try() -> None:
    guard = Guard(PACE, 40, seed=1)
    usual, seeds = list(range(50)), [guard.next_seed]
    assert guard.stops(usual) is None
    looped = [*range(30), *[5] * LOOP_FRAMES]
    assert guard.stops(looped) == LOOP
    first = guard.judge(looped, None)
    assert first.problem == LOOP and first.finish_reason == "cut" and len(first.codes) < 40
    seeds.append(guard.next_seed)
    assert guard.judge(usual[:2], "stop").problem == TOO_SHORT
    assert guard.best().problem == TOO_SHORT, "one with an end, rather than one that was cut"
    seeds.append(guard.next_seed)
    good = guard.judge(usual, "stop")
    assert good.problem is None and guard.best() is good
    assert seeds == [derived_seed(1, 0, attempt) for attempt in range(3)]


def test_no_end() -> None:
    guard = Guard(PACE, 5, seed=1)
    codes = [i % 97 for i in range(guard.most)]
    assert guard.stops(codes[:-1]) is None and guard.stops(codes) == NO_END
    assert guard.judge(codes, None).finish_reason == "cut"
    assert guard.judge(codes[:20], "length").problem is None, "the caller's own limit is no failure"


@given(st.integers(1, 300), st.integers(1, 100), st.lists(st.integers(0, 3), max_size=400))
def test_what_the_caller_forces_is_no_failure(forced: int, characters: int, codes: list[int]) -> None:
    guard, free = Guard(PACE, characters, seed=1, forced=forced), Guard(PACE, characters, seed=1)
    assert guard.most >= free.most
    for n in range(min(len(codes), forced + GRACE_FRAMES - 1) + 1):
        assert guard.stops(codes[:n]) in ((None,) if n <= forced else (None, LOOP)), "and there is time to end"
    if len(codes) >= guard.most:
        done = guard.judge(codes, None)
        assert done.problem and len(done.codes) > forced, "what was asked for is not cut"


def test_forced_frames_of_a_short_text() -> None:
    said = tiny.model("v1.5").speak("Hi.", tiny.voice("v1.5"), seed=1, min_gen_frames=120, max_frames=130)
    assert said.frames >= 120 and said.sentences[0].tries == 1
    assert not any(NO_END in what for what in said.check)


def test_a_model_file_may_say_how_fast_it_speaks() -> None:
    speech = {"start": 4.0, "each": 0.7, "low": 0.5, "high": 1.6, "longest": 72}
    pace = Pace.read(speech, 12.5)
    assert pace.longest == 72 and pace.most(50) == 63 and pace.least(50) == 17
    assert Pace.read(None, 12.5) == PACE


@pytest.mark.parametrize(
    "speech",
    [
        [],
        {},
        {"start": 1},
        {"start": 1, "each": 1, "low": 2, "high": 3, "longest": 10},
        {"start": 1, "each": "1", "low": 0.5, "high": 2, "longest": 10},
        {"start": float("nan"), "each": 1, "low": 0.5, "high": 2, "longest": 10},
        {"start": 1, "each": 1, "low": 0.5, "high": 2, "longest": 0},
    ],
)
def test_damaged_speech_metadata(speech: object) -> None:
    with pytest.raises(FormatError, match="speech"):
        Pace.read(speech, 12.5)
