"""Compile a Hugging Face tokenizer.json to the arrays of `sopro_np.tokenizer` (which describes their layout).

Only byte-level BPE is supported, and only what can be done exactly as the `tokenizers` library does it;
everything else is refused by name. Not read: `decoder`, `post_processor` (ids come without special tokens,
the run time adds bos and eos), `truncation` and `padding` (`transformers` switches both off for each call).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from sopro_np.convert.special_tokens import FLAGS, added_tokens, ends, read_config, read_object, unknown_and_off
from sopro_np.convert.unicode_gaps import INERT, LOWER, UNASSIGNED
from sopro_np.errors import TokenizerError
from sopro_np.tokenizer import DTYPES, PREFIX, bytes_slot, pair_slot
from sopro_np.tokenizer_settings import Settings, code_points, normalize

MAX_IDS = 1 << 24
# ByteLevel with use_regex
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# What Oniguruma (Ruby syntax) and `regex` read alike; anything else in a pattern is refused. (?i: ) is for
# ASCII words without ligatures, because Oniguruma also folds "ss" to U+00DF, "fi" to U+FB01, ...
_CHARACTER = r"\\[rntfvsSdD]|\\[pP]\{[A-Z][a-z]?\}|\\[^A-Za-z0-9]"
_PATTERN_PART = re.compile(
    rf"(?:{_CHARACTER}|\[\^?(?:{_CHARACTER}|(?!&&|--|\|\||~~)[^\\\[\]])*\]|\((?:\?[:=!])?(?!\?)|[)|]"
    r"|[?*+][?+]?(?![?*+])|\{\d+(?:,\d*)?\}(?![?*+])|[^][\\(){}|?*+.^$]"
    r"|\(\?i:(?!(?:[^)]*)(?:ss|st|ff|fi|fl))(?:['a-z|]|\[[a-z]+\])+\))*"
)
_TOP = "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model"
_BPE = (
    "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback ignore_merges "
    "vocab merges"
)


def compile_tokenizer(
    source: Path, bos: int | None = None, eos: int | None = None
) -> dict[str, NDArray[np.uint8] | NDArray[np.int32]]:
    """tokenizer.json (or its directory) -> arrays under their full names, `tokenizer.*`.

    A directory also gives what stands beside it (see `special_tokens`): bos and eos, and special tokens which
    tokenizer.json does not know. A file gives no bos and eos; the arguments (ids) override what is found.
    """
    return read_tokenizer(source, bos, eos)[0]


def read_tokenizer(
    source: Path, bos: int | None = None, eos: int | None = None
) -> tuple[dict[str, NDArray[np.uint8] | NDArray[np.int32]], dict[str, list[str]]]:
    """The same, and what was passed over: `settings` that are unknown and off, special tokens that are `missing`."""
    source = Path(source)
    config = read_config(source) if source.is_dir() else {}
    top = read_object(source / "tokenizer.json" if source.is_dir() else source)
    passed_over: dict[str, list[str]] = {"settings": [], "missing": []}
    try:
        return _compile(top, config, bos, eos, passed_over), passed_over
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TokenizerError(f"{source} is not laid out like a tokenizer: {error!r}") from error


def _compile(
    top: dict[str, Any], config: dict[str, Any], bos: int | None, eos: int | None, passed_over: dict[str, list[str]]
) -> dict[str, NDArray[np.uint8] | NDArray[np.int32]]:
    if top.get("version", "1.0") != "1.0":
        raise TokenizerError(f"tokenizer.json has version {top['version']!r:.80}; only 1.0 is known")
    passed_over["settings"] = unknown_and_off("tokenizer.json", top, _TOP)
    model = _model(top.get("model"), passed_over["settings"])
    vocab, merges = _vocabulary(model)
    added = added_tokens(top.get("added_tokens") or [], config, vocab, passed_over["settings"])
    size = max([*vocab.values(), *(token["id"] for token in added)]) + 1
    steps = _normalizer(top.get("normalizer"))
    split, prefix_space, split_bytes = _pre_tokenizer(top.get("pre_tokenizer"))
    if isinstance(stated := config.get("add_prefix_space"), bool) and not split and stated != prefix_space:
        raise TokenizerError(f"add_prefix_space is {stated} in the config and {prefix_space} in tokenizer.json")
    first, last = ends(bos, eos, config, added, size)
    passed_over["missing"] = ["bos_token", "eos_token"] if first is None else []
    settings = Settings(
        bos=first,
        eos=last,
        unk=None if model.get("unk_token") is None else vocab[model["unk_token"]],
        fuse_unk=bool(model.get("fuse_unk")),
        ignore_merges=bool(model.get("ignore_merges")),
        normalizer=steps,
        split=split,
        add_prefix_space=prefix_space,
        split_bytes=split_bytes,
        unassigned=" ".join(UNASSIGNED.split()),
        inert=" ".join(INERT.split()) if set(steps) - {"Lowercase"} else "",
        lower=LOWER if "Lowercase" in steps else {},
    )

    alphabet = {char: byte for byte, char in enumerate(byte_characters())}
    words = [b""] * size
    for text, index in vocab.items():
        if alphabet.keys() >= set(text):  # others cannot come out of the byte-level step, only out of unk
            words[index] = bytes(alphabet[char] for char in text)
    ids = {word: index for index, word in enumerate(words) if word}
    inert = code_points(INERT)
    texts = [normalize(t["content"], steps if t["normalized"] else [], inert, LOWER) for t in added]
    if any(token["rstrip"] for token in added) and any(text[0].isspace() for text in texts):
        # The first may swallow the second; what `tokenizers` makes of such overlaps is an accident.
        raise TokenizerError("added tokens with rstrip and ones that start with a space cannot be combined")
    contents = [text.encode() for text in texts]
    arrays: dict[str, Any] = {
        "settings": settings.stored(),
        "byte_ids": [ids.get(bytes([byte]), -1) for byte in range(256)],
        "vocab_bytes": np.frombuffer(b"".join(words), np.uint8),
        "vocab_offsets": offsets(words),
        "vocab_slots": word_table(words),
        "merges": np.array(merges, np.int32).reshape(-1, 3),
        "merge_slots": merge_table(merges),
        "added_bytes": list(b"".join(contents)),
        "added_offsets": offsets(contents),
        "added_ids": [token["id"] for token in added],
        "added_flags": [sum(flag for name, flag in FLAGS.items() if token[name]) for token in added],
    }
    return {PREFIX + name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in DTYPES.items()}


def byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2).

    Printable Latin-1 stands for itself, the other 68 bytes get U+0100 and up, in order.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def _model(model: Any, passed_over: list[str]) -> dict[str, Any]:
    """Check that the model is a byte-level BPE we can follow."""
    if not isinstance(model, dict):
        raise TokenizerError("tokenizer.json has no `model`")
    kind = model.get("type", "BPE" if "merges" in model else None)  # old files leave it out
    if kind != "BPE":
        raise TokenizerError(f"the tokenizer's model is {kind}; only byte-level BPE is supported")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            raise TokenizerError(f"the tokenizer's BPE has {name} = {model[name]!r}, which is not supported")
    passed_over += unknown_and_off("model", model, _BPE)
    return model


def _vocabulary(model: dict[str, Any]) -> tuple[dict[str, int], list[tuple[int, int, int]]]:
    """-> token text to id, and merges as ids (left, right, joined)."""
    vocab, merges, rows = model.get("vocab"), model.get("merges"), []
    if not isinstance(vocab, dict) or not vocab or not isinstance(merges, list):
        raise TokenizerError("the tokenizer's BPE has no vocab or no merges")
    if not all(type(index) is int and 0 <= index < MAX_IDS for index in vocab.values()):
        raise TokenizerError(f"the tokenizer's vocab has ids that are not in 0..{MAX_IDS - 1}")
    if len(set(vocab.values())) != len(vocab):
        raise TokenizerError("the tokenizer's vocab gives one id to several tokens")
    if model.get("unk_token") is not None and model["unk_token"] not in vocab:
        raise TokenizerError(f"the unk_token {model['unk_token']!r} is not in the vocab")
    for merge in merges:
        if isinstance(merge, str) and merge.startswith("#version"):
            continue
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)):
            raise TokenizerError(f"not a merge of two tokens: {merge!r}")
        left, right = pair
        if missing := [text for text in (left, right, left + right) if text not in vocab]:
            raise TokenizerError(f"the merge {merge!r} needs {missing[0]!r}, which is not in the vocab")
        rows.append((vocab[left], vocab[right], vocab[left + right]))
    return vocab, rows


def _normalizer(normalizer: Any) -> list[str]:
    if normalizer is None:
        return []
    kind = normalizer.get("type")
    if kind == "Sequence":
        return [step for child in normalizer["normalizers"] for step in _normalizer(child)]
    if kind not in ("Lowercase", "NFC", "NFD", "NFKC", "NFKD"):
        raise TokenizerError(f"the normalizer {kind} is not supported")
    return [kind]


def _pre_tokenizer(pre: Any) -> tuple[list[str], bool, list[str]]:
    """-> patterns of the Splits, add_prefix_space, patterns of the final ByteLevel."""
    *splits, last = _flat(pre) or [{}]
    if last.get("type") != "ByteLevel":
        raise TokenizerError(f"the pre_tokenizer ends with {last.get('type')}: it is not byte-level BPE")
    patterns = []
    for step in splits:
        if step.get("type") != "Split":
            raise TokenizerError(f"the pre_tokenizer {step.get('type')} before ByteLevel is not supported")
        if step.get("behavior") != "Isolated" or step.get("invert"):
            how = f"behavior {step.get('behavior')}, invert {step.get('invert')}"
            raise TokenizerError(f"a Split with {how} is not supported, only Isolated without invert")
        if not isinstance(pattern := (step.get("pattern") or {}).get("Regex"), str):
            raise TokenizerError(f"a Split by {step.get('pattern')!r} is not supported, only by Regex")
        if rest := pattern[_PATTERN_PART.match(pattern).end() :]:  # type: ignore[union-attr]  # it matches ""
            raise TokenizerError(f"this part of the pre_tokenizer's pattern is not supported: {rest!r}")
        try:
            regex.compile(pattern, regex.V0)
        except regex.error as error:
            raise TokenizerError(f"the pre_tokenizer's pattern {pattern!r} is wrong: {error}") from error
        patterns.append(pattern)
    return patterns, bool(last.get("add_prefix_space")), [GPT2] if last.get("use_regex", True) else []


def _flat(pre: Any) -> list[dict[str, Any]]:
    """A Sequence of Sequences as one list."""
    if pre is None or "pretokenizers" not in pre:
        return [] if pre is None else [pre]
    return [step for child in pre["pretokenizers"] for step in _flat(child)]


def offsets(words: Sequence[bytes]) -> NDArray[np.int32]:
    """Where each begins in all of them laid end to end, and where the last ends."""
    return np.cumsum([0, *map(len, words)]).astype(np.int32)


def word_table(words: Sequence[bytes]) -> NDArray[np.int32]:
    """`vocab_slots` of the words that are not empty; the last of equals."""
    return _hash_table({word: index for index, word in enumerate(words) if word}, bytes_slot)


def merge_table(merges: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """`merge_slots` of (left, right, joined); the last of equals."""
    ranks = {(left, right): rank for rank, (left, right, _) in enumerate(merges)}
    return _hash_table(ranks, lambda pair, bits: pair_slot(pair[0], pair[1], bits))


def _hash_table(items: Mapping[Any, int], first_slot: Callable[[Any, int], int]) -> NDArray[np.int32]:
    """Open addressing with linear probing, at most two thirds full."""
    bits = max(1, (len(items) * 3 // 2).bit_length())
    slots = [-1] * (1 << bits)
    for key, value in items.items():
        slot = first_slot(key, bits)
        while slots[slot] >= 0:
            slot = slot + 1 & len(slots) - 1
        slots[slot] = value
    return np.array(slots, np.int32)
