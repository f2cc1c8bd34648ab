"""How fast does a model speak whose lessons are not at hand? It says texts of 1 to 25 words, and these are measured.

    python tools/measure_pace.py [MODEL] [--voice NAME|FILE ...] [--longest CHARACTERS] [--write]

Codebook 0 is all that is needed; what did not end by itself does not count. Texts, voices and seeds never vary.
With `--write` the pace becomes part of the file, whose tensors stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.engine import Sopro, open_model
from sopro_np.errors import SoproError, UsageError
from sopro_np.evaluate.texts import built_in
from sopro_np.locate import find_model
from sopro_np.options import Options
from sopro_np.pace import Pace
from sopro_np.voice import Voice
from tools.train import pace

WORDS = 25
FEWEST = 10  # utterances


def texts(each: int) -> Iterator[str]:
    """`each` texts of every number of words from 1 to WORDS, cut out of the sentences of `sopro-np eval`."""
    words = " ".join(t.text.rstrip(".?!") for t in built_in()).split()
    for count in range(1, WORDS + 1):
        for i in range(each):
            at = (i * 37 + count * 11) % (len(words) - count)
            yield " ".join(words[at : at + count]).strip(",;") + "."


def frames_said(tts: Sopro, text: str, voice: Voice, seed: int) -> int | None:
    """Frames of a text under one seed; None: it did not end by itself."""
    session = tts.session(text, voice, Options(seed=seed))
    while session.finish_reason is None:
        session.advance()
    return len(session.first_codes) or None if session.finish_reason == "stop" else None


def measured(tts: Sopro, names: Sequence[str], texts_each: int, seeds: int, longest: int | None) -> Pace:
    """Over these voices, else over all that fit the model; of texts up to `longest`, or of all that end."""
    voices = [tts.load_voice(name) for name in names or tts.voices()]
    if not voices:
        raise UsageError("no saved voice fits this model: name some with --voice")
    said: list[tuple[int, int]] = []
    tried = 0
    for i, text in enumerate(texts(texts_each)):
        if longest is not None and len(text) > longest:
            continue
        for seed in range(1, seeds + 1):
            tried += 1
            if frames := frames_said(tts, text, voices[(i + seed) % len(voices)], seed):
                said.append((len(text), frames))
    print(f"{len(said)} of {tried} utterances ended by themselves", file=sys.stderr)
    if len(said) < FEWEST:
        raise UsageError(f"only {len(said)} utterances ended by themselves: that is no measure of a pace")
    found = pace.measure(*zip(*said, strict=True))
    return found if longest is None else dataclasses.replace(found, longest=longest)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="a file or a name; the embedded one if left out")
    parser.add_argument("--voice", action="append", default=[], metavar="NAME|FILE", help="repeatable; default: all")
    parser.add_argument("--texts", type=int, default=8, metavar="N", help="of every number of words (default 8)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--longest", type=int, metavar="CHARACTERS", help="that the model is to say at once")
    parser.add_argument("--write", action="store_true", help="into the file")
    args = parser.parse_args()
    try:
        path = find_model(args.model, tell=False)
        with open_model(path) as tts:
            found = measured(tts, args.voice, args.texts, args.seeds, args.longest)
        if args.write:
            pace.write(path, found)
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(dataclasses.asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
