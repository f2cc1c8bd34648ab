"""Stage `judge`: held-out sentences at every step from the teacher's speech to codes, before anything is trained.

`teacher` is the teacher's own waveform; `voice` its parameters as the codec is to say them; `vectors` the same by way
of the frames' vectors; `codes` by way of their codes, `codes3` with only the first three acoustic ones; `guess` what a
small network finds from the phonemes (guess.py), `guessed` that by way of codes; `decoder` the codes, said by the
codec's decoder; `speech@clara` the text, said by a model (judge.model) with that voice, the guard off. A condition
may be said by another speaker, `codes@0.58,0.87` (speakers.py), and have its noise changed: `voice+random` has other
noise in every frame, `voice+4` four that take turns.

Every recogniser's words wrong (of how many) and every opinion's mean score are printed and kept, with what was heard,
in work/judged.json; what is there already is not done again. The opinion `melody` is the correlation of the logarithm
of F0 with the teacher's, aligned; of it the median is printed. With judge.together = 3 every three sentences are said
as one: long ones go wrong in other ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import sopro_np
from sopro_np.evaluate import world
from sopro_np.evaluate.opinions import OPINIONS
from sopro_np.evaluate.words import errors
from sopro_np.locate import VOICE_SUFFIX
from sopro_np.wav import write_wav
from tools.train.asr import recogniser
from tools.train.codebooks import Codebooks
from tools.train.mimi import decode, decoder_parts, new_model
from tools.train.sentences import held_out
from tools.train.taught import guess, hibari
from tools.train.taught.features import heard, parameters, vectors
from tools.train.taught.speakers import Speaker, said_by
from tools.train.taught.teach import Taught, taught
from tools.train.taught.texts import written
from tools.train.taught.voice import Parameters, speech
from tools.train.vocoder import FRAME, RATE

Judge = Callable[[np.ndarray, str], str | float]  # waveform (n,) at RATE, text -> what was heard, or a score
MELODY = "melody"


def noise(kind: str, frames: int) -> np.ndarray | None:
    """(FRAME frames,) noise of a kind; None is the frame's own."""
    if not kind:
        return None
    rng = np.random.default_rng(81)
    if kind == "random":
        return rng.standard_normal(frames * FRAME)
    different = rng.standard_normal((int(kind), FRAME))
    return different[np.arange(frames) % int(kind)].ravel()


def speaker(condition: str, cfg: SimpleNamespace, work: Path, teacher: hibari.Hibari) -> Callable[[str], np.ndarray]:
    """Text -> waveform at RATE."""
    name, _, kind = condition.partition("+")
    name, _, factors = name.partition("@")
    if name == "teacher":
        return lambda text: hibari.waveform(teacher.say(teacher.phonemes(text)))
    if name == "speech":
        return engine(cfg.judge.model, factors, cfg.judge.seed)
    if name == "decoder":
        return decoder(cfg.taught, work, teacher, factors)
    way, who = ways(name, cfg, work), Speaker(*map(float, factors.split(","))) if factors else Speaker()

    def said(text: str) -> np.ndarray:
        lesson = taught(teacher, text)
        assert lesson is not None, text
        return speech(way(said_by(lesson, who)), noise(kind, lesson.frames))

    return said


def engine(model: str, voice: str, seed: int) -> Callable[[str], np.ndarray]:
    """Text -> waveform by a converted model."""
    tts = sopro_np.load(model)
    beside = Path(model).with_name(f"{voice}{VOICE_SUFFIX}")
    chosen = tts.load_voice(beside if beside.exists() else voice)
    return lambda text: tts.synthesize(text, voice=chosen, seed=seed, guard=False)


def decoder(cfg: SimpleNamespace, work: Path, teacher: hibari.Hibari, factors: str) -> Callable[[str], np.ndarray]:
    """Text -> waveform by the codec's decoder, of the teacher's codes."""
    books, model = Codebooks.load(work), new_model(cfg.codec.mimi, 0)
    state = torch.load(work / cfg.decoder.folder / "weights.pt", weights_only=True)
    decoder_parts(model).load_state_dict(state)
    model.eval()
    who = Speaker(*map(float, factors.split(","))) if factors else Speaker()

    @torch.inference_mode()
    def said(text: str) -> np.ndarray:
        lesson = taught(teacher, text)
        assert lesson is not None, text
        codes = books.codes(books.components(frames_of(said_by(lesson, who))))
        return decode(model, books.rows(codes[None]))[0].numpy()

    return said


