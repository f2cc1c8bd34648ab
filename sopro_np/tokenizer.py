"""Text -> token ids: byte-level BPE on memory-mapped tables, without the `tokenizers` library.

The converter (`sopro_np/convert/tokenizer.py`) compiles a tokenizer.json to the arrays below. They are only
probed: a load reads a few pages and builds no dictionary of the vocabulary. V ids, M merges, A added tokens:

    tokenizer.settings       U8  [n]     UTF-8 JSON: the scalars and patterns (see `tokenizer_settings.Settings`)
    tokenizer.byte_ids       I32 [256]   id of each single byte, -1: not in the vocabulary
    tokenizer.vocab_bytes    U8  [sum]   the bytes of every id, one after the other ...
    tokenizer.vocab_offsets  I32 [V+1]   ... id i is vocab_bytes[offsets[i]:offsets[i+1]]
    tokenizer.vocab_slots    I32 [2^k]   open-addressing hash: bytes -> id, -1: free
    tokenizer.merges         I32 [M, 3]  ids (left, right, joined); the row number is the rank, low ones first
    tokenizer.merge_slots    I32 [2^m]   open-addressing hash: (left, right) -> rank, -1: free
    tokenizer.added_bytes    U8  [sum]   the text of every added token (UTF-8, already normalized if need be)
    tokenizer.added_offsets  I32 [A+1]
    tokenizer.added_ids      I32 [A]
    tokenizer.added_flags    U8  [A]     sum of NORMALIZED, LSTRIP, RSTRIP, SINGLE_WORD

A text passes: added tokens are cut out | normalizer | normalized added tokens are cut out | patterns cut it
into words | UTF-8 bytes | merges, lowest rank first (Sennrich et al. 2016; on bytes: Radford et al. 2019).
"""

from __future__ import annotations

import heapq
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from sopro_np.errors import FormatError, UsageError
from sopro_np.text.sayable import named
from sopro_np.tokenizer_settings import Settings, code_points, normalize, others

PREFIX = "tokenizer."
DTYPES = {
    "settings": np.uint8, "byte_ids": np.int32,
    "vocab_bytes": np.uint8, "vocab_offsets": np.int32, "vocab_slots": np.int32,
    "merges": np.int32, "merge_slots": np.int32,
    "added_bytes": np.uint8, "added_offsets": np.int32, "added_ids": np.int32, "added_flags": np.uint8,
}  # fmt: skip
NORMALIZED, LSTRIP, RSTRIP, SINGLE_WORD = 1, 2, 4, 8
CACHED_WORDS, CACHED_BYTES = 2048, 48  # at most ~1 MB; longer words hardly ever come again
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_WORD = regex.compile(r"\w")


def bytes_slot(word: bytes, bits: int) -> int:
    """First slot of `word` in a hash table of 2^bits slots."""
    return zlib.crc32(word) >> (32 - bits)


def pair_slot(left: int, right: int, bits: int) -> int:
    """First slot of the merge (left, right) in a hash table of 2^bits slots."""
    return ((left * 0x9E3779B1 + right * 0x85EBCA6B) & 0xFFFFFFFF) >> (32 - bits)


class _AddedTokens:
    """Finds added tokens in a text: leftmost first, the longest of those that start there."""

    def __init__(self, tokens: Sequence[tuple[str, int, int]], unassigned: re.Pattern[str]) -> None:
        self.tokens = {text: (index, flags) for text, index, flags in reversed(tokens)}  # the first of equals
        self.lengths = sorted({len(text) for text in self.tokens}, reverse=True)
        self.start = code_points(" ".join(f"{ord(c):X}" for c in sorted({text[0] for text in self.tokens})))
        self.unassigned = unassigned

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """-> (piece, None) or (token text, id), in order, without empty pieces."""
        done = at = 0
        while match := self.start.search(text, at):
            start = match.start()
            candidates = (text[start : start + n] for n in self.lengths)
            found = next((candidate for candidate in candidates if candidate in self.tokens), "")
            at = stop = start + (len(found) or 1)
            index, flags = self.tokens.get(found, (-1, 0))
            around = text[max(start - 1, 0) : start] + text[stop : stop + 1]
            if index < 0 or (flags & SINGLE_WORD and _WORD.search(self.unassigned.sub("\uffff", around))):
                continue
            if flags & LSTRIP:
                start = max(len(text[:start].rstrip(_SPACE)), done)
            if flags & RSTRIP:
                stop = len(text) - len(text[stop:].lstrip(_SPACE))
            if done < start:
                yield text[done:start], None
            yield found, index
            done = stop
        if done < len(text):
            yield text[done:], None


