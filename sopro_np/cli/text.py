"""`sopro-np text`: what will be said instead of a text, and which rules made it so."""

from __future__ import annotations

import argparse
import json
import sys

from sopro_np.cli.texts import read_texts
from sopro_np.text.normalise import Spoken, normalise, read_lexicon


def text(args: argparse.Namespace) -> int:
    """The spoken form on stdout, a line per paragraph; the rules that fired, one a line, on stderr."""
    [given] = (text.text for text in read_texts(args.text, args.file))
    lexicon = read_lexicon(args.lexicon) if args.lexicon else None
    spoken = normalise(given, day_first=args.day_first, lexicon=lexicon, lenient=args.lenient)
    if args.json:
        json.dump(facts(spoken), sys.stdout, ensure_ascii=False, indent=1)
        print()
        return 0
    for paragraph in spoken.text.split("\n\n"):
        print(paragraph)
    for fired in spoken.fired:
        print(f"{fired.rule}: {fired.before!r} -> {fired.after!r}", file=sys.stderr)
    if spoken.dropped:
        print(f"left out: {spoken.dropped!r}", file=sys.stderr)
    return 0


def facts(spoken: Spoken) -> dict[str, object]:
    """What --json prints: paragraphs with their span in the text given, rules that fired, what was left out."""
    paragraphs, at = [], 0
    for paragraph in spoken.text.split("\n\n"):
        start, end = spoken.span(at, at + len(paragraph))
        paragraphs.append({"text": paragraph, "start": start, "end": end})
        at += len(paragraph) + 2
    fired = [
        {"rule": f.rule, "start": f.start, "end": f.end, "before": f.before, "after": f.after} for f in spoken.fired
    ]
    return {"text": spoken.text, "paragraphs": paragraphs, "fired": fired, "dropped": spoken.dropped}
