"""What is measured of utterances and speakers, with the libraries replaced by stand-ins whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.evaluate import cepstra, quality, signals, world
from sopro_np.evaluate.judges import Judges
from sopro_np.evaluate.quality import Heard, Speaker, Utterance

RATE = 24000
NONE = np.zeros(0, np.float32)


def utterance(voice: str, group: int = 0, wav: np.ndarray = NONE, **measures: float) -> Utterance:
    return Utterance("one two", group, voice, 1, wav, len(wav) / RATE, "stop", measures=measures)


@given(st.lists(st.floats(60, 400), min_size=3, max_size=8, unique=True), st.floats(-1, 1), st.booleans())
def test_pitch_across_speakers(hertz: list[float], octaves: float, mirrored: bool) -> None:
    """Speech a fixed interval away from every recording follows it wholly; mirrored around a pitch, not at all."""
    speakers = {f"s{i}": Heard(None, hz) for i, hz in enumerate(hertz)}
    away = [2 * np.log2(200 / hz) if mirrored else octaves for hz in hertz]
    spoken = [utterance(f"s{i}", i, f0_offset_cents=1200 * x) for i, x in enumerate(away)]
    spread = np.ptp(np.log2(hertz))
    if spread > 1e-3:
        assert quality.pitch_across(spoken, speakers) == pytest.approx(-1 if mirrored else 1, abs=1e-6)
    assert np.isnan(quality.pitch_across(spoken[:2], dict(list(speakers.items())[:2])))


def test_speakers_are_heard_once_and_utterances_held_against_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording at 100 Hz, speech an octave above it, in the direction of its embedding or across it."""
    pitches, embedded = {1000: 100.0, 2000: 200.0, 3000: 100.0}, []
    d = cepstra.definition(RATE)

    def track(wav: np.ndarray, rate: int) -> np.ndarray:
        return np.array([0.0, pitches[len(wav)], pitches[len(wav)]])

    def embed(wav: np.ndarray, rate: int) -> np.ndarray:
        embedded.append(len(wav))
        return np.array([1.0, 0.0]) if len(wav) != 3000 else np.array([0.0, 1.0])

    monkeypatch.setattr(world, "pitch_track", track)
    monkeypatch.setattr(
        world, "analyse", lambda wav, rate: world.Analysis(track(wav, rate), np.zeros((3, d.order + 1)), d)
    )
    tools = Judges(embed=embed, world=True)  # type: ignore[arg-type]
    speaker = Speaker("me", None, np.ones(1000, np.float32))  # type: ignore[arg-type]
    own = quality.listen([speaker], RATE, tools)
    assert own == {"me": Heard(own["me"].embedding, 100.0)}
    for _ in range(2):  # two systems
        spoken = [utterance("me", i, np.ones(n, np.float32)) for i, n in enumerate((2000, 3000, 0))]
        quality.measure(spoken[:2], RATE, own, lambda u: None, tools, RATE)
        assert [u.measures["f0_offset_cents"] for u in spoken[:2]] == pytest.approx([1200, 0])
        assert [u.measures["similarity"] for u in spoken[:2]] == pytest.approx([1, 0])
    assert embedded.count(1000) == 1


@given(st.lists(st.floats(-20, 60), min_size=1, max_size=9), st.floats(0.1, 10))
def test_mean_db_is_of_the_noise(db: list[float], scale: float) -> None:
    """As many equal signals one after the other, each with its noise: the SNR of the whole."""
    noise = [10 ** (-x / 20) for x in db]
    signal = np.ones(len(db))
    assert signals.mean_db(np.array(db)) == pytest.approx(signals.snr(signal, signal + noise), abs=1e-6)
    weights = np.full(len(db), scale)
    assert signals.mean_db(np.array(db), weights) == pytest.approx(signals.mean_db(np.array(db)), abs=1e-6)
    assert signals.mean_db(np.array([*db, np.inf])) > signals.mean_db(np.array(db))
    assert signals.mean_db(np.array([np.inf, np.inf])) == np.inf


def test_what_a_recording_cannot_have_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides are brought to the recording's rate: above its half there would be a distance from nothing."""
    seen, d = [], world.definition(RATE)

    def analyse(wav: np.ndarray, rate: int) -> world.Analysis:
        seen.append((len(wav), rate))
        return world.Analysis(np.full(3, 100.0), np.zeros((3, d.order + 1)), d)

    monkeypatch.setattr(world, "analyse", analyse)
    spoken = [utterance("me", 0, np.ones(4000, np.float32))]
    recording = np.ones(2000, np.float32)
    quality.measure(spoken, RATE, {"me": Heard(None, 100.0)}, lambda u: recording, Judges(world=True), RATE // 2)
    assert seen == [(2000, RATE // 2), (1000, RATE // 2)]
    assert spoken[0].measures["mcd"] == 0
