"""`sopro-np say` and `sopro-np voice`: texts -> speech, chunk by chunk -> effects -> a file, a pipe, a player."""

from __future__ import annotations

import argparse
import math
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.cli.player import Player, find_player
from sopro_np.cli.progress import Progress, watched
from sopro_np.cli.texts import read_texts
from sopro_np.effects import amplified, resampled, to_loudness
from sopro_np.encode import AudioFormat, check_rate, find_format, open_writer
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import UsageError
from sopro_np.files import voices_dir
from sopro_np.locate import NAME, VOICE_SUFFIX, find_model, find_voice
from sopro_np.options import DEFAULTS, Options, stream_options
from sopro_np.voice import Voice
from sopro_np.wav import WavWriter, check_target

CHARACTERS_PER_SECOND = 15  # of English read aloud, for the progress line
AR_SHARE = 1 / 8  # of the work is done when all codes of codebook 0 are there


@dataclass
class Told:
    """What is known at the end: seconds of speech, and what should be noted."""

    seed: int
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def say(args: argparse.Namespace) -> int:
    """Text -> audio file, stdout, a pipe or the loudspeaker."""
    form, out = _output(args)
    _check_effects(args)
    given = {name: getattr(args, name) for name in Options.names() if hasattr(args, name)}
    Options.of(given)  # what is wrong with them is said before a model is read
    model = find_model(args.model)
    saved = find_voice(args.voice, model) if args.ref is None else None
    if out is not None:
        check_target(out, (model, args.ref, saved, args.file))
    texts = read_texts(args.text, args.file, args.lines, args.quiet)
    tts = open_model(model, args.threads, args.ops)
    rate = args.sample_rate or tts.sample_rate
    check_rate(form, rate)
    voice = tts.load_voice(saved) if saved else tts.voice(args.ref)
    if args.stream:
        given = stream_options(given, tts.model.nar.looks_ahead)
    if given.get("seed") is None:  # one for all, that can be told
        given["seed"] = secrets.randbits(32)
    told = Told(given["seed"])
    started = time.perf_counter()
    chunks = _spoken(tts, voice, texts, given, told, Progress(not args.quiet and watched()), args.stream)
    chunks = _changed(chunks, args, tts.sample_rate, rate, told)
    length = None
    if not (args.stream or args.lines):
        wav = np.concatenate([np.zeros(0, np.float32), *chunks])
        chunks, length = iter([wav]), len(wav)  # known beforehand: even a pipe gets a true header
    with ExitStack() as stack:
        sinks: list[WavWriter | Player] = []
        if out is not None:
            sinks.append(stack.enter_context(open_writer(out, form, rate, samples=length)))
        if args.play:
            sinks.append(stack.enter_context(Player(rate)))
        for chunk in chunks:
            for sink in sinks:
                sink.write(chunk)
    if not args.quiet:
        where = "played" if out is None else "stdout" if out == "-" else out
        took = time.perf_counter() - started
        print(f"{where}: {told.seconds:.2f} s of speech in {took:.2f} s, seed {told.seed}", file=sys.stderr)
        for note in dict.fromkeys(told.notes):
            print(f"note: {note}", file=sys.stderr)
    return 0


def _output(args: argparse.Namespace) -> tuple[AudioFormat, str | None]:
    """Format and name of what is written; no name if it is only played."""
    if args.raw and args.format not in (None, "raw"):
        raise UsageError(f"give either --raw or --format {args.format}, not both")
    wanted = "raw" if args.raw else args.format
    if args.play:
        find_player()
        if args.out == "-":
            raise UsageError("--play and -o - do not go together: name a file, or leave -o out")
    if args.out is None and args.play:
        return find_format(None, "raw"), None
    out = f"sopro.{wanted or 'wav'}" if args.out is None else args.out
    if out == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("standard output is a terminal, which cannot show audio: name a file with -o, or use --play")
    return find_format(out, wanted), out


def _check_effects(args: argparse.Namespace) -> None:
    for name in ("gain", "normalise_loudness"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and -100 <= value <= 100):
            raise UsageError(f"--{name.replace('_', '-')} {value:g} must be a number from -100 to 100")
    if args.normalise_loudness is not None and (args.stream or args.lines):
        other = "--stream" if args.stream else "--lines"
        raise UsageError(f"--normalise-loudness has to hear everything first: leave {other} out, or use --gain")
    if args.normalise_loudness is not None and args.normalise_loudness > 0:
        raise UsageError(f"--normalise-loudness {args.normalise_loudness:g}: LUFS are at most 0; -16 is usual")


