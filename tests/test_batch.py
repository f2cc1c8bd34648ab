"""Several utterances in step say, each, what they say alone; and the AR's weights are read once for all of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny as models
from conftest import ARCHS, Tiny, by_each, on_kernels
from hypothesis import given
from hypothesis import strategies as st

from sopro_np import ops
from sopro_np.batch import TOGETHER, advance_together
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import ModelError, UsageError
from sopro_np.options import Options
from sopro_np.session import Session
from sopro_np.voice import Voice

MODELS = pytest.mark.parametrize(("arch", "recipe"), list(itertools.product(ARCHS, ("fp32", "int8"))))
TEXTS = ("Hello there.", "A longer text, which goes on for a while before it is over.", "No.")
# Under these the first of the three ends early, at a step that depends on what was said.
EARLY = {
    "v1": {"seed": 1, "stop_threshold": 0.3, "stop_patience": 1, "min_gen_frames": 3},
    "v1.5": {"seed": 6, "temperature": 2.0, "top_k": 0, "top_p": None},
}
SHORT = (1, 3)  # frames of reference: less than the AR looks back, so that the first steps are taken alone


@functools.cache
def loaded(arch: str, recipe: str, name: str = "native", threads: int = 1) -> Sopro:
    return open_model(models.model_file(arch, recipe, seed=5), threads, name)


@functools.cache
def voices(arch: str, recipe: str) -> tuple[Voice, ...]:
    """The usual one, and the SHORT ones. A voice belongs to a checkpoint, not to an implementation."""
    tts = models.model(arch, recipe, seed=5)
    shape = (max(SHORT), tts.model.config.codebooks)
    codes = np.random.default_rng(3).integers(0, tts.model.config.code_values, shape)
    return models.voice(arch, recipe, seed=5), *(tts.voice_from_codes(codes[:frames]) for frames in SHORT)


def all_codes(sessions: list[Session]) -> list[np.ndarray]:
    return [np.array([row for block in session.blocks() for row in block]) for session in sessions]


@on_kernels
@pytest.mark.parametrize("threads", [1, 2])
@MODELS
def test_bit_for_bit_as_one_by_one(arch: str, recipe: str, threads: int):
    tts, of = loaded(arch, recipe, "native", threads), voices(arch, recipe)
    options = {**EARLY[arch], "max_frames": 40}
    alone = [tts.synthesize(text, of[0], **options) for text in TEXTS]
    assert len(alone[0]) < len(alone[2]), "nobody ended early: choose other options"
    for count in (1, 2, 3):
        together = tts.synthesize_many(TEXTS[:count], of[0], **options)
        assert [wav.tobytes() for wav in together] == [wav.tobytes() for wav in alone[:count]]
    apart = [tts.synthesize(text, voice, **options) for text, voice in zip(TEXTS, of, strict=True)]
    together = tts.synthesize_many(iter(TEXTS), of, **options)
    assert [wav.tobytes() for wav in together] == [wav.tobytes() for wav in apart]


@MODELS
@given(
    utterances=st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(0, 2), st.integers(1, 14)), max_size=5),
    lookahead=st.sampled_from([None, 0, 5]),
    seed=st.integers(0, 99),
)
def test_any_lengths_and_voices(
    implementation: str,
    arch: str,
    recipe: str,
    utterances: list[tuple[str, int, int]],
    lookahead: int | None,
    seed: int,
):
    """Utterances come into the common step and leave it, in any order; `blocks` then gives the usual codes."""
    tts, of = loaded(arch, recipe, implementation), voices(arch, recipe)

    def sessions() -> list[Session]:
        return [
            tts.session(text, of[i], Options(max_frames=frames, lookahead=lookahead, seed=seed, chunk_frames=3))
            for text, i, frames in utterances
        ]

    alone, together = sessions(), sessions()
    expected = all_codes(alone)
    advance_together(together)
    assert [s.finish_reason for s in together] == [s.finish_reason for s in alone]
    for codes, wanted in zip(all_codes(together), expected, strict=True):
        assert np.array_equal(codes, wanted)


@by_each
@pytest.mark.parametrize("arch", ARCHS)
def test_weights_are_read_once_for_all(tiny: Callable[..., Tiny], arch: str, monkeypatch: pytest.MonkeyPatch):
    """As many products with the AR's head as the longest utterance has steps, of as many rows as still speak."""
    tts, voice = tiny(arch).tts, tiny(arch).voice
    head, rows = tts.model.ar.head.weight, []
    table = ops.TABLES[tts.ops]

    def counting(x, w, *rest, linear=table["linear"], **named):
        if w is head:
            rows.append(len(x))
        return linear(x, w, *rest, **named)

    monkeypatch.setitem(table, "linear", counting)
    monkeypatch.setitem(table, "capture", lambda function: function)  # nothing is replayed
    forever = {"min_gen_frames": 10**6, "stop_threshold": 2.0}  # max_frames end it
    sessions = [tts.session(TEXTS[0], voice, Options(max_frames=n, seed=1, **forever)) for n in (9, 20, 14)]
    advance_together(sessions)
    more = int(arch == "v1.5")  # an end code may come one frame later
    looks_back = more  # without a prefix, so does the first step, and is taken alone
    assert rows == [1, 1, 1] * looks_back + [3] * (9 + more - looks_back) + [2] * 5 + [1] * 6


def test_long_lists_go_in_groups(tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch):
    m, sizes = tiny("v1"), []

    def noting(sessions: list[Session]) -> None:
        sizes.append(len(sessions))
        advance_together(sessions)

    monkeypatch.setattr("sopro_np.engine.advance_together", noting)
    spoken = m.tts.synthesize_many(TEXTS[:1] * (TOGETHER + 3), m.voice, max_frames=2, seed=1)
    assert sizes == [TOGETHER, 3]
    assert len(spoken) == TOGETHER + 3


def test_broken_weights_are_named(tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch):
    m = tiny("v1")
    monkeypatch.setattr(type(m.tts.model.ar), "logits", lambda self, x, *rest: np.full((len(x), 64), np.nan))
    monkeypatch.setitem(ops.TABLES[m.tts.ops], "capture", lambda function: function)
    with pytest.raises(ModelError, match="NaN"):
        m.tts.synthesize_many(TEXTS, m.voice, max_frames=3)


@pytest.mark.parametrize(
    ("texts", "voice", "options", "message"),
    [
        (TEXTS, 2, {}, "3 texts and 2 voices"),
        ([], 1, {}, "0 texts and 1 voices"),
        ("Hello.", None, {}, "not one text"),
        (["Hello.", " "], None, {}, "empty"),
        (["Hello.", 5], None, {}, "empty"),
        (["Hello."], "me", {}, "voice"),
        (["Hello."], "m", {}, "must be a Voice"),
        (["Hello."], 5.0, {}, "must be a Voice"),
        (TEXTS, None, {"speed": 2}, "speed"),
    ],
)
def test_wrong_use(tiny: Callable[..., Tiny], texts: Any, voice: Any, options: dict[str, Any], message: str):
    m = tiny("v1")
    given = m.voice if voice is None else [m.voice] * voice if isinstance(voice, int) else voice
    with pytest.raises(UsageError, match=message):
        m.tts.synthesize_many(texts, given, **options)


def test_nothing_to_say(tiny: Callable[..., Tiny]):
    m = tiny("v1")
    assert m.tts.synthesize_many([], m.voice) == m.tts.synthesize_many((), []) == []
