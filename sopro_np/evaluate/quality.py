"""Does it speak well? Sampled speech of many texts and seeds, each utterance measured on its own, then means with
confidence intervals. Nothing here is teacher-forced: how far one model is from another one says fidelity.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sopro_np.engine import Sopro
from sopro_np.evaluate import failures, pitch, speaker, words, world
from sopro_np.evaluate.bootstrap import interval
from sopro_np.evaluate.cepstra import definition
from sopro_np.evaluate.judges import Judges, Measure
from sopro_np.evaluate.texts import Text, spoken_form
from sopro_np.hearing import resample
from sopro_np.voice import Voice

MEASURES: dict[str, Measure] = {  # besides those that recognisers and opinions are named in; in the order of tables
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
RATES = {"wer": ("word error rate", "words"), "cer": ("character error rate", "characters")}
Step = Callable[[], None]  # called as soon as something is done


def no_step() -> None:
    """For whoever does not watch."""


def catalogue(judges: Judges) -> dict[str, Measure]:
    """Every measure that may be taken: name -> unit, meaning; in the order of tables."""
    rates = {
        f"{r}_{name}": ("%", f"{what}, by {name}") for name in judges.recognisers for r, (what, _) in RATES.items()
    }
    scores = {f"mos_{name}": ("", f"mean opinion score, 1 to 5, as {name} estimates it") for name in judges.opinions}
    return rates | scores | MEASURES


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
    heard: dict[str, str] = field(default_factory=dict)  # by recogniser
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


def listen(speakers: Sequence[Speaker], rate: int, judges: Judges) -> dict[str, Heard]:
    """Every speaker's own recording, once for all systems."""
    return {
        s.name: Heard(
            judges.embed(s.wav, rate) if judges.embed else None,
            pitch.median(world.pitch_track(s.wav, rate)) if judges.world else float("nan"),
        )
        for s in speakers
    }


def measure(
    spoken: list[Utterance],
    rate: int,
    speakers: dict[str, Heard],
    recording: Callable[[Utterance], np.ndarray | None],
    judges: Judges,
    compared_at: int,
    step: Step = no_step,
) -> None:
    """Fill in `heard`, `failed` and `measures` of every utterance. `recording`: of its text, at `rate`, or None.

    MCD and F0 are compared at the rate `compared_at` in Hz: above half of a recording's own there is nothing of it, and
    the logarithm of nothing would be most of the distance.
    """
    pace = failures.Pace.of([u.spoken for u in spoken], [u.seconds for u in spoken])
    recorded: dict[int, world.Analysis] = {}
    for u in spoken:
        m = u.measures
        u.heard = {name: recognise(u.wav, rate) for name, recognise in judges.recognisers.items()}
        for name, heard in u.heard.items():
            e = words.errors(u.spoken, heard)
            m |= {"words": e.words, f"word_errors_{name}": e.word_errors}
            m |= {"characters": e.characters, f"character_errors_{name}": e.character_errors}
        m |= {f"mos_{name}": opinion(u.wav, rate) for name, opinion in judges.opinions.items()}
        first = next(iter(u.heard.values()), None)
        u.failed = failures.classify(u.spoken, u.wav, u.seconds, pace(u.spoken), u.finish_reason, first)
        if judges.embed:
            m["similarity"] = speaker.similarity(speakers[u.voice].embedding, judges.embed(u.wav, rate))
        if judges.world and len(u.wav):
            own, reference = world.analyse(resample(u.wav, rate, compared_at), compared_at), recording(u)
            m["f0_offset_cents"] = 1200 * float(np.log2(pitch.median(own.f0) / speakers[u.voice].pitch))
            if reference is not None:
                key = id(reference)
                if key not in recorded:
                    recorded[key] = world.analyse(resample(reference, rate, compared_at), compared_at)
                m |= world.compare_aligned(recorded[key], own)
        step()


def summarise(spoken: Sequence[Utterance], measures: Mapping[str, Measure]) -> dict[str, dict[str, Any]]:
    """Measure -> mean, low, high (95 %), count, unit. Only measures that were taken."""
    return _intervals([u.group for u in spoken], measures, lambda name: _column(spoken, name))


def differences(
    spoken: Sequence[Utterance], other: Sequence[Utterance], measures: Mapping[str, Measure]
) -> dict[str, dict[str, Any]]:
    """`other` minus `spoken`, utterance by utterance of the same text and seed, with the interval of the mean."""
    compared = ("failures", "similarity", "mcd", "seconds")
    kept = {k: m for k, m in measures.items() if k in compared or k.split("_")[0] in ("wer", "cer", "mos")}

    def delta(name: str) -> tuple[np.ndarray, None]:
        ours, theirs = (values if weights is None else values / np.where(weights > 0, weights, np.nan)
                        for values, weights in (_column(spoken, name), _column(other, name)))  # fmt: skip
        return theirs - ours, None

    return _intervals([u.group for u in spoken], kept, delta)


def _intervals(
    groups: Sequence[int],
    measures: Mapping[str, Measure],
    column: Callable[[str], tuple[np.ndarray, np.ndarray | None]],
) -> dict[str, dict[str, Any]]:
    result = {}
    for name, (unit, _) in measures.items():
        found = interval(column(name)[0], np.array(groups), column(name)[1])
        if found.count:
            result[name] = {k: clean(v) for k, v in found.as_dict().items()} | {"unit": unit}
    return result


def _column(spoken: Sequence[Utterance], name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of a measure (n,), nan where it was not taken, and their weights, if it is a ratio of sums."""

    def values(key: str) -> np.ndarray:
        return np.array([u.measures.get(key, np.nan) for u in spoken], np.float64)

    rate, _, judge = name.partition("_")
    if rate in RATES:
        of = RATES[rate][1]
        return 100 * values(f"{of[:-1]}_errors_{judge}"), values(of)
    if name == "failures":
        return np.array([100.0 * bool(u.failed) for u in spoken]), None
    if name in failures.NAMES:
        return np.array([100.0 * (name in u.failed) for u in spoken]), None
    if name == "seconds":
        return np.array([u.seconds for u in spoken]), None
    if name == "pace":
        return np.array([10 * u.seconds for u in spoken]), np.array([float(len(u.spoken)) for u in spoken])
    return values(name), None


def pitch_across(spoken: Sequence[Utterance], speakers: dict[str, Heard]) -> float:
    """Correlation over speakers of the log median F0 of their recording and of their speech; nan for fewer than 3."""
    if len(speakers) < 3:
        return float("nan")
    offsets = [[u.measures.get("f0_offset_cents", np.nan) for u in spoken if u.voice == name] for name in speakers]
    heard = np.log2([s.pitch for s in speakers.values()])
    said = heard + np.array([np.nanmean(cents) / 1200 if cents else np.nan for cents in offsets])
    known = np.isfinite(heard) & np.isfinite(said)
    return pitch.correlation(heard[known], said[known])


def definitions(rate: int, judges: Judges) -> list[str]:
    """What every number means, for the output."""
    return [
        words.DEFINITION,
        *judges.definitions(),
        f"speaker similarity: {speaker.NAME}",
        f"{definition(rate)}; {world.ALIGNMENT}",
        world.PITCH_DEFINITION,
        failures.GUARD,
        "failures: " + "; ".join(f"{name}: {text}" for name, text in failures.DEFINITIONS.items()),
        f"failures: {failures.RULE}",
        "intervals: 95 %, percentile bootstrap over texts (all seeds of a text together), 2000 draws",
    ]


def clean(value: float) -> float | None:
    """JSON has no NaN and no infinity: both become null."""
    return float(value) if np.isfinite(value) else None
