"""A vocabulary limited to one script: the tokens that its text can reach, their rows of the embedding, and no others.

Every id stays what it was. An id is reached by a text over an alphabet if it is that of a byte, of an added token, or
what two reached ids merge to; and what a merge makes, or a word that is taken whole, is a stretch of the text's bytes.
So tokens whose bytes occur in no text over the alphabet, and the merges that make them, can go: no text over it is
split in another way. (Only where bytes have no id, so that their neighbours meet, merges alone decide.)
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

from sopro_np.convert.plan import Matrix, Part
from sopro_np.convert.tokenizer import merge_table, offsets, word_table
from sopro_np.errors import UsageError
from sopro_np.tokenizer import PREFIX
from sopro_np.tokenizer_settings import Settings, code_points, normalize

# Letters of the script, and what belongs to no script or to several with this one: digits, punctuation, symbols,
# accents. As the `regex` that converts knows Unicode; the file keeps the list.
ALPHABETS = {"latin": r"[\p{scx=Latin}\p{scx=Common}\p{scx=Inherited}]"}
EMBEDDING, ROWS = "sopro.text.embed.weight", "sopro.text.rows"
READ_ROWS = 1 << 13  # of the embedding at once

Arrays = dict[str, NDArray[Any]]


class Reach(NamedTuple):
    """What the UTF-8 of texts over an alphabet is made of: characters, and pieces of one character's bytes."""

    characters: frozenset[str]
    starts: frozenset[bytes]
    inner: frozenset[bytes]
    ends: frozenset[bytes]

    def holds(self, word: bytes) -> bool:
        """Are these bytes a stretch of such a text?"""
        tail = next((k for k, byte in enumerate(word) if byte & 0xC0 != 0x80), len(word))
        if tail == len(word):
            return word in self.inner
        if tail and word[:tail] not in self.ends:
            return False
        try:
            text, start = word[tail:].decode(), b""
        except UnicodeDecodeError as error:
            at = tail + error.start
            text, start = word[tail:at].decode(), word[at:]
        return self.characters.issuperset(text) and (not start or start in self.starts)


def limit_vocabulary(parts: list[Part], name: str) -> None:
    """Leave out of the planned parts what no text over that alphabet can reach. UsageError without a tokenizer."""
    tokenizer = next((part for part in parts if part.prefix == "tokenizer"), None)
    if tokenizer is None:
        raise UsageError(
            f"vocabulary {name}: what such text can reach is read off the tokenizer: give --tokenizer, too"
        )
    tokenizer.arrays, ids = limited(tokenizer.arrays, name)
    for part in parts:
        for i, matrix in enumerate(part.matrices):
            if matrix.name == EMBEDDING:
                rows = np.full(matrix.rows, -1, np.int32)
                rows[ids] = np.arange(len(ids))
                part.arrays[ROWS] = rows
                part.matrices[i] = _chosen(matrix, ids)


def _chosen(m: Matrix, ids: NDArray[np.int64]) -> Matrix:
    """The matrix of some rows of another, read a stretch of rows at a time."""

    def produce(a: int, b: int) -> np.ndarray:
        wanted, pieces = ids[a:b], [np.zeros((0, m.inputs), np.float32)]
        for first in range(int(wanted[0]), int(wanted[-1]) + 1, READ_ROWS):
            last = min(first + READ_ROWS, m.rows)
            inside = wanted[(wanted >= first) & (wanted < last)]
            if len(inside):
                pieces.append(m.produce(first, last)[inside - first])
        return np.concatenate(pieces)

    return dataclasses.replace(m, rows=len(ids), produce=produce)