def _spoken(
    tts: Sopro, voice: Voice, texts: Iterator[str], given: dict[str, Any], told: Told, progress: Progress, stream: bool
) -> Iterator[np.ndarray]:
    """The engine's part: every text in turn -> chunks (n,), as they come (`stream`) or one for a text."""
    for text in texts:
        chunks = _utterance(tts, voice, text, given, told, progress)
        if stream:
            yield from chunks
        else:
            yield np.concatenate([np.zeros(0, np.float32), *chunks])


def _utterance(
    tts: Sopro, voice: Voice, text: str, given: dict[str, Any], told: Told, progress: Progress
) -> Iterator[np.ndarray]:
    """One text -> chunks (n,); how far it is goes to `progress`, what came of it to `told`."""
    most = given.get("max_frames", DEFAULTS.max_frames)
    frame_rate, heard, steps = tts.model.config.frame_rate, 0.0, 0
    expected = min(len(text) / CHARACTERS_PER_SECOND + 1, most / frame_rate)
    batch = tts.batch(1)
    job = batch.add(text, voice, **given)
    try:
        while not job.done:
            for _, wav in batch.step():
                heard += len(wav) / tts.sample_rate
                yield wav
            steps += 1
            thought = min(steps / frame_rate, expected)
            progress.update(AR_SHARE * thought + (1 - AR_SHARE) * heard, max(expected, heard))
    finally:
        progress.clear()
        batch.remove(job)
    if job.error is not None:
        raise job.error
    assert job.speech is not None
    told.seconds += heard
    if job.speech.finish_reason == "length":
        told.notes.append(
            f"the text did not end within {most} frames; it may be cut off (split it, or raise --max-frames)"
        )
    if not job.speech.frames:
        told.notes.append("the model ended at once and said nothing; try another --seed")


def _changed(
    chunks: Iterator[np.ndarray], args: argparse.Namespace, rate: int, new_rate: int, told: Told
) -> Iterator[np.ndarray]:
    """Another sample rate, then gain or loudness: the same whole and in chunks."""
    chunks = resampled(chunks, rate, new_rate)
    if args.gain is not None:
        chunks = amplified(chunks, args.gain)
    if args.normalise_loudness is not None:
        wav = np.concatenate([np.zeros(0, np.float32), *chunks])
        wav, reached = to_loudness(wav, new_rate, args.normalise_loudness)
        if reached < args.normalise_loudness - 0.05:
            told.notes.append(f"{reached:.1f} LUFS: louder it would be clipped")
        chunks = iter([wav])
    for chunk in chunks:
        if args.gain is not None and (np.abs(chunk) > 1).any():
            told.notes.append(f"--gain {args.gain:g} is too much: the loudest samples are clipped")
        yield chunk


def make_voice(args: argparse.Namespace) -> int:
    """Recording -> voice file."""
    if args.seconds is not None and not 0 < args.seconds <= 60:
        raise UsageError(f"--seconds {args.seconds:g} must be more than 0 and at most 60")
    out = args.out if args.name is None else _kept(args.name, args.force)
    model = find_model(args.model)
    check_target(out, (model, args.ref))
    tts = open_model(model, args.threads, args.ops)
    voice = tts.voice(args.ref, args.seconds)
    voice.save(out)
    if not args.quiet:
        seconds = len(voice.codes) / tts.model.config.frame_rate
        print(f"{out}: {seconds:.1f} s of reference, {Path(out).stat().st_size} bytes", file=sys.stderr)
    return 0


def _kept(name: str, force: bool) -> str:
    """File in the voices folder for a voice called `name`."""
    name = name.removesuffix(VOICE_SUFFIX)
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: letters, digits and . _ + - are allowed, no folder; for a file use -o")
    folder = voices_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); set SOPRO_NP_VOICES to a folder") from None
    path = folder / f"{name}{VOICE_SUFFIX}"
    if path.exists() and not force:
        raise UsageError(f"{path}: there is a voice of that name already; --force replaces it")
    return str(path)
