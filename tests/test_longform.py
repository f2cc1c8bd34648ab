"""Texts of any length: the same samples whole, streamed and in a batch; joints, pauses, spans, tries."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import ARCHS, on_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

import sopro_np
from sopro_np.cli.main import main
from sopro_np.errors import SoproError, SoproWarning
from sopro_np.guard import derived_seed
from sopro_np.joints import MOST_GAIN, Fade, fade_curve, level_of, matching_gain

TEXT = (
    "Hello there, all of you. I have 3 cats and 12 dogs at home.\n\n"
    "It is late [pause 0.4] and then we go home. Bye now, my friend."
)
SHORT: dict[str, Any] = {"max_frames": 9, "seed": 4}


@on_kernels
@pytest.mark.parametrize("arch", ARCHS)
def test_whole_streamed_and_batched_are_the_same_samples(arch: str) -> None:
    tts, voice = tiny.model(arch), tiny.voice(arch)
    speech = tts.speak(TEXT, voice, **SHORT)
    assert len(speech.sentences) == 5 and isinstance(speech.codes, list) and len(speech.codes) == 5
    assert speech.frames == sum(len(codes) for codes in speech.codes)
    for size in (1, 4, 50):
        chunks = list(tts.stream(TEXT, voice, chunk_frames=size, **SHORT))
        assert np.concatenate(chunks).tobytes() == speech.wav.tobytes()
    batch = tts.batch(3)
    jobs = [batch.add(text, voice, keep=keep, **SHORT) for text, keep in ((TEXT, True), ("No.", True), (TEXT, False))]
    heard: dict[Any, list[np.ndarray]] = {job: [] for job in jobs}
    while len(batch):
        for job, wav in batch.step():
            heard[job].append(wav)
    for job in (jobs[0], jobs[2]):
        assert np.concatenate(heard[job]).tobytes() == speech.wav.tobytes()
    assert jobs[0].speech.wav.tobytes() == speech.wav.tobytes()
    assert not len(jobs[2].speech.wav) and not jobs[2].speech.codes and jobs[2].speech.sentences == speech.sentences


@on_kernels
def test_a_text_is_its_sentences() -> None:
    """Each with its own seed, at its place, faded, at one gain; silence between them in whole frames."""
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    rate, hop = tts.sample_rate, tts.mimi.config.hop
    speech = tts.speak(TEXT, voice, guard=False, **SHORT)
    expected = ["Hello there, all of you.", "I have three cats and twelve dogs at home."]
    expected += ["It is late.", "and then we go home.", "Bye now, my friend."]
    assert [s.text for s in speech.sentences] == expected
    silences, at, first = [0.0, 0.24, 0.64, 0.4, 0.24], 0, 0.0
    for position, (s, silence) in enumerate(zip(speech.sentences, silences, strict=True)):
        frames = round(silence * rate / hop)
        assert not speech.wav[at : at + frames * hop].any()
        at += frames * hop
        assert s.start == pytest.approx(at / rate)
        assert s.seed == derived_seed(4, position, 0)
        own = tiny.faded(tts.decode(tts.codes(s.text, voice, max_frames=9, seed=s.seed)), rate)
        whole = np.clip(tts.decode(speech.codes[position]), -1, 1)
        first = first or level_of(whole, hop)
        gain = np.float32(1) if not position else matching_gain(level_of(whole, hop), first)
        assert np.array_equal(speech.wav[at : at + len(own)], np.clip(own * gain, -1, 1))
        at += len(own)
        assert s.end == pytest.approx(at / rate)
    assert at == len(speech.wav)


def test_spans_lie_in_the_text_that_was_given() -> None:
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    speech = tts.speak(TEXT, voice, **SHORT)
    spans = [s.span for s in speech.sentences]
    assert [TEXT[a:b] for a, b in spans][:2] == ["Hello there, all of you.", "I have 3 cats and 12 dogs at home."]
    assert all(a < b for a, b in spans) and all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    words = "".join(TEXT[a:b] for a, b in spans).replace(" ", "")
    assert words == TEXT.replace("[pause 0.4]", "").replace(" ", "").replace("\n", "")


@given(st.lists(st.integers(1, 3000), max_size=6), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_fades_do_not_depend_on_chunks(sizes: list[int], seed: int) -> None:
    wav = np.random.default_rng(seed).uniform(-1, 1, sum(sizes)).astype(np.float32)
    fade, parts, at = Fade(24000), [np.zeros(0, np.float32)], 0
    for size in sizes:
        parts.append(fade.push(wav[at : at + size]))
        at += size
    out = np.concatenate([*parts, fade.end()])
    assert out.tobytes() == tiny.faded(wav).tobytes()
    assert np.abs(out[:24]).max(initial=0) < 0.01 and np.abs(out[-24:]).max(initial=0) < 0.01


def test_a_fade_is_a_raised_cosine() -> None:
    for rate in (60, 8000, 16000, 24000, 48000):
        curve = fade_curve(rate)
        n = len(curve)
        assert n == max(1, round(0.016 * rate))
        np.testing.assert_allclose(curve, 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n), atol=1e-7)


@given(st.floats(0, 1e15), st.floats(0, 1e15))
def test_gains_are_within_three_decibels(power: float, wanted: float) -> None:
    gain = float(matching_gain(power, wanted))
    assert 1 / MOST_GAIN * (1 - 1e-6) <= gain <= MOST_GAIN * (1 + 1e-6)
    if power and wanted and 0.51 < wanted / power < 1.9:
        assert gain**2 * power == pytest.approx(wanted, rel=1e-5)


@on_kernels
def test_a_word_without_a_full_stop_ends() -> None:
    """What ran for 32 s: it is finished, judged, and cut at its budget at the worst."""
    with sopro_np.load() as tts, warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)
        for text in ("Sopro", "Hello", "a"):
            for seed in range(3):
                speech = tts.speak(text, seed=seed)
                assert 0 < speech.frames <= 60, (text, seed)
                assert speech.finish_reason in ("stop", "cut") and (speech.finish_reason == "stop" or speech.check)


def test_a_sentence_that_fails_is_tried_again_and_told() -> None:
    """A model that never ends: three tries, each with its own seed, then a cut at the budget, and a warning."""
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    endless: dict[str, Any] = {"stop_threshold": 2.0, "seed": 1}
    with pytest.warns(SoproWarning, match="sentence 1"):
        speech = tts.speak("Hi.", voice, **endless)
    (only,) = speech.sentences
    assert only.tries == 3 and only.problem and speech.finish_reason == "cut" and len(speech.check) == 1
    assert only.seed in [derived_seed(1, 0, attempt) for attempt in range(3)]
    with pytest.warns(SoproWarning):
        assert tts.speak("Hi.", voice, retries=0, **endless).sentences[0].tries == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", SoproWarning)
        assert tts.speak("Hi.", voice, guard=False, max_frames=70, **endless).frames >= 70
        assert tts.speak("Hi.", voice, max_frames=10, **endless).finish_reason == "length"


@given(st.text(max_size=400))
@settings(max_examples=25, deadline=None)
def test_any_text_is_speech_or_a_clear_error(text: str) -> None:
    tts, voice = tiny.model("v1"), tiny.voice("v1")
    try:
        speech = tts.speak(text, voice, max_frames=3, seed=1)
    except SoproError as error:
        assert str(error)
    else:
        assert speech.frames <= 3 * len(speech.sentences)


def test_subtitles_and_the_strict_check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Times are those of the audio, lines those of the text; exit code 1 only where it was asked for."""
    voice = tmp_path / "v.voice.safetensors"
    tiny.voice("v1").save(voice)
    names = {kind: tmp_path / f"x.{kind}" for kind in ("srt", "vtt", "json")}
    say = [
        "say",
        TEXT,
        "--model",
        str(tiny.model_file("v1")),
        "--voice",
        str(voice),
        "-o",
        str(tmp_path / "x.wav"),
        "-q",
    ]
    say += [word for kind, path in names.items() for word in (f"--{kind}", str(path))]
    assert main([*say, "--seed", "4", "--max-frames", "9", "--strict-check"]) == 0
    speech = tiny.model("v1").speak(TEXT, tiny.voice("v1"), **SHORT)
    found = json.loads(names["json"].read_text())
    assert found["seed"] == "4" and [s["start"] for s in found["sentences"]] == [s.start for s in speech.sentences]
    assert [s["seed"] for s in found["sentences"]] == [str(s.seed) for s in speech.sentences], "no double rounds them"
    cues = re.findall(r"(\d\d):(\d\d):(\d\d)[,.](\d{3}) --> ", names["srt"].read_text())
    assert cues == re.findall(r"(\d\d):(\d\d):(\d\d)[,.](\d{3}) --> ", names["vtt"].read_text())
    times = [int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in cues]
    assert times == pytest.approx([s.start for s in speech.sentences], abs=1e-3)
    assert "I have 3 cats and 12 dogs at home." in names["srt"].read_text()
    assert names["vtt"].read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    endless = ["--stop-threshold", "2", "--seed", "1", "--retries", "0"]
    assert main([*say, *endless]) == 0 and main([*say, *endless, "--strict-check"]) == 1
    capfd.readouterr()
