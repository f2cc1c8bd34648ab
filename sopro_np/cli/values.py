"""Values of options, read from the command line."""

from __future__ import annotations

import argparse
import re


def lexicon(path: str) -> dict[str, str]:
    from sopro_np.text.normalise import read_lexicon

    return read_lexicon(path)


def counts(text: str) -> list[int]:
    words = text.split(",")
    if not all(re.fullmatch("[0-9]{1,4}", word) and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers from 1 to 9999 are needed, with commas between them")
    return [int(word) for word in words]


def frames(text: str) -> int | None:
    try:
        return None if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number, or all") from None
