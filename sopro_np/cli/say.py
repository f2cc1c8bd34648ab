"""`sopro-np say`: texts -> speech, chunk by chunk -> effects -> a file, a pipe, a player."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sopro_np.cli import subtitles
from sopro_np.cli.progress import Progress, watched
from sopro_np.cli.texts import Text, only_pauses, read_texts, reads_stdin
from sopro_np.effects import amplified, at_speed, resampled, to_loudness
from sopro_np.encode import AudioFormat, check_rate, find_format, open_writer
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import NothingToSay, SoproError, SoproWarning, UsageError
from sopro_np.files import is_stream
from sopro_np.locate import find_model, find_voice
from sopro_np.modelfile import check_kind
from sopro_np.options import Options
from sopro_np.script import sentences
from sopro_np.speech import Speech
from sopro_np.tensorfile import TensorFile
from sopro_np.tokenizer import Tokenizer
from sopro_np.voice import Voice
from sopro_np.wav import WavWriter, check_target

if TYPE_CHECKING:
    from sopro_np.cli.player import Player

CHARACTERS_PER_SECOND = 15  # of English read aloud, for the progress line
TOLD = 5  # places of what could not be said
AR_SHARE = 1 / 8  # of the work is done when all codes of codebook 0 are there


@dataclass
class Said:
    """What was said, text after text: the speech of each, and the second at which it began."""

    given: dict[str, Any]  # options
    texts: list[str] = field(default_factory=list)
    speeches: list[Speech] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # where what could not be said stands
    seconds: float = 0.0

    def silence(self, seconds: float, rate: int) -> np.ndarray:
        """So much of it (n,) comes next."""
        wav = np.zeros(round(seconds * rate), np.float32)
        self.seconds += len(wav) / rate
        return wav


def say(args: argparse.Namespace) -> int:
    """Text -> audio file, stdout, a pipe or the loudspeaker."""
    form, out = _output(args)
    _check_effects(args)
    if args.sample_rate is not None:
        check_rate(form, args.sample_rate)
    given = {name: getattr(args, name) for name in Options.names() if hasattr(args, name)}
    Options.of(given)  # what is wrong with them is said before a model is read
    model = find_model(args.model)
    check_kind(TensorFile(model))  # before a voice for it is asked for
    saved = find_voice(args.voice, model) if args.ref is None else None
    beside = [(path, make) for kind, make in subtitles.KINDS.items() if (path := getattr(args, kind))]
    _check_targets([out, *(path for path, _ in beside)], (model, args.ref, saved, args.file))
    if args.ref == "-" and reads_stdin(args.text, args.file, args.each):
        raise UsageError("the text and --ref - cannot both come from standard input: name a file for one of them")
    texts = read_texts(args.text, args.file, args.each, args.quiet)
    tts = open_model(model, args.threads, args.ops)
    rate = tts.sample_rate if args.sample_rate is None else args.sample_rate
    check_rate(form, rate)
    voice = tts.load_voice(saved) if saved else tts.voice(args.ref)
    if given.get("seed") is None:  # one for all, that can be told
        given["seed"] = Options().seeded().seed
    said = Said(given)
    started = time.perf_counter()
    chunks = _spoken(tts, voice, texts, said, Progress(not args.quiet and watched()), skip=args.each is not None)
    chunks = _changed(chunks, args, tts.sample_rate, rate)
    length = None
    if not args.stream and args.each is None and _is_pipe(out):
        wav = np.concatenate([np.zeros(0, np.float32), *chunks])
        chunks, length = iter([wav]), len(wav)  # known beforehand: even a pipe gets a true header
    with ExitStack() as stack:
        player = None
        if args.play:
            from sopro_np.cli.player import Player

            player = stack.enter_context(Player(rate, kept=out))
        file = None if out is None else open_writer(out, form, rate, samples=length)
        failed = _deliver(chunks, file, player)
        _write_beside(beside, said, args.speed)  # all files are there before the last is heard
        if failed is not None:
            raise failed
    if not args.quiet:
        where = "played" if out is None else "stdout" if out == "-" else out
        took = time.perf_counter() - started
        print(
            f"{where}: {said.seconds / args.speed:.2f} s of speech in {took:.2f} s, seed {given['seed']}",
            file=sys.stderr,
        )
    if said.failed:
        more = f" and {len(said.failed) - TOLD} more" if len(said.failed) > TOLD else ""
        raise SoproError(f"all was said but {', '.join(said.failed[:TOLD])}{more}")
    return int(args.strict_check and any(speech.check for speech in said.speeches))


def _deliver(chunks: Iterator[np.ndarray], file: WavWriter | None, player: Player | None) -> SoproError | None:
    """Chunks to a file and a player. A player that fails does not take the file along: its error is given back."""
    failed = None
    with nullcontext() if file is None else file:
        for chunk in chunks:
            if file is not None:
                file.write(chunk)
            if player is not None and failed is None:
                try:
                    player.write(chunk)
                except SoproError as error:
                    if file is None:
                        raise
                    failed = error
    return failed


def _output(args: argparse.Namespace) -> tuple[AudioFormat, str | None]:
    """Format and name of what is written; no name if it is only played."""
    if args.raw and args.format not in (None, "raw"):
        raise UsageError(f"give either --raw or --format {args.format}, not both")
    wanted = "raw" if args.raw else args.format
    if args.play:
        from sopro_np.cli.player import find_players  # here and not above: it starts another program

        find_players()
        if args.out == "-":
            raise UsageError("--play and -o - do not go together: name a file, or leave -o out")
    if args.out is None and args.play:
        return find_format(None, "raw"), None
    out = f"sopro.{wanted or 'wav'}" if args.out is None else args.out
    return find_format(out, wanted), out


def _check_targets(targets: Sequence[str | None], inputs: Sequence[str | Path | None]) -> None:
    seen = set[str]()
    for target in targets:
        if target is not None:
            check_target(target, inputs)
            real = target if target == "-" else os.path.realpath(target)
            if real in seen and (target == "-" or not _is_pipe(target)):
                raise UsageError(f"{target}: two things cannot be written there; name another output")
            seen.add(real)


def _is_pipe(out: str | None) -> bool:
    """Something that exists and is no file: what was written there cannot be taken back or filled in."""
    return out is not None and (out == "-" or is_stream(out))


def _check_effects(args: argparse.Namespace) -> None:
    limits = {"gain": (-100, 100), "normalise_loudness": (-100, 0), "speed": (0.5, 2)}
    for name, (low, high) in limits.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            unit = {"gain": " dB", "speed": ""}.get(name, " LUFS (-16 is usual)")
            raise UsageError(f"--{name.replace('_', '-')} {value:g} must be a number from {low} to {high}{unit}")
    whole = "--normalise-loudness" if args.normalise_loudness is not None else "--speed" if args.speed != 1 else None
    if whole and (args.stream or args.each):
        other = f"--{args.each}" if args.each else "--stream"
        raise UsageError(f"{whole} has to hear everything first: leave {other} out")


def _spoken(
    tts: Sopro, voice: Voice, texts: Iterator[Text], said: Said, progress: Progress, skip: bool
) -> Iterator[np.ndarray]:
    """Every text in turn -> chunks (n,), with a pause in between. `skip`: those that cannot be said are left out."""
    options, rate = Options.of(said.given), tts.sample_rate
    gap, first = 0.0, ""  # seconds before the next text; what could not be said first
    for given in texts:
        text, batch = given.text, tts.batch(1)
        try:
            if given.problem is not None:
                raise given.problem
            job = batch.add(text, voice, keep=False, **said.given)
        except UsageError as error:
            if not skip or not (given.problem or _at_fault(text, options, tts.tokenizer)):
                raise
            if isinstance(error, NothingToSay) and (asked := only_pauses(text)) is not None:
                gap = 0.0
                yield said.silence(asked, rate)
                continue
            left_out = f"{given.where}{f' ({text[:40]!r})' if text else ''}: {error}"
            first = first or left_out
            if not isinstance(error, NothingToSay):
                said.failed.append(given.where)
            warnings.warn(f"left out: {left_out}", SoproWarning, stacklevel=1)
            continue
        yield said.silence(gap, rate)
        gap = options.pause
        said.texts.append(text)
        said.starts.append(said.seconds)
        steps, frames = 0, (len(text) / CHARACTERS_PER_SECOND + 1) * tts.model.config.frame_rate
        try:
            while not job.done:
                for _, wav in batch.step():
                    yield wav
                steps += 1
                heard = job.samples / tts.mimi.config.hop
                done = (AR_SHARE * min(steps, frames) + (1 - AR_SHARE) * heard) / frames
                progress.update(max(job.progress / len(text), min(done, 0.99)), 1)
        finally:
            progress.clear()
            batch.remove(job)
        if job.error is not None:
            raise job.error
        assert job.speech is not None
        said.speeches.append(job.speech)
        said.seconds += job.samples / tts.sample_rate
        if job.speech.finish_reason == "length":
            most = options.max_frames
            message = f"a sentence did not end within {most} frames; it may be cut off (raise --max-frames)"
            warnings.warn(message, SoproWarning, stacklevel=1)
    if not said.texts:
        raise NothingToSay(f"there was nothing to say in all of it{f' ({first})' if first else ''}")


def _at_fault(text: str, options: Options, tokenizer: Tokenizer) -> bool:
    """Is it the text that was refused, and not the options, which hold for others, too?"""
    try:
        sentences(text, options, lambda sentence: True)
        if not options.normalise:
            tokenizer.check(text)
    except UsageError:
        return True
    return False


def _changed(chunks: Iterator[np.ndarray], args: argparse.Namespace, rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Another speed, another sample rate, then gain or loudness: the same whole and in chunks."""
    if args.speed != 1:
        wav = np.concatenate([np.zeros(0, np.float32), *chunks])
        chunks = iter([at_speed(wav, rate, args.speed)])
    chunks = resampled(chunks, rate, new_rate)
    if args.gain is not None:
        chunks = amplified(chunks, args.gain)
    if args.normalise_loudness is not None:
        wav = np.concatenate([np.zeros(0, np.float32), *chunks])
        wav, reached = to_loudness(wav, new_rate, args.normalise_loudness)
        if reached < args.normalise_loudness - 0.05:
            warnings.warn(f"{reached:.1f} LUFS: louder it would be clipped", SoproWarning, stacklevel=1)
        chunks = iter([wav])
    for chunk in chunks:
        if args.gain is not None and (np.abs(chunk) > 1).any():
            message = f"--gain {args.gain:g} is too much: the loudest samples are clipped"
            warnings.warn(message, SoproWarning, stacklevel=1)
        yield chunk


def _write_beside(beside: list[tuple[str, Callable[[Speech, str], str]]], said: Said, speed: float) -> None:
    """Subtitles and JSON; of several texts (a line each) together."""
    if beside and said.speeches:
        whole = subtitles.joined(said.speeches, [len(text) + 1 for text in said.texts], said.starts, speed)
        for path, make in beside:
            subtitles.write(path, make(whole, "\n".join(said.texts)))