def limited(arrays: Arrays, name: str) -> tuple[Arrays, NDArray[np.int64]]:
    """A compiled tokenizer -> the same for texts over an alphabet, and its ids in order."""
    own = {key.removeprefix(PREFIX): array for key, array in arrays.items()}
    settings = Settings(**json.loads(own["settings"].tobytes()))
    allowed = regex.findall(ALPHABETS[name], _all_characters())
    reach = _reach(_normalized(allowed, settings))

    words = _slices(own["vocab_bytes"], own["vocab_offsets"])
    within = np.fromiter((bool(word) and reach.holds(word) for word in words), np.bool_, len(words))
    occurring = {byte for c in reach.characters for byte in c.encode()}
    base = {int(own["byte_ids"][byte]) for byte in occurring}
    if gaps := -1 in base:  # bytes vanish or become unk: what was apart before may merge
        base = base - {-1} | ({settings.unk} if settings.unk is not None else set())
    kept = np.zeros(len(words), np.bool_)
    kept[sorted(base)] = True
    if settings.ignore_merges:
        kept |= within
    left, right, joined = own["merges"].T
    while True:
        ok = kept[left] & kept[right] & (within[joined] | gaps)
        if kept[joined[ok]].all():
            break
        kept[joined[ok]] = True

    texts = _slices(own["added_bytes"], own["added_offsets"])
    added = [k for k, text in enumerate(texts) if reach.characters.issuperset(text.decode())]
    limited_words = [word if keep else b"" for word, keep in zip(words, kept, strict=True)]
    merges = own["merges"][ok]
    settings = settings._replace(vocabulary=name, alphabet=_ranges(allowed))
    byte_ids = np.where(np.isin(np.arange(256), sorted(occurring)), own["byte_ids"], -1)
    new: Arrays = {
        **own,
        "settings": settings.stored(),
        "byte_ids": byte_ids.astype(np.int32),
        "vocab_bytes": np.frombuffer(b"".join(limited_words), np.uint8),
        "vocab_offsets": offsets(limited_words),
        "vocab_slots": word_table(limited_words),
        "merges": np.ascontiguousarray(merges),
        "merge_slots": merge_table(merges.tolist()),
        "added_bytes": np.frombuffer(b"".join(texts[k] for k in added), np.uint8),
        "added_offsets": offsets([texts[k] for k in added]),
        "added_ids": own["added_ids"][added],
        "added_flags": own["added_flags"][added],
    }
    ends = [i for i in (settings.bos, settings.eos, settings.unk) if i is not None]
    ids = np.union1d(np.flatnonzero(kept), [*new["added_ids"].tolist(), *ends]).astype(np.int64)
    return {PREFIX + key: array for key, array in new.items()}, ids


@cache
def _all_characters() -> str:
    """Every code point that a text may hold, in order."""
    return "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)


@cache
def _composed() -> dict[str, str]:
    """Character -> what NFD makes of it, if that is something else."""
    pairs = ((c, unicodedata.normalize("NFD", c)) for c in _all_characters())
    return {c: parts for c, parts in pairs if parts != c}


def _normalized(allowed: list[str], settings: Settings) -> frozenset[str]:
    """Every character that the normalizer may make of texts over these."""
    inert = code_points(settings.inert)
    found, new = set(allowed), set(allowed)
    if settings.add_prefix_space:
        found.add(" ")
    while new and settings.normalizer:
        alone = "\n".join(sorted(new))  # a line end meets with nothing
        made = {c for step in settings.normalizer for c in normalize(alone, [step], inert, settings.lower)}
        if {"NFC", "NFKC"} & set(settings.normalizer):  # characters meet and become one
            known = found | made
            made |= {c for c, parts in _composed().items() if known.issuperset(parts)}
        new = made - found
        found |= new
    return frozenset(found)


def _reach(characters: frozenset[str]) -> Reach:
    starts, inner, ends = set(), set(), set()
    for word in (c.encode() for c in characters):
        for a in range(len(word)):
            ends.add(word[a:])
            starts.add(word[: a + 1])
            inner |= {word[a:b] for b in range(a + 1, len(word) + 1)}
    return Reach(characters, frozenset(starts), frozenset(inner), frozenset(ends))


def _slices(data: NDArray[np.uint8], bounds: NDArray[np.int32]) -> list[bytes]:
    whole, at = data.tobytes(), bounds.tolist()
    return [whole[a:b] for a, b in pairwise(at)]


def _ranges(characters: list[str]) -> str:
    """In order -> '41-5A 61', as `code_points` reads it."""
    codes = np.array([ord(c) for c in characters])
    cuts = np.flatnonzero(np.diff(codes) > 1)
    ends = zip(codes[np.r_[0, cuts + 1]].tolist(), codes[np.r_[cuts, len(codes) - 1]].tolist(), strict=True)
    return " ".join(f"{a:X}" if a == b else f"{a:X}-{b:X}" for a, b in ends)
