"""Keys: all that an utterance is a function of, as one hash. Where a file of its key lies, it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.errors import BulkError
from sopro_np.options import Options

VERSION = 1  # larger where the same key would no longer mean the same bytes


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal. BulkError if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BulkError(f"{path}: cannot be read ({error.strerror or error})") from None


def voice_digest(codes: np.ndarray) -> str:
    """SHA-256 of reference codes (R, Q): "R Q" in decimal, a line end, the codes as little-endian 16 bit."""
    head = f"{codes.shape[0]} {codes.shape[1]}\n".encode()
    return hashlib.sha256(head + np.ascontiguousarray(codes, "<u2").tobytes()).hexdigest()


def line_seed(seed: int, name: str) -> int:
    """Seed of a line that gives none: the first 4 bytes, little-endian, of SHA-256 of "SEED/NAME".

    It depends on the line's name (its id; of a plain line its text) and not on its place: shards agree.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "little")


def chosen_options(options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """All options with their values, without the seed, and what else the bytes depend on (ops, format)."""
    full = Options.of(dict(options))
    chosen = {name: getattr(full, name) for name in Options.names() if name != "seed"}
    if full.precision is None:  # keys of the time before there was one stay what they were
        del chosen["precision"]
    lexicon = None if full.lexicon is None else dict(full.lexicon)
    return {**chosen, "lexicon": lexicon, **more}


def line_key(model: str, voice: str, text: str, seed: int, options: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON list [1, model, voice, text, seed, options]: names sorted, no spaces, ASCII (\\u escapes).

    model: SHA-256 of its file; voice: of its codes; options: `chosen_options`.
    """
    parts = [VERSION, model, voice, text, seed, dict(options)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
