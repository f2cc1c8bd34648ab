"""Who judges an utterance: recognisers, networks with an opinion of how it sounds, a speaker's embedding, WORLD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sopro_np.errors import UsageError
from sopro_np.evaluate import speaker
from sopro_np.evaluate.libraries import MissingLibrary, library
from sopro_np.evaluate.opinions import OPINIONS, Opinion
from sopro_np.evaluate.recogniser import SILENCE, Facts, PocketSphinx, Recogniser
from sopro_np.evaluate.whisper import Whisper

Measure = tuple[str, str]  # unit, what it says


@dataclass
class Judges:
    """Those that are there. `recognisers`, by name: the first one's words decide on failures. `opinions`, by name.

    `missing`: measure -> why it cannot be taken."""

    recognisers: Mapping[str, Recogniser] = field(default_factory=dict)
    opinions: Mapping[str, Opinion] = field(default_factory=dict)
    embed: speaker.VoiceSimilarity | None = None
    world: bool = False
    missing: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Software, weights and settings of recognisers and of networks with an opinion, by name."""
        return {
            "recognisers": {name: dict(judge.facts) for name, judge in self.recognisers.items()},
            "opinions": {name: dict(judge.facts) for name, judge in self.opinions.items()},
        }

    def definitions(self) -> list[str]:
        """A line each of these, after the measures that are theirs."""
        lines = [f"wer_{name}, cer_{name}: {_line(judge.facts)}" for name, judge in self.recognisers.items()]
        lines += [f"mos_{name}: {_line(judge.facts)}" for name, judge in self.opinions.items()]
        return [*lines, f"recognisers and these networks hear {SILENCE}"] if lines else []


def _line(facts: Facts) -> str:
    name, *others = facts.items()
    return ", ".join([str(name[1]), *(f"{key} {value}" for key, value in others)])


def world_alone() -> Judges:
    """What the distance of two files needs."""
    try:
        library("pyworld", "MCD and F0")
        return Judges(world=True)
    except MissingLibrary as error:
        return Judges(missing={"mcd, f0, vuv_error": str(error)})


def open_judges(whisper: Sequence[str | Path] = ()) -> Judges:
    """What this installation can measure, and Whisper from these folders.

    UsageError: a folder holds no model that can be loaded, two have one name, or a library is missing for it.
    """
    judges = world_alone()
    recognisers: dict[str, Recogniser] = {}
    for folder in whisper:
        try:
            library("jiwer", f"WER by Whisper in {folder}")
            judge = Whisper(folder)
        except MissingLibrary as error:  # it was asked for by name
            raise UsageError(str(error)) from None
        if judge.name in (*recognisers, PocketSphinx.name):
            raise UsageError(f"two recognisers have one name ({judge.name}): rename the folder {folder}")
        recognisers[judge.name] = judge
    try:
        library("jiwer", "WER and CER")
        recognisers[PocketSphinx.name] = PocketSphinx()
    except MissingLibrary as error:
        judges.missing[f"wer_{PocketSphinx.name}, cer_{PocketSphinx.name}"] = str(error)
    opinions: dict[str, Opinion] = {}
    for name, network in OPINIONS.items():
        try:
            opinions[name] = network()
        except MissingLibrary as error:
            judges.missing[f"mos_{name}"] = str(error)
    judges.recognisers, judges.opinions = recognisers, opinions
    try:
        judges.embed = speaker.VoiceSimilarity()
    except MissingLibrary as error:
        judges.missing["similarity"] = str(error)
    return judges
