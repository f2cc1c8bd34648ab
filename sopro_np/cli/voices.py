"""`sopro-np voices` and `sopro-np voice`: voices that have names, and making one from a recording."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from sopro_np.engine import open_model
from sopro_np.errors import SoproWarning, UsageError
from sopro_np.files import is_stream, voices_dir
from sopro_np.locate import EMBEDDED, NAME, VOICE_SUFFIX, all_voices, find_model, voice_name, voices_named
from sopro_np.wav import check_target

MOST_SECONDS = 60  # of a recording


def run(args: argparse.Namespace) -> int:
    """Names of the voices that fit the model, its own first, one a line; or as JSON, with their files."""
    model = find_model(args.model, tell=False)
    with open_model(model) as tts:
        names = tts.voices()
    if args.json:
        known = {name: (path, default) for name, path, default in all_voices(model)}
        voices = [{"name": n, "file": str(known[n][0]), "default": known[n][1]} for n in names if n in known]
        print(json.dumps({"voices": voices}, indent=1, ensure_ascii=False))
    else:
        print("".join(f"{name}\n" for name in names), end="")
    return 0


def make_voice(args: argparse.Namespace) -> int:
    """Recording -> voice file."""
    if args.seconds is not None and not 0 < args.seconds <= MOST_SECONDS:
        raise UsageError(f"--seconds {args.seconds:g} must be more than 0 and at most {MOST_SECONDS}")
    out = args.out if args.name is None else _kept(args.name, args.force)
    if out == "-" or is_stream(out):
        raise UsageError(f"-o {out}: a voice is kept in an ordinary file: name one, e.g. me.voice.safetensors")
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
    name = voice_name(name)
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: letters, digits and . _ + - are allowed, no folder; for a file use -o")
    folder = voices_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); set SOPRO_NP_VOICES to a folder") from None
    if there := voices_named(name, folder):  # in any case: it is called by any
        if not force:
            raise UsageError(f"{there[0]}: there is a voice of that name already; --force replaces it")
        return str(there[0])
    if voices_named(name, EMBEDDED.parent):
        warnings.warn(f"{name}: from now on this voice, and not the embedded one", SoproWarning, stacklevel=1)
    return str(folder / f"{name}{VOICE_SUFFIX}")
