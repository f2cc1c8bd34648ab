"""Does it speak well? Sampled speech of many texts and seeds, each utterance measured on its own, then means with
confidence intervals. Nothing here is teacher-forced: how far one model is from another one says fidelity.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sopro_np.engine import Sopro
from sopro_np.evaluate import failures, pitch, recogniser, speaker, words, world
from sopro_np.evaluate.bootstrap import interval
from sopro_np.evaluate.cepstra import definition
from sopro_np.evaluate.libraries import MissingLibrary, library
from sopro_np.evaluate.texts import Text, spoken_form
from sopro_np.hearing import resample
from sopro_np.voice import Voice

MEASURES = {  # name -> (unit, what it says); in the order of tables
    "wer": ("%", "word error rate"),
    "cer": ("%", "character error rate"),
    "failures": ("%", "utterances that failed in any way"),
    **{name: ("%", text) for name, text in failures.DEFINITIONS.items()},
    "similarity": ("", "speaker similarity with the reference recording"),
    "mcd": ("dB", "mel-cepstral distance to the recording of the text (or what is named above)"),
    "f0_rmse_hz": ("Hz", "F0 RMSE to the same"),
    "f0_rmse_cents": ("cents", "F0 RMSE to the same"),
    "f0_correlation": ("", "log-F0 correlation with the same"),
    "vuv_error": ("%", "frames whose voicing differs from it"),
    "f0_offset_cents": ("cents", "median F0 against the reference recording's"),
    "seconds": ("s", "duration of an utterance"),
    "pace": ("s", "seconds of speech for 10 characters of text"),
}
Step = Callable[[], None]  # called as soon as something is done


def no_step() -> None:
    """For whoever does not watch."""


@dataclass(frozen=True)
class Speaker:
    """A voice to speak in, its name, and what it sounds like (n,) at the model's rate."""

    name: str
    voice: Voice
    wav: np.ndarray


@dataclass(frozen=True)
class Heard:
    """What is known of a speaker's own recording: embedding (256,) or None, median F0 in Hz (nan: not known)."""

    embedding: np.ndarray | None
    pitch: float


@dataclass
class Utterance:
    """One text in one voice under one seed, and everything found out about it."""

    text: str
    group: int  # number of the text
    voice: str
    seed: int
    wav: np.ndarray
    seconds: float
    finish_reason: str | None
    heard: str | None = None
    failed: list[str] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    spoken: str = ""  # the text as it is to be heard; "": as it stands
    guard: failures.GuardCount = field(default_factory=failures.GuardCount)

    def __post_init__(self) -> None:
        self.spoken = self.spoken or self.text

    def as_dict(self) -> dict[str, Any]:
        """Everything but the sound."""
        kept = ("text", "spoken", "voice", "seed", "seconds", "finish_reason", "heard", "failed")
        row = {name: getattr(self, name) for name in kept} | {"guard": asdict(self.guard)}
        return row | {k: clean(v) for k, v in self.measures.items()}


@dataclass
class Tools:
    """The libraries that are there; `missing`: measure -> why it cannot be taken."""

    recognise: recogniser.Recogniser | None = None
    embed: speaker.VoiceSimilarity | None = None
    world: bool = False
    missing: dict[str, str] = field(default_factory=dict)


def open_tools() -> Tools:
    """What this installation can measure."""
    tools = Tools()
    try:
        library("jiwer", "WER and CER")
        tools.recognise = recogniser.Recogniser()
    except MissingLibrary as error:
        tools.missing["wer, cer"] = str(error)
    try:
        tools.embed = speaker.VoiceSimilarity()
    except MissingLibrary as error:
        tools.missing["similarity"] = str(error)
    try:
        library("pyworld", "MCD and F0")
        tools.world = True
    except MissingLibrary as error:
        tools.missing["mcd, f0, vuv_error"] = str(error)
    return tools


def speak(
    tts: Sopro,
    texts: Sequence[Text],
    speakers: Sequence[Speaker],
    seeds: Sequence[int],
    options: dict[str, Any],
    step: Step = no_step,
) -> list[Utterance]:
    """Every text under every seed; voices take turns with the texts."""
    spoken = []
    for group, text in enumerate(texts):
        who, form = speakers[group % len(speakers)], spoken_form(text.text, options)
        for seed in seeds:
            said = tts.speak(text.text, who.voice, **{**options, "seed": seed})
            seconds, guard = len(said.wav) / tts.sample_rate, failures.GuardCount.of(said.sentences)
            spoken.append(
                Utterance(
                    text.text, group, who.name, seed, said.wav, seconds, said.finish_reason, spoken=form, guard=guard
                )
            )
            step()
    return spoken


def listen(speakers: Sequence[Speaker], rate: int, tools: Tools) -> dict[str, Heard]:
    """Every speaker's own recording, once for all systems."""
    return {
        s.name: Heard(
            tools.embed(s.wav, rate) if tools.embed else None,
            pitch.median(world.pitch_track(s.wav, rate)) if tools.world else float("nan"),
        )
        for s in speakers
    }


