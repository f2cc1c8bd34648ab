"""The scalars of a tokenizer as its file keeps them, and what is done to a text by them before it is cut into words."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray


class Settings(NamedTuple):
    """The scalars of a tokenizer, as stored in `tokenizer.settings`.

    The Unicode data of the reference implementation is part of the tokenizer, so that ids do not depend on
    the version that this Python or `regex` happens to know.
    """

    bos: int | None  # before and after the ids of a text; None: neither
    eos: int | None
    unk: int | None  # stands for a byte that is not in the vocabulary; None: such bytes vanish
    fuse_unk: bool  # a run of unknown bytes is one unk
    ignore_merges: bool  # a word that is in the vocabulary is taken whole
    normalizer: list[str]  # of Lowercase, NFC, NFD, NFKC, NFKD, in order
    split: list[str]  # regular expressions; matches and the text between them become pieces
    add_prefix_space: bool  # every piece of `split` starts with a space
    split_bytes: list[str]  # as `split`, after the prefix space
    unassigned: str  # code points younger than the reference's patterns: "41-5A 61"
    inert: str  # code points that its NFC & co. leave alone and newer versions do not
    lower: dict[str, str]  # lower case of capitals that this Python may not know yet
    vocabulary: str = ""  # the name of what it was limited to (convert --vocabulary); "": the published one
    alphabet: str = ""  # the characters that a limited one knows: "41-5A 61"

    def stored(self) -> NDArray[np.uint8]:
        """As they lie in the file; what an unlimited vocabulary does not need is left out."""
        needed = {key: value for key, value in self._asdict().items() if key not in _LIMITS or value}
        return np.frombuffer(json.dumps(needed).encode(), np.uint8)


_LIMITS = ("vocabulary", "alphabet")


def code_points(table: str) -> re.Pattern[str]:
    """'41-5A 61' -> an expression that matches, and captures, one of these characters."""
    return re.compile(f"([{_ranges(table)}])" if table else "((?!))")


def others(table: str) -> re.Pattern[str]:
    """'41-5A 61' -> an expression that matches any character but these."""
    return re.compile(f"[^{_ranges(table)}]" if table else "[\\s\\S]")


def _ranges(table: str) -> str:
    ends = ([re.escape(chr(int(x, 16))) for x in item.split("-")] for item in table.split())
    return "".join("-".join(pair) for pair in ends)


def normalize(text: str, steps: Sequence[str], inert: re.Pattern[str], lower: Mapping[str, str]) -> str:
    """Apply the named steps in order; see `Settings`."""
    for step in steps:
        if step == "Lowercase":  # character by character: a capital sigma (U+03A3) has no final form
            small = {ord(capital): letter for capital, letter in lower.items()}
            text = text.translate({0x3A3: "\u03c3", **small}).lower()
        else:
            form = cast(Literal["NFC", "NFD", "NFKC", "NFKD"], step)
            parts = inert.split(text)  # the odd ones are inert characters
            parts[::2] = [unicodedata.normalize(form, part) for part in parts[::2]]
            text = "".join(parts)
    return text