class Tokenizer:
    """The tokenizer of one model. `encode` may be called from several threads.

    `tensors` maps full names (`tokenizer.byte_ids`, ...) to arrays, memory-mapped or not; other names are
    ignored. Sizes and small tables are checked here, an entry of a large table when it is used.
    `vocab_size` is the largest id + 1, added tokens included: the rows an embedding needs.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        names = {name.removeprefix(PREFIX) for name in tensors if name.startswith(PREFIX)}
        odd = ", ".join(PREFIX + name for name in sorted(names ^ DTYPES.keys()))
        _check(not odd, f"missing or unknown tensors: {odd}")
        arrays = {name: tensors[PREFIX + name] for name in DTYPES}
        for name, array in arrays.items():
            _check(array.dtype == DTYPES[name], f"dtype {array.dtype} of {name}")
            row = (3,) if name == "merges" else ()
            _check(array.ndim > 0 and array.shape[1:] == row, f"shape {array.shape} of {name}")
        for name in ("vocab_slots", "merge_slots"):
            size = len(arrays[name])
            _check(1 < size == 1 << size.bit_length() - 1, f"{size} entries of {name}: not a power of two")
        for name in ("vocab", "added"):
            offsets = arrays[name + "_offsets"]
            good = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(arrays[name + "_bytes"])
            _check(good, f"{name}_offsets and {name}_bytes do not fit together")
        self.vocab_size = len(arrays["vocab_offsets"]) - 1
        byte_ids, added_ids, flags = (arrays[x].tolist() for x in ("byte_ids", "added_ids", "added_flags"))
        bounds = arrays["added_offsets"].tolist()
        _check(len(byte_ids) == 256 and all(-1 <= i < self.vocab_size for i in byte_ids), "byte_ids")
        _check(all(0 <= i < self.vocab_size for i in added_ids), "added_ids out of range")
        _check(len(flags) == len(added_ids) == len(bounds) - 1, "added_ids, added_flags, added_offsets")
        _check(all(a < b for a, b in pairwise(bounds)), "added_offsets do not increase")

        try:
            self.settings = s = Settings(**json.loads(arrays["settings"].tobytes()))
            _check(s.unk is None or 0 <= s.unk < self.vocab_size, "unk is out of range")
            ends = [i for i in (s.bos, s.eos) if i is not None]
            _check(len(ends) != 1 and all(type(i) is int and 0 <= i < self.vocab_size for i in ends), "bos or eos")
            texts = [arrays["added_bytes"][a:b].tobytes().decode() for a, b in pairwise(bounds)]
            self._split = [regex.compile(pattern, regex.V0) for pattern in s.split]
            self._split_bytes = [regex.compile(pattern, regex.V0) for pattern in s.split_bytes]
            self._unassigned, self._inert = code_points(s.unassigned), code_points(s.inert)
            self._unknown = others(s.alphabet) if s.alphabet else None
            normalize("A", s.normalizer, self._inert, s.lower)
        except (ValueError, TypeError, AttributeError, OverflowError, regex.error, re.error) as error:
            raise FormatError(f"damaged tokenizer: settings or added tokens: {error}") from error
        self.bos, self.eos, self._first, self._last = s.bos, s.eos, ends[:1], ends[1:]
        added = list(zip(texts, added_ids, flags, strict=True))
        self._added, self._added_normalized = (
            _AddedTokens([token for token in added if token[2] & NORMALIZED == kind], self._unassigned)
            for kind in (0, NORMALIZED)
        )
        # Memory views: an index costs a third of NumPy's and gives a Python int. Nothing aligned is copied.
        self._byte_ids = byte_ids
        self._vocab, self._offsets, self._vocab_slots, self._merges, self._merge_slots = (
            np.require(arrays[name].reshape(-1), requirements="A").data
            for name in ("vocab_bytes", "vocab_offsets", "vocab_slots", "merges", "merge_slots")
        )
        self._cached_word = lru_cache(CACHED_WORDS)(self._word)

    def check(self, text: str) -> None:
        """UsageError: a lone surrogate (not text), or characters that a limited vocabulary does not know."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"character {error.start} of the text is a lone surrogate, not text") from None
        if self._unknown is not None and (odd := self._unknown.findall(text)):
            raise UsageError(
                f"the text has characters that the vocabulary of this model file ({self.settings.vocabulary}) does not "
                f"know: {named(''.join(odd))}; leave them out, or use a file that was converted without --vocabulary"
            )

    def encode(self, text: str) -> NDArray[np.int32]:
        """-> [bos] + ids + [eos], int32 (S,), S > 0. UsageError: as `check`, or no id at all."""
        self.check(text)
        ids = list(self._first)
        try:
            for part, token in self._tokens_and_pieces(text):
                if token is not None:
                    ids.append(token)
                    continue
                for word in self._words(part):
                    ids += self._cached_word(word) if len(word) <= CACHED_BYTES else self._word(word)
        except IndexError:
            raise FormatError("damaged tokenizer: an entry points outside its table") from None
        if not (ids := ids + self._last):
            raise UsageError("the text has no character that this model's tokenizer knows")
        return np.array(ids, np.int32)

    def _tokens_and_pieces(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Cut added tokens out of a text and normalize the rest: (piece, None) or (token, id)."""
        s = self.settings
        for part, token in self._added.split(text):
            if token is not None:
                yield part, token
            else:
                yield from self._added_normalized.split(normalize(part, s.normalizer, self._inert, s.lower))

    def _words(self, text: str) -> Iterator[bytes]:
        """Cut a piece into the words that are merged on their own, as UTF-8."""
        pieces = [text]
        for pattern in self._split:
            pieces = [part for piece in pieces for part in self._cut(pattern, piece)]
        if self.settings.add_prefix_space:
            pieces = [piece if piece.startswith(" ") else " " + piece for piece in pieces]
        for pattern in self._split_bytes:
            pieces = [part for piece in pieces for part in self._cut(pattern, piece)]
        return (piece.encode() for piece in pieces)

    def _cut(self, pattern: regex.Pattern[str], text: str) -> Iterator[str]:
        """Matches and what lies between them, in order, without empty pieces.

        After an empty match the search goes on one character further, as Oniguruma does (`regex` retries).
        """
        seen, cuts, at, last = text, [0], 0, -1
        if not text.isascii():  # as the reference sees it, same length; U+0295 was Ll until Unicode 17
            seen = self._unassigned.sub("\uffff", text).replace("\u0295", "\u0296")
        while match := pattern.search(seen, at):
            start, at = match.span()
            if start == at == last:
                at += 1
                if at > len(text):
                    break
                continue
            cuts += start, at
            last = at
        return (text[a:b] for a, b in pairwise([*cuts, len(text)]) if a < b)

    def _word(self, word: bytes) -> list[int]:
        """The ids of one word."""
        if self.settings.ignore_merges and (whole := self._find_word(word)) >= 0:
            return [whole]
        ids = [self._byte_ids[byte] for byte in word]
        return self._merge(self._with_unk(ids) if -1 in ids else ids)

    def _with_unk(self, ids: list[int]) -> list[int]:
        """Replace unknown bytes (-1)."""
        unk, fuse = self.settings.unk, self.settings.fuse_unk
        if unk is None:
            return [i for i in ids if i >= 0]
        fused = [i for k, i in enumerate(ids) if not (fuse and k and i == ids[k - 1] == -1)]
        return [unk if i < 0 else i for i in fused]

    def _merge(self, ids: list[int]) -> list[int]:
        """Join neighbours, lowest rank first, the leftmost of equals; O(n log n) for n bytes."""
        n = len(ids)
        rank = [self._find_merge(a, b) for a, b in pairwise(ids)] + [-1]  # of (i, its right neighbour)
        before, after = list(range(-1, n - 1)), list(range(1, n + 1))
        queue = [r * n + i for i, r in enumerate(rank) if r >= 0]
        heapq.heapify(queue)
        while queue:
            r, i = divmod(heapq.heappop(queue), n)
            joined = self._merges[3 * r + 2]
            # An entry whose neighbours have changed since is out of date. Like the reference, compare the
            # result and not the rank: two merges may make the same token.
            if rank[i] < 0 or self._merges[3 * rank[i] + 2] != joined:
                continue
            if not 0 <= joined < self.vocab_size:
                raise FormatError(f"damaged tokenizer: merge {r} makes token {joined}, which does not exist")
            j = after[i]
            k = after[i] = after[j]
            ids[i], ids[j], rank[i], rank[j] = joined, -1, -1, -1
            if k < n:
                before[k] = i
            for left, right in ((i, k), (before[i], i)):
                if left >= 0 and right < n:
                    rank[left] = self._find_merge(ids[left], ids[right])
                    if rank[left] >= 0:
                        heapq.heappush(queue, rank[left] * n + left)
        return [i for i in ids if i >= 0]

    def _find_word(self, word: bytes) -> int:
        """Id of a whole word, -1: not in the vocabulary."""
        slots, offsets, mask = self._vocab_slots, self._offsets, len(self._vocab_slots) - 1
        first = bytes_slot(word, mask.bit_length())
        for step in range(mask + 1):
            index: int = slots[first + step & mask]
            if index < 0 or self._vocab[offsets[index] : offsets[index + 1]] == word:
                return index
        raise FormatError("damaged tokenizer: vocab_slots is full")

    def _find_merge(self, left: int, right: int) -> int:
        """Rank of the merge of two ids, -1: they do not merge."""
        slots, merges, mask = self._merge_slots, self._merges, len(self._merge_slots) - 1
        first = pair_slot(left, right, mask.bit_length())
        for step in range(mask + 1):
            rank: int = slots[first + step & mask]
            if rank < 0 or (merges[3 * rank] == left and merges[3 * rank + 1] == right):
                return rank
        raise FormatError("damaged tokenizer: merge_slots is full")


def _check(good: bool, problem: str) -> None:
    if not good:
        raise FormatError(f"damaged tokenizer: {problem}; convert it again")
