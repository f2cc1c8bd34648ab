"""A byte-level BPE tokenizer with Llama 3's splitting rules and a vocabulary made without any training text.

Merges are built level by level: frequent English letter pairs, short words, numbers, accented Latin letters,
then syllables and pairs of syllables until the vocabulary has its size (and, in the size `published`, as many words
of other scripts). Each merge joins two earlier entries
and gives a new one, as in a trained tokenizer, so ranks, ids and `ignore_merges` all matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

# Llama 3's pre-tokenizer: contractions, words with one leading mark, three digits, punctuation, white space.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOS, RIGHT_PAD, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|pad|>"
SPECIALS = [
    BOS, EOS, "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", RIGHT_PAD,
    "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    "<|python_tag|>",
]  # fmt: skip
# Entries, of which special; the pad token comes on top. `published` has other scripts, too, as the real one does.
SIZES = {"tiny": (512, 16), "full": (128_256, 256), "published": (128_256, 256)}
# Letters of other scripts: Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, kana, Han, Hangul.
SCRIPTS = ((0x3B1, 0x3C9), (0x430, 0x44F), (0x5D0, 0x5EA), (0x627, 0x64A), (0x905, 0x939), (0xE01, 0xE2E),
           (0x3041, 0x3096), (0x4E00, 0x5DFF), (0xAC00, 0xB3FF))  # fmt: skip

PAIRS = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de"
WORDS = (
    "the and ing ion you that was for are with his they this have from one had word but not what all were "
    "when we there can your which their said if do will each about how up out them then she many some so "
    "these would other into has more her two like him see time could no make than first been its who now "
    "people my made over did down only way find use may water long little very after words called just "
    "where most know hello world"
)
ONSETS = (
    "b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr pl pr qu sc sh sk sl sm sn sp st str sw th tr"
)
NUCLEI = "a e i o u ai au ea ee ei ie oa oo ou y"
CODAS = "n r s t l d m ck ng st nd ss p g x nt ll rs sh th ch b rd ns ft"


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins, in the order of its vocabulary: entry i is one of the 256 bytes."""
    return [byte_symbol(b) for b in sorted(range(256), key=lambda b: (not _printable(b), b))]


def byte_symbol(byte: int) -> str:
    """The stand-in of a byte: itself if it is printable, else the next unused character from U+0100 on."""
    return chr(byte) if _printable(byte) else chr(256 + sum(not _printable(b) for b in range(byte)))


def _printable(byte: int) -> bool:
    return 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255


def _foreign() -> Iterator[str]:
    """Texts of other scripts, script after script in turn: letters, then pairs of letters."""

    def of_one(first: int, last: int) -> Iterator[str]:
        letters = [chr(c) for c in range(first, last + 1)]
        yield from letters
        for total in range(2 * len(letters)):
            yield from (letters[i] + letters[total - i] for i in range(total + 1) if max(i, total - i) < len(letters))

    turns = [of_one(*script) for script in SCRIPTS]
    while turns:
        for script in list(turns):
            if (word := next(script, None)) is None:
                turns.remove(script)
            else:
                yield word


def _mixed() -> Iterator[str]:
    """Half of the words from here, half from elsewhere."""
    for own, other in zip(_words(), _foreign()):
        yield own
        yield other


def _words() -> Iterator[str]:
    """Texts that deserve an entry of their own, the most useful first; endless."""
    parts = product(ONSETS.split(), NUCLEI.split(), ["", *CODAS.split()])
    syllables = sorted(map("".join, parts), key=len)
    yield from PAIRS.split()
    for word in WORDS.split():
        yield from (word, " " + word, word.capitalize())
    yield from (" " + letter for letter in "abcdefghijklmnopqrstuvwxyz")
    yield from ("  ", "    ", "\n\n", "...", "--", ". ", ", ", "!!", "??")
    yield from (f"{n:0{digits}}" for digits in (2, 3) for n in range(10**digits))
    yield from map(chr, range(0xA1, 0x180))  # accented Latin letters, two bytes each
    for syllable in syllables:
        yield from (syllable, " " + syllable)
    for total in count():  # all pairs, those of small numbers first
        for i in range(min(total, len(syllables) - 1) + 1):
            if total - i < len(syllables):
                yield " " + syllables[i] + syllables[total - i]


def bpe(entries: int, scripts: bool = False) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary of `entries` texts (symbols -> id), and the merges behind all but its 256 bytes, by rank.

    `scripts`: also of other scripts than Latin.
    """
    symbol = [byte_symbol(b) for b in range(256)]
    vocabulary = {s: i for i, s in enumerate(byte_symbols())}
    merges: list[tuple[str, str]] = []
    for word in _mixed() if scripts else _words():
        text = "".join(symbol[b] for b in word.encode())
        for left, right in _joins(text, vocabulary):
            if len(vocabulary) == entries:
                return vocabulary, merges
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
    raise AssertionError("the list of words is endless")


def _joins(text: str, vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
    """The merges missing for `text`: cut it into the longest known pieces, join them from the left."""
    pieces: list[str] = []
    at = 0
    while at < len(text):
        end = next(e for e in range(len(text), at, -1) if text[at:e] in vocabulary)
        pieces.append(text[at:end])
        at = end
    left = pieces[0]
    for right in pieces[1:]:
        if left + right not in vocabulary:
            yield left, right
        left += right


def tokenizer(size: str) -> dict[str, Any]:
    """Contents of tokenizer.json, in the layout of the `tokenizers` library (merges as "left right")."""
    total, special = SIZES[size]
    vocabulary, merges = bpe(total - special, size == "published")
    reserved = (f"<|reserved_special_token_{n}|>" for n in count(3))
    names = (SPECIALS + [next(reserved) for _ in range(special - len(SPECIALS))]) + [PAD]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": total - special + i, "content": name, **flags} for i, name in enumerate(names)]
    bos = {"SpecialToken": {"id": BOS, "type_id": 0}}
    first, second = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": {
            "type": "Sequence",
            "processors": [
                byte_level | {"add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                {
                    "type": "TemplateProcessing",
                    "single": [bos, first],
                    "pair": [bos, first, {"SpecialToken": {"id": BOS, "type_id": 1}}, second],
                    "special_tokens": {BOS: {"id": BOS, "ids": [added[0]["id"]], "tokens": [BOS]}},
                },
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


def tokenizer_config(content: dict[str, Any]) -> dict[str, Any]:
    """Contents of tokenizer_config.json."""
    return {
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in content["added_tokens"]
        },
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def write_tokenizer(folder: Path, size: str) -> int:
    """Write tokenizer.json and tokenizer_config.json; returns the number of token ids."""
    content = tokenizer(size)
    for name, value in (("tokenizer.json", content), ("tokenizer_config.json", tokenizer_config(content))):
        text = json.dumps(value, ensure_ascii=False, indent=1 if size == "tiny" else None)
        (folder / name).write_text(text, encoding="utf-8")
    return len(content["model"]["vocab"]) + len(content["added_tokens"])