def ways(name: str, cfg: SimpleNamespace, work: Path) -> Callable[[Taught], Parameters]:
    """A lesson -> what is left of it; "codes3" for three acoustic codes."""
    if name == "voice":
        return parameters
    if name == "vectors":
        return lambda lesson: heard(vectors(parameters(lesson)))
    books, count = Codebooks.load(work), re.fullmatch(r"codes(\d*)|guess|guessed", name)
    if count is None:
        raise SystemExit(f"judge: there is no condition {name!r}")
    used = int(count[1] or len(books.books) - 1)
    nets = guess.load(work, books, cfg.guess) if name.startswith("guess") else {}

    def way(lesson: Taught) -> Parameters:
        x = guess.guessed(nets, books, lesson) if nets else books.components(frames_of(lesson))
        if name == "guess":
            return heard((x @ books.basis.T * books.gains + books.mean).numpy())
        return heard(books.said(books.codes(x), used).numpy())

    return way


def frames_of(lesson: Taught) -> torch.Tensor:
    """Its vectors (T, WIDTH)."""
    return torch.from_numpy(vectors(parameters(lesson)))


def judge(cfg: SimpleNamespace, work: Path) -> None:
    """Print a line per condition and judge."""
    torch.set_num_threads(1)
    report, teacher = work / "judged.json", hibari.Hibari()
    known = json.loads(report.read_text()) if report.exists() else {}
    texts = asked(cfg.judge.sentences, cfg.judge.together)
    hearing: dict[str, Callable[[np.ndarray, int], str | float]] = {n: recogniser(n) for n in cfg.judge.recognisers}
    hearing |= {n: OPINIONS[n]() for n in cfg.judge.opinions if n != MELODY}
    judges: dict[str, Judge] = {n: partial(by_ear, judge) for n, judge in hearing.items()}
    if MELODY in cfg.judge.opinions:
        judges[MELODY] = melody(teacher)
    for condition in cfg.judge.conditions:
        said, waves = speaker(condition, cfg, work, teacher), {}
        if condition.startswith(("decoder", "speech")):  # they go on learning
            known.pop(condition, None)
        found = known.setdefault(condition, {})
        for number, text in enumerate(texts):
            missing = [n for n in judges if text not in found.setdefault(n, {})]
            if missing or cfg.judge.keep:
                waves[number] = said(text).astype(np.float32)
            for name in missing:
                found[name][text] = judges[name](waves[number], text)
            if cfg.judge.keep:
                folder = work / "judged" / condition
                folder.mkdir(parents=True, exist_ok=True)
                write_wav(folder / f"{number:03d}.wav", waves[number])
            if (missing and number % 20 == 0) or number == len(texts) - 1:
                report.write_text(json.dumps(known, indent=1))
        for name in judges:
            print(f"judge: {condition}: {name} {verdict(texts, found[name], name == MELODY)}", flush=True)


def asked(count: int, together: int) -> list[str]:
    """The first held-out sentences, so many in each text."""
    sentences = held_out()[:count]
    groups = [sentences[i : i + together] for i in range(0, len(sentences), together)]
    return [written(", and ".join([*(s.rstrip(".?!") for s in group[:-1]), group[-1]])) for group in groups]


def by_ear(judge: Callable[[np.ndarray, int], str | float], wave: np.ndarray, text: str) -> str | float:
    """A judge that need not know the text."""
    return judge(wave, RATE)


def melody(teacher: hibari.Hibari) -> Judge:
    """The correlation of log F0 with the teacher's, along the path on which spectra agree best; 0 without voice."""
    tracks: dict[str, world.Analysis] = {}

    def judge(wave: np.ndarray, text: str) -> float:
        if text not in tracks:
            tracks[text] = world.analyse(hibari.waveform(teacher.say(teacher.phonemes(text))), RATE)
        found = world.compare_aligned(tracks[text], world.analyse(wave, RATE))
        return float(np.nan_to_num(found["f0_correlation"]))

    return judge


def verdict(texts: list[str], found: dict[str, str | float], median: bool = False) -> str:
    """Words wrong of all, or the mean score and its standard error, or the median score."""
    answers = [found[text] for text in texts]
    if isinstance(answers[0], str):
        counts = [errors(text, str(answer)) for text, answer in zip(texts, answers, strict=True)]
        wrong, words = sum(c.word_errors for c in counts), sum(c.words for c in counts)
        return f"{wrong} of {words} words wrong, {wrong / max(1, words):.4f}"
    if median:
        return f"median {np.median(answers):.3f}"
    scores = [float(a) for a in answers if not np.isnan(float(a))]  # silence has none
    if not scores:
        return "no score: silence"
    return f"{np.mean(scores):.3f} +- {np.std(scores) / len(scores) ** 0.5:.3f}"
