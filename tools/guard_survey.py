"""How often does speech go wrong, and what does the guard make of it? Codebook 0 alone, so no audio is made.

    python tools/guard_survey.py [MODEL] [--voice NAME|FILE] [--sentences 100] [--seeds 5] [--word-seeds 20]

Three ways: `whole`, every text as it is given to `codes`; `split`, by way of the front end, but unguarded; `guarded`,
as people hear it. Sentences have 1 to 30 words; single words have no full stop. Per way, of all utterances (pieces of
text that the model is given at once): those said again, those cut at their budget or in a loop, those that ran into
the limit of frames; then the longest text in seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.engine import Sopro, open_model
from sopro_np.errors import SoproError
from sopro_np.evaluate.texts import built_in
from sopro_np.locate import find_model, find_voice
from sopro_np.options import Options
from sopro_np.session import Session
from sopro_np.voice import Voice

WORDS = ("Sopro", "Hello", "a", "okay")
MOST_WORDS = 30
WAYS = ("whole", "split", "guarded")


@dataclass
class Count:
    """Utterances, and how many of them went wrong in which way; frames of the longest text."""

    utterances: int = 0
    again: int = 0
    cut: int = 0
    runaway: int = 0
    frames: int = 0

    def line(self, way: str, frame_rate: float) -> str:
        shares = (f"{100 * n / max(1, self.utterances):6.2f} %" for n in (self.again, self.cut, self.runaway))
        return f"| {way:8} | {self.utterances:5} | {' | '.join(shares)} | {self.frames / frame_rate:5.1f} s |"


def sentences(count: int) -> list[str]:
    """So many texts of 1, 2, ... MOST_WORDS, 1, ... words, cut out of the sentences of `sopro-np eval`."""
    words = " ".join(t.text.rstrip(".?!") for t in built_in()).split()
    found, at = [], 0
    for i in range(count):
        length = 1 + i % MOST_WORDS
        chosen = [words[(at + k) % len(words)] for k in range(length)]
        at += length
        found.append(" ".join(chosen).strip(",;").capitalize() + ".")
    return found


def utterances(tts: Sopro, text: str, voice: Voice, seed: int, way: str) -> Iterator[Session]:
    """What the model is given for a text, one after the other."""
    options = Options(seed=seed, guard=way == "guarded")
    if way == "whole":
        yield tts.session(text, voice, options)
        return
    script = tts._write(text, voice, options)
    for position, piece in enumerate(script.pieces):
        if piece.text:
            yield script.begin(piece, position)[0]


def survey(tts: Sopro, texts: Sequence[str], voice: Voice, seeds: int, way: str) -> Count:
    """All texts under seeds 1, 2, ..."""
    count = Count()
    for text in texts:
        for seed in range(1, seeds + 1):
            frames = 0
            for session in utterances(tts, text, voice, seed, way):
                while session.finish_reason is None:
                    session.advance()
                count.utterances += 1
                count.again += session.guard is not None and len(session.guard.tries) > 1
                count.cut += session.finish_reason == "cut"
                count.runaway += session.finish_reason == "length"
                frames += len(session.first_codes)
            count.frames = max(count.frames, frames)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="a file or a name; the embedded one if left out")
    parser.add_argument("--voice", metavar="NAME|FILE", help="default: the model's own")
    parser.add_argument("--sentences", type=int, default=100, metavar="N")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="of every sentence")
    parser.add_argument("--word-seeds", type=int, default=20, metavar="N", help=f"of {', '.join(WORDS)}")
    args = parser.parse_args()
    try:
        path = find_model(args.model, tell=False)
        with open_model(path) as tts:
            voice = tts.load_voice(find_voice(args.voice, path))
            for what, texts, seeds in (
                (f"{args.sentences} sentences of 1 to {MOST_WORDS} words, {args.seeds} seeds",
                 sentences(args.sentences), args.seeds),
                (f"{', '.join(WORDS)} without a full stop, {args.word_seeds} seeds", WORDS, args.word_seeds),
            ):  # fmt: skip
                print(
                    f"{what}\n\n| way | utterances | said again | cut | no end | longest |\n|---|---|---|---|---|---|"
                )
                for way in WAYS:
                    print(survey(tts, texts, voice, seeds, way).line(way, tts.model.config.frame_rate), flush=True)
                print()
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
