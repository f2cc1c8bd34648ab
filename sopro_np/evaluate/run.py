"""An evaluation as one call: models, voices and texts in; one record out, of which JSON and pages are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.audio import read_reference, recorded_rate
from sopro_np.engine import Sopro
from sopro_np.errors import SoproError, UsageError
from sopro_np.evaluate import fidelity, quality
from sopro_np.evaluate.failures import GuardCount
from sopro_np.evaluate.fidelity import ForcedInputs
from sopro_np.evaluate.judges import Judges, open_judges, world_alone
from sopro_np.evaluate.listening import Stimulus
from sopro_np.evaluate.quality import Speaker, Utterance, clean
from sopro_np.evaluate.signals import mean_db
from sopro_np.evaluate.texts import Text, spoken_form
from sopro_np.evaluate.world import analyse
from sopro_np.options import Options

FORCED = 12  # texts of a fidelity run, each with the first seed
LONGEST = 60.0  # seconds of a recording of a text
RECORDING = "recording"  # as a system beside the models: what the ASR makes of people
Progress = Callable[[str], None]  # what is done now
Advance = Callable[[float, float], None]  # how much of how much is done


@dataclass
class Evaluation:
    """`result`: what goes into the JSON. The rest has sound and goes into the pages."""

    result: dict[str, Any]
    rate: int
    spoken: dict[str, list[Utterance]] = field(default_factory=dict)  # by system
    recordings: dict[str, np.ndarray] = field(default_factory=dict)  # by text

    def examples(self, count: int) -> list[tuple[str, list[tuple[str, Utterance]]]]:
        """The first seed of `count` texts, evenly spread over the run, as every system said them."""
        first = {name: {u.group: u for u in reversed(spoken)} for name, spoken in self.spoken.items()}
        first = {name: inside for name, inside in first.items() if inside}
        groups = sorted(next(iter(first.values()), {}))
        chosen = [
            groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, min(count, len(groups))).round().astype(int))
        ]
        return [
            (next(iter(first.values()))[g].text, [(n, first[n][g]) for n in first if g in first[n]]) for g in chosen
        ]

    def stimuli(self, count: int) -> list[Stimulus]:
        """The same, for a listening test."""
        return [
            Stimulus(text, {name: u.wav for name, u in row if name != RECORDING}, self.recordings.get(text))
            for text, row in self.examples(count)
        ]


@dataclass(frozen=True)
class Task:
    """What is to be said: texts, under which seeds and options (without a seed), in the voices of recordings (`refs`)
    and in saved ones (`voices`), which take turns."""

    refs: Sequence[str | Path]
    voices: Sequence[str | Path]
    texts: Sequence[Text]
    seeds: Sequence[int]
    options: dict[str, Any]


class Watched:
    """Tells what is done now, and with every step how much of everything is done."""

    def __init__(self, stage: Progress, advance: Advance, steps: int) -> None:
        self.stage, self._advance, self._steps, self._done = stage, advance, steps, -1
        self.step()

    def step(self) -> None:
        self._done += 1
        self._advance(self._done, self._steps)


def evaluate(
    tts: Sopro,
    against: Sopro | None,
    task: Task,
    only: str | None = None,
    whisper: Sequence[str | Path] = (),
    progress: Progress = lambda line: None,
    advance: Advance = lambda done, total: None,
) -> Evaluation:
    """All that can be found out about `tts`, and about `against` beside it; `whisper`: folders of recognisers."""
    same = against is not None and against.fingerprints == tts.fingerprints
    if only == "fidelity" and not same:
        raise UsageError(
            "fidelity compares two files of one model: give --against another recipe of the same checkpoints"
        )
    if against is not None and against.sample_rate != tts.sample_rate:
        raise UsageError(f"models of {tts.sample_rate} and {against.sample_rate} Hz cannot be compared")
    rate = tts.sample_rate
    result: dict[str, Any] = {"model": facts(tts), "missing": {}, "definitions": []}
    done = Evaluation(result, rate)
    if against is not None:
        result["against"] = facts(against)
    judges = world_alone() if only == "fidelity" else open_judges(whisper)
    watched = Watched(progress, advance, steps_of(task, against is not None, same, only))
    if against is not None and only != "quality":
        if same:
            watched.stage("fidelity")
            result["fidelity"] = compare_models(against, tts, task, judges, watched)
            result["definitions"] += [f"{k}: {v}" for k, v in fidelity.DEFINITIONS.items()]
        else:
            result["missing"]["fidelity"] = "the two models come from different checkpoints: nothing can be forced"
    if only != "fidelity":
        result["quality"] = judge(done, tts, against, task, judges, watched)
        result["definitions"] += quality.definitions(result["quality"]["mcd_at"], judges)
    result["missing"] |= judges.missing
    return done


def steps_of(task: Task, two: bool, same: bool, only: str | None) -> int:
    """Scripts of fidelity, utterances spoken, utterances and recordings measured."""
    scripts = len(task.texts[:FORCED]) if two and same and only != "quality" else 0
    if only == "fidelity":
        return scripts
    utterances = len(task.texts) * len(task.seeds) * (1 + two)
    return scripts + 2 * utterances + sum(t.recording is not None for t in task.texts)


def facts(tts: Sopro) -> dict[str, Any]:
    sources, recipe = tts.file.json("sources"), tts.file.json("recipe")
    return {
        "file": tts.path.name,
        "recipe": recipe.get("name"),
        "bytes": tts.path.stat().st_size,
        "generation": sources.get("sopro", {}).get("generation", "?"),
        "ops": tts.ops,
    }


def speakers_of(tts: Sopro, task: Task) -> list[Speaker]:
    """Voices of recordings, and saved ones (which sound as the codec renders their codes). Names are file names."""
    config, found = tts.model.config, []
    for ref in task.refs:
        wav = read_reference(ref, tts.sample_rate, config.reference_seconds, config.frame_rate)
        found.append(Speaker(Path(ref).stem, tts.voice(wav), wav))
    for file in task.voices:
        voice = tts.load_voice(file)
        name = Path(file).name.removesuffix(".safetensors").removesuffix(".voice")
        found.append(Speaker(name, voice, tts.decode(voice.codes.astype(np.int64))))
    names = [s.name for s in found]
    if len(set(names)) < len(names):
        raise UsageError(f"two voices have one name ({', '.join(sorted(names))}): rename a file")
    return found


def compare_models(reference: Sopro, actual: Sopro, task: Task, judges: Judges, watched: Watched) -> dict[str, Any]:
    """Fidelity of `actual`: mean and worst of every measure over inputs that `reference` made, unguarded."""
    o = Options(**{**task.options, "seed": task.seeds[0]})
    people, rows, frames = speakers_of(reference, task), [], 0
    for i, text in enumerate(task.texts[:FORCED]):
        who = people[i % len(people)]
        given: ForcedInputs = fidelity.prepare(
            reference,
            text.text,
            who.wav if i % len(people) < len(task.refs) else None,
            who.voice.codes.astype(np.int64),
            o,
        )
        r, a = (fidelity.run_forced(tts, given) for tts in (reference, actual))
        row = fidelity.compare(r, a)
        if judges.world:
            analysed = (analyse(r.wav, reference.sample_rate), analyse(r.free_running_wav, reference.sample_rate))
            row |= fidelity.mcds(analysed, a, reference.sample_rate)
        rows.append(row)
        watched.step()
        frames += len(given.codes)
    return {"texts": len(rows), "frames": frames, "measures": {name: _over(rows, name) for name in rows[0]}}


def _over(rows: Sequence[dict[str, float]], name: str) -> dict[str, float | None]:
    """Mean and worst; null: no error at all (an SNR), or never measured."""
    values = np.array([row[name] for row in rows])
    values = values[~np.isnan(values)]
    if not len(values):
        return {"mean": None, "worst": None}
    worst = values.max() if name.endswith(("_lsd", "_mcd")) else values.min()
    mean = mean_db(values) if name.endswith("_db") else float(values.mean())
    return {"mean": clean(mean), "worst": clean(float(worst))}


def judge(
    done: Evaluation, tts: Sopro, against: Sopro | None, task: Task, judges: Judges, watched: Watched
) -> dict[str, Any]:
    """Quality of one or two systems. Without recordings of the texts, MCD and F0 compare with what `against` says."""
    rate, systems = tts.sample_rate, {"model": tts} | ({"against": against} if against is not None else {})
    config, texts = tts.model.config, task.texts
    done.recordings = {
        t.text: read_reference(t.recording, rate, LONGEST, config.frame_rate) for t in texts if t.recording
    }
    compared_at = min([rate, *(recorded_rate(t.recording, rate) for t in texts if t.recording)])
    people: list[Speaker] = []
    for name, system in systems.items():
        people = speakers_of(system, task)
        watched.stage(f"{name}: {len(texts)} texts x {len(task.seeds)} seeds")
        done.spoken[name] = quality.speak(system, texts, people, task.seeds, task.options, watched.step)
        _failed_everywhere(done.spoken[name], name)
    if done.recordings:
        done.spoken[RECORDING] = [
            Utterance(
                t.text,
                group,
                people[group % len(people)].name,
                0,
                wav,
                len(wav) / rate,
                None,
                spoken=spoken_form(t.text, task.options),
            )
            for group, t in enumerate(texts)
            if (wav := done.recordings.get(t.text)) is not None
        ]
    other = {(u.group, u.seed): u.wav for u in done.spoken.get("against", ()) if len(u.wav)}
    by_model = not done.recordings and bool(other)
    own, measures = quality.listen(people, rate, judges), quality.catalogue(judges)
    summary: dict[str, Any] = {}
    for name in done.spoken:
        watched.stage(f"{name}: measuring")

        def recording(u: Utterance, name: str = name) -> np.ndarray | None:
            if by_model:
                return other.get((u.group, u.seed)) if name == "model" else None
            return None if name == RECORDING else done.recordings.get(u.text)

        quality.measure(done.spoken[name], rate, own, recording, judges, compared_at, watched.step)
        summary[name] = {
            "summary": quality.summarise(done.spoken[name], measures),
            "utterances": [u.as_dict() for u in done.spoken[name]],
        }
        if name != RECORDING:
            summary[name]["guard"] = asdict(GuardCount.total(u.guard for u in done.spoken[name]))
        if judges.world and len(people) > 2:
            summary[name]["f0_across_voices"] = clean(quality.pitch_across(done.spoken[name], own))
    compared = "the recording of the text" if done.recordings else "what `against` said" if by_model else "nothing"
    result = {
        "texts": len(texts), "seeds": len(task.seeds), "voices": [p.name for p in people], "systems": summary,
        "judges": judges.facts(), "measures": {k: {"unit": u, "meaning": m} for k, (u, m) in measures.items()},
        "mcd_and_f0_against": compared, "mcd_at": compared_at, "options": task.options,
    }  # fmt: skip
    if against is not None:
        result["difference"] = quality.differences(done.spoken["against"], done.spoken["model"], measures)
    return result


def _failed_everywhere(spoken: Sequence[Utterance], name: str) -> None:
    if spoken and not any(len(u.wav) for u in spoken):
        raise SoproError(f"{name}: said nothing for any text and seed; look at it with `sopro-np say`")