def measure(
    spoken: list[Utterance],
    rate: int,
    speakers: dict[str, Heard],
    recording: Callable[[Utterance], np.ndarray | None],
    tools: Tools,
    compared_at: int,
    step: Step = no_step,
) -> None:
    """Fill in `heard`, `failed` and `measures` of every utterance. `recording`: of its text, at `rate`, or None.

    MCD and F0 are compared at the rate `compared_at` in Hz: above half of a recording's own there is nothing of it, and
    the logarithm of nothing would be most of the distance.
    """
    pace = failures.median_pace([u.spoken for u in spoken], [u.seconds for u in spoken])
    recorded: dict[int, world.Analysis] = {}
    for u in spoken:
        m = u.measures
        if tools.recognise:
            u.heard = tools.recognise(u.wav, rate)
            e = words.errors(u.spoken, u.heard)
            m |= {"words": e.words, "word_errors": e.word_errors}
            m |= {"characters": e.characters, "character_errors": e.character_errors}
        u.failed = failures.classify(u.spoken, u.wav, u.seconds, pace, u.finish_reason, u.heard)
        if tools.embed:
            m["similarity"] = speaker.similarity(speakers[u.voice].embedding, tools.embed(u.wav, rate))
        if tools.world and len(u.wav):
            own, reference = world.analyse(resample(u.wav, rate, compared_at), compared_at), recording(u)
            m["f0_offset_cents"] = 1200 * float(np.log2(pitch.median(own.f0) / speakers[u.voice].pitch))
            if reference is not None:
                key = id(reference)
                if key not in recorded:
                    recorded[key] = world.analyse(resample(reference, rate, compared_at), compared_at)
                m |= world.compare_aligned(recorded[key], own)
        step()


def summarise(spoken: Sequence[Utterance]) -> dict[str, dict[str, Any]]:
    """Measure -> mean, low, high (95 %), count, unit. Only measures that were taken."""
    groups = np.array([u.group for u in spoken])

    def values(name: str) -> np.ndarray:
        return np.array([u.measures.get(name, np.nan) for u in spoken], np.float64)

    columns: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        "wer": (100 * values("word_errors"), values("words")),
        "cer": (100 * values("character_errors"), values("characters")),
        "failures": (np.array([100.0 * bool(u.failed) for u in spoken]), None),
        **{n: (np.array([100.0 * (n in u.failed) for u in spoken]), None) for n in failures.NAMES},
        "seconds": (np.array([u.seconds for u in spoken]), None),
        "pace": (np.array([10 * u.seconds for u in spoken]), np.array([float(len(u.spoken)) for u in spoken])),
    }
    result = {}
    for name, (unit, _) in MEASURES.items():
        column, weights = columns[name] if name in columns else (values(name), None)
        found = interval(column, groups, weights)
        if found.count:
            result[name] = {k: clean(v) for k, v in found.as_dict().items()} | {"unit": unit}
    return result


def differences(spoken: Sequence[Utterance], other: Sequence[Utterance]) -> dict[str, dict[str, Any]]:
    """`other` minus `spoken`, utterance by utterance of the same text and seed, with the interval of the mean."""
    groups = np.array([u.group for u in spoken])
    result = {}
    for name in ("wer", "cer", "failures", "similarity", "mcd", "seconds"):
        delta = np.array([_single(b, name) - _single(a, name) for a, b in zip(spoken, other, strict=True)])
        found = interval(delta, groups)
        if found.count:
            result[name] = {k: clean(v) for k, v in found.as_dict().items()} | {"unit": MEASURES[name][0]}
    return result


def _single(u: Utterance, name: str) -> float:
    m = u.measures
    if name in ("wer", "cer"):
        top, bottom = ("word_errors", "words") if name == "wer" else ("character_errors", "characters")
        return 100 * m[top] / m[bottom] if m.get(bottom) else float("nan")
    if name == "failures":
        return 100.0 * bool(u.failed)
    return u.seconds if name == "seconds" else m.get(name, float("nan"))


def pitch_across(spoken: Sequence[Utterance], speakers: dict[str, Heard]) -> float:
    """Correlation over speakers of the log median F0 of their recording and of their speech; nan for fewer than 3."""
    if len(speakers) < 3:
        return float("nan")
    offsets = [[u.measures.get("f0_offset_cents", np.nan) for u in spoken if u.voice == name] for name in speakers]
    heard = np.log2([s.pitch for s in speakers.values()])
    said = heard + np.array([np.nanmean(cents) / 1200 if cents else np.nan for cents in offsets])
    known = np.isfinite(heard) & np.isfinite(said)
    return pitch.correlation(heard[known], said[known])


def definitions(rate: int) -> list[str]:
    """What every number means, for the output."""
    return [
        words.DEFINITION,
        f"ASR: {recogniser.NAME}",
        f"speaker similarity: {speaker.NAME}",
        f"{definition(rate)}; {world.ALIGNMENT}",
        world.PITCH_DEFINITION,
        failures.GUARD,
        "failures: " + "; ".join(f"{name}: {text}" for name, text in failures.DEFINITIONS.items()),
        "intervals: 95 %, percentile bootstrap over texts (all seeds of a text together), 2000 draws",
    ]


def clean(value: float) -> float | None:
    """JSON has no NaN and no infinity: both become null."""
    return float(value) if np.isfinite(value) else None
