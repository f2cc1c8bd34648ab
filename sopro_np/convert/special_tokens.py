"""What the files beside a tokenizer.json add to it: special tokens, and which of them begin and end a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sopro_np.errors import TokenizerError
from sopro_np.tokenizer import LSTRIP, NORMALIZED, RSTRIP, SINGLE_WORD

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
FLAGS = {"normalized": NORMALIZED, "lstrip": LSTRIP, "rstrip": RSTRIP, "single_word": SINGLE_WORD}
PLAIN = ("PreTrainedTokenizerFast", "TokenizersBackend")  # other classes have default tokens of their own
_CONFIG_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def added_tokens(
    listed: list[Any], config: dict[str, Any], vocab: dict[str, int], passed_over: list[str]
) -> list[dict[str, Any]]:
    """Added tokens with their ids and flags, special ones first (the order in which equal texts win).

    Tokens that only the other files name are appended, as `transformers` does when it loads them. Unknown settings
    that are off go to `passed_over`.
    """
    fields = {"content", "special", *FLAGS}
    tokens: dict[str, dict[str, Any]] = {}

    def add(token: Any, index: Any = None) -> None:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or not token["content"]:
            raise TokenizerError(f"not an added token: {token!r}")
        text = token["content"]
        off = unknown_and_off(f"added token {text!r}", token, " ".join(fields | {"id", "__type"}))
        passed_over.extend(name for name in off if name not in passed_over)
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
    for name in ("additional_special_tokens", "extra_special_tokens"):  # the older name and the newer one
        more = config.get(name) or []
        extra += more.values() if isinstance(more, dict) else more
    for token in extra:
        token = {"content": token} if isinstance(token, str) else token
        if token and token.get("content") not in tokens:
            add({**token, "special": True})
    return sorted(tokens.values(), key=lambda token: not token["special"])


def ends(
    bos: int | None, eos: int | None, config: dict[str, Any], added: list[dict[str, Any]], size: int
) -> tuple[int, int] | tuple[None, None]:
    """Ids of bos and eos: those given, else of the tokens that the config names.

    (None, None) where a tokenizer without further defaults does not name both: upstream then adds neither.
    """
    index = {token["content"]: token["id"] for token in added}  # also those that only the config names
    found = []
    for name, given in (("bos", bos), ("eos", eos)):
        stated = config.get(name + "_token")
        text = stated.get("content") if isinstance(stated, dict) else stated
        found.append(index.get(text) if given is None else given)
        if found[-1] is None and (bos is not None or eos is not None or config.get("tokenizer_class") not in PLAIN):
            raise TokenizerError(f"no {name}_token in a tokenizer_config.json; give its id: --bos ID --eos ID")
        if found[-1] is not None and not 0 <= found[-1] < size:
            raise TokenizerError(f"--{name} {found[-1]} is not an id of this tokenizer (0..{size - 1})")
    first, last = found
    return (None, None) if first is None or last is None else (first, last)


def unknown_and_off(where: str, settings: dict[str, Any], known: str) -> list[str]:
    """Names of settings that later releases brought and that are switched off here; one that is on is an error."""
    unknown = sorted(settings.keys() - set(known.split()))
    if on := [name for name in unknown if settings[name] not in (None, False)]:
        raise TokenizerError(f"the tokenizer has unknown settings ({where}): {', '.join(on)}")
    return [f"{where}: {name}" for name in unknown]


def read_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json with the tokens of special_tokens_map.json; {} if there is neither.

    `transformers` lets the older file win, but beside `added_tokens_decoder`; there it only names what is missing.
    """
    config, special = (
        read_object(folder / name) if (folder / name).exists() else {}
        for name in ("tokenizer_config.json", "special_tokens_map.json")
    )
    if "added_tokens_decoder" not in config:
        return {**config, **special}
    return {**{name: special[name] for name in ("bos_token", "eos_token") if name in special}, **config}


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object, with errors that name the file."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise TokenizerError(f"{file} does not exist; give a tokenizer.json or its directory") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} is not a JSON object")
    return content
