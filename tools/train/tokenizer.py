"""Stage `tokenizer`: lower-case characters, in the format of the `tokenizers` library and upstream's folder."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
CHARACTERS = " abcdefghijklmnopqrstuvwxyz',.?!"
SETTINGS = {
    "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>",
    "unk_token": "<unk>", "model_max_length": 512,
}  # fmt: skip


def character_tokenizer() -> Tokenizer:
    """One token per character, anything else is unknown; no merges, so nothing has to be learnt."""
    symbols = [*SPECIAL, *CHARACTERS.replace(" ", "Ġ")]  # byte-level BPE writes a blank as Ġ
    tokenizer = Tokenizer(BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    return tokenizer


def save(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    character_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids between <bos> and <eos>, as upstream frames a text."""
    return [1, *tokenizer.encode(text).ids, 2]
