"""`sopro-np say` and `sopro-np voice`."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sopro_np.cli.subtitles import as_json, srt, vtt, write
from sopro_np.engine import open_model
from sopro_np.errors import SoproWarning, UsageError
from sopro_np.locate import find_model, find_voice
from sopro_np.modelfile import check_kind
from sopro_np.options import DEFAULTS, Options
from sopro_np.tensorfile import TensorFile
from sopro_np.wav import WavWriter, check_target

MAX_TEXT_BYTES = 1 << 20


def say(args: argparse.Namespace) -> int:
    """Text -> audio file, stdout or a pipe."""
    text = _read_text(args.text)
    given = {name: getattr(args, name) for name in Options.names() if hasattr(args, name)}
    Options.of(given)  # what is wrong with them is said before a model is read
    model = find_model(args.model)
    check_kind(TensorFile(model))  # before a voice for it is asked for
    saved = find_voice(args.voice, model) if args.ref is None else None
    beside = [(path, make) for path, make in ((args.srt, srt), (args.vtt, vtt), (args.json, as_json)) if path]
    for target in (args.out, *(path for path, _ in beside)):
        check_target(target, (model, args.ref, saved))
    tts = open_model(model, args.threads, args.ops)
    batch = tts.batch(1)
    job = batch.add(text, tts.load_voice(saved) if saved else tts.voice(args.ref), keep=False, **given)
    started = time.perf_counter()
    chunks = _with_progress(tts.chunks(batch, job), tts.sample_rate, args.quiet)
    length = None
    if not args.stream and not os.path.isfile(args.out) and (args.out == "-" or os.path.exists(args.out)):
        wav = np.concatenate([np.zeros(0, np.float32), *chunks])
        chunks, length = iter([wav]), len(wav)  # known beforehand: even a pipe gets a true header
    with WavWriter(args.out, tts.sample_rate, raw=args.raw, samples=length) as writer:
        for chunk in chunks:
            writer.write(chunk)
    speech = job.speech
    assert speech is not None
    for path, make in beside:
        write(path, make(speech, text))
    seconds, took = job.samples / tts.sample_rate, time.perf_counter() - started
    if not args.quiet:
        where = "stdout" if args.out == "-" else args.out
        print(f"{where}: {seconds:.2f} s of speech in {took:.2f} s, seed {speech.seed}", file=sys.stderr)
    if speech.finish_reason == "length":
        most = given.get("max_frames", DEFAULTS.max_frames)
        warnings.warn(
            f"the text did not end within {most} frames; it may be cut off (split it, or raise --max-frames)",
            SoproWarning,
            stacklevel=1,
        )
    if not speech.frames:
        warnings.warn("the model ended at once and said nothing; try another --seed", SoproWarning, stacklevel=1)
    return int(args.strict_check and bool(speech.check))


def _read_text(text: str) -> str:
    if text != "-":
        return text
    if sys.stdin is None:
        raise UsageError("standard input is closed; give the text as an argument")
    raw = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(raw) > MAX_TEXT_BYTES:
        raise UsageError("the text on standard input is longer than 1 MiB: split it")
    try:
        return raw.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")  # what an editor or echo adds
    except UnicodeDecodeError as error:
        raise UsageError(f"the text on standard input is not UTF-8 ({error.reason} at byte {error.start})") from None


def _with_progress(chunks: Iterator[np.ndarray], sample_rate: int, quiet: bool) -> Iterator[np.ndarray]:
    """The same chunks; seconds so far on stderr, if somebody watches it."""
    if quiet or not sys.stderr.isatty():
        yield from chunks
        return
    seconds = 0.0
    for chunk in chunks:
        seconds += len(chunk) / sample_rate
        print(f"\r{seconds:6.1f} s", end="", file=sys.stderr, flush=True)
        yield chunk
    print("\r" + " " * 10 + "\r", end="", file=sys.stderr)


def make_voice(args: argparse.Namespace) -> int:
    """Recording -> voice file."""
    if args.seconds is not None and not 0 < args.seconds <= 60:
        raise UsageError(f"--seconds {args.seconds:g} must be more than 0 and at most 60")
    model = find_model(args.model)
    check_target(args.out, (model, args.ref))
    tts = open_model(model, args.threads, args.ops)
    voice = tts.voice(args.ref, args.seconds)
    voice.save(args.out)
    seconds = len(voice.codes) / tts.model.config.frame_rate
    size = Path(args.out).stat().st_size
    print(f"{args.out}: {seconds:.1f} s of reference, {size} bytes", file=sys.stderr)
    return 0
