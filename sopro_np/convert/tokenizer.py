"""Compile a Hugging Face tokenizer.json to the arrays of `sopro_np.tokenizer` (which describes their layout).

Only byte-level BPE is supported, and only what can be done exactly as the `tokenizers` library does it;
everything else is refused by name. Not read: `decoder`, `post_processor` (ids come without special tokens,
the run time adds bos and eos), `truncation` and `padding` (`transformers` switches both off for each call).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from sopro_np.convert.unicode_gaps import INERT, LOWER, UNASSIGNED
from sopro_np.errors import TokenizerError
from sopro_np.tokenizer import (
    DTYPES,
    LSTRIP,
    NORMALIZED,
    PREFIX,
    RSTRIP,
    SINGLE_WORD,
    Settings,
    bytes_slot,
    code_points,
    normalize,
    pair_slot,
)  # fmt: skip

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
_CONFIG_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = {"normalized": NORMALIZED, "lstrip": LSTRIP, "rstrip": RSTRIP, "single_word": SINGLE_WORD}


def compile_tokenizer(
    source: Path, bos: int | None = None, eos: int | None = None
) -> dict[str, NDArray[np.uint8] | NDArray[np.int32]]:
    """tokenizer.json (or its directory) -> arrays under their full names, `tokenizer.*`.

    A directory also gives tokenizer_config.json: its `bos_token` and `eos_token`, and special tokens which
    only it knows. A file gives no bos and eos; the arguments (ids) override what is found.
    """
    source = Path(source)
    file = source / "tokenizer.json" if source.is_dir() else source
    config_file = source / "tokenizer_config.json"
    top = _read(file)
    config = _read(config_file) if source.is_dir() and config_file.exists() else {}
    try:
        return _compile(top, config, bos, eos)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TokenizerError(f"{source} is not laid out like a tokenizer: {error!r}") from error


def _compile(
    top: dict[str, Any], config: dict[str, Any], bos: int | None, eos: int | None
) -> dict[str, NDArray[np.uint8] | NDArray[np.int32]]:
    model = _model(top.get("model"))
    vocab, merges = _vocabulary(model)
    added = _added_tokens(top.get("added_tokens") or [], config, vocab)
    size = max([*vocab.values(), *(token["id"] for token in added)]) + 1
    steps = _normalizer(top.get("normalizer"))
    split, prefix_space, split_bytes = _pre_tokenizer(top.get("pre_tokenizer"))
    if isinstance(stated := config.get("add_prefix_space"), bool) and not split and stated != prefix_space:
        raise TokenizerError(f"add_prefix_space is {stated} in the config and {prefix_space} in tokenizer.json")
    settings = Settings(
        bos=_end("bos", bos, config, added, size),
        eos=_end("eos", eos, config, added, size),
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
    ranks = {(left, right): rank for rank, (left, right, _) in enumerate(merges)}  # the last of equals
    inert = code_points(INERT)
    texts = [normalize(t["content"], steps if t["normalized"] else [], inert, LOWER) for t in added]
    if any(token["rstrip"] for token in added) and any(text[0].isspace() for text in texts):
        # The first may swallow the second; what `tokenizers` makes of such overlaps is an accident.
        raise TokenizerError("added tokens with rstrip and ones that start with a space cannot be combined")
    contents = [text.encode() for text in texts]
    arrays: dict[str, Any] = {
        "settings": list(json.dumps(settings._asdict()).encode()),
        "byte_ids": [ids.get(bytes([byte]), -1) for byte in range(256)],
        "vocab_bytes": np.frombuffer(b"".join(words), np.uint8),
        "vocab_offsets": _offsets(words),
        "vocab_slots": _hash_table(ids, bytes_slot),
        "merges": np.array(merges, np.int32).reshape(-1, 3),
        "merge_slots": _hash_table(ranks, lambda pair, bits: pair_slot(pair[0], pair[1], bits)),
        "added_bytes": list(b"".join(contents)),
        "added_offsets": _offsets(contents),
        "added_ids": [token["id"] for token in added],
        "added_flags": [sum(flag for name, flag in _FLAGS.items() if token[name]) for token in added],
    }
    return {PREFIX + name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in DTYPES.items()}


def byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2).

    Printable Latin-1 stands for itself, the other 68 bytes get U+0100 and up, in order.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise TokenizerError(f"{file} does not exist; give a tokenizer.json or its directory") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} is not a JSON object")
    return content


def _model(model: Any) -> dict[str, Any]:
    """Check that the model is a byte-level BPE we can follow."""
    if not isinstance(model, dict):
        raise TokenizerError("tokenizer.json has no `model`")
    kind = model.get("type", "BPE" if "merges" in model else None)  # old files leave it out
    if kind != "BPE":
        raise TokenizerError(f"the tokenizer's model is {kind}; only byte-level BPE is supported")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            raise TokenizerError(f"the tokenizer's BPE has {name} = {model[name]!r}, which is not supported")
    known = "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback"
    if extra := model.keys() - {*known.split(), "ignore_merges", "vocab", "merges"}:
        raise TokenizerError(f"the tokenizer's BPE has unknown settings: {', '.join(sorted(extra))}")
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


def _added_tokens(listed: list[Any], config: dict[str, Any], vocab: dict[str, int]) -> list[dict[str, Any]]:
    """Added tokens with their ids and flags, special ones first (the order in which equal texts win).

    Tokens that only tokenizer_config.json names are appended, as `transformers` does when it loads both.
    """
    fields = {"content", "special", *_FLAGS}
    tokens: dict[str, dict[str, Any]] = {}

    def add(token: Any, index: Any = None) -> None:
        known = isinstance(token, dict) and token.keys() <= fields | {"id", "__type"}
        if not known or not isinstance(token.get("content"), str) or not token["content"]:
            raise TokenizerError(f"not an added token: {token!r}")
        text = token["content"]
        token = {name: token.get(name, False) for name in fields}
        if text in tokens:
            raise TokenizerError(f"the added token {text!r} is listed twice")
        top = max((other["id"] for other in tokens.values()), default=-1)
        token["id"] = vocab.get(text, max(top + 1, len(vocab)))  # how `tokenizers` numbers them
        if index not in (None, token["id"]):
            raise TokenizerError(f"the added token {text!r} has id {index}, `tokenizers` gives {token['id']}")
        if token["id"] in ids and text not in vocab:
            raise TokenizerError(f"the added token {text!r} gets id {token['id']}, which is taken")
        ids.add(token["id"])
        tokens[text] = token

    ids = set(vocab.values())
    for token in listed:
        add(token, token.get("id") if isinstance(token, dict) else None)
    stated = config.get("added_tokens_decoder") or {}
    for index, token in sorted((int(index), token) for index, token in stated.items()):
        known = tokens.get(token["content"])
        if known is None:
            add(token, index)
        elif any(known[name] != token.get(name, known[name]) for name in fields):
            raise TokenizerError(f"tokenizer.json and its config differ about {token['content']!r}")
    extra = [config.get(name) for name in _CONFIG_TOKENS]
    for token in extra + list(config.get("additional_special_tokens") or []):
        token = {"content": token} if isinstance(token, str) else token
        if token and token.get("content") not in tokens:
            add({**token, "special": True})
    return sorted(tokens.values(), key=lambda token: not token["special"])


def _end(name: str, given: int | None, config: dict[str, Any], added: list[dict[str, Any]], size: int) -> int:
    """Id of bos or eos. What the config names is among the added tokens, see `_added_tokens`."""
    stated = config.get(name + "_token")
    text = stated.get("content") if isinstance(stated, dict) else stated
    index = {token["content"]: token["id"] for token in added}.get(text) if given is None else given
    if index is None:
        raise TokenizerError(f"no {name}_token in a tokenizer_config.json; give its id: --bos ID --eos ID")
    if not 0 <= index < size:
        raise TokenizerError(f"--{name} {index} is not an id of this tokenizer (0..{size - 1})")
    return index


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


def _offsets(words: Sequence[bytes]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, words)])


def _hash_table(items: Mapping[Any, int], first_slot: Callable[[Any, int], int]) -> list[int]:
    """Open addressing with linear probing, at most two thirds full."""
    bits = max(1, (len(items) * 3 // 2).bit_length())
    slots = [-1] * (1 << bits)
    for key, value in items.items():
        slot = first_slot(key, bits)
        while slots[slot] >= 0:
            slot = slot + 1 & len(slots) - 1
        slots[slot] = value
    return slots
