"""What stands in a file, and in which format: a short list of (pattern, format), the first match wins.

Patterns are shell patterns over tensor names without `.weight`. Norms, biases, depthwise filters and tables of angles
are not matrices: they stay fp32 under every recipe. Position tables do unless `tables` says fp16. `speak_only` and
`vocabulary` leave out what a board does without: the codec's encoder, and tokens of other scripts.
"""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopro_np.convert.source import read_json
from sopro_np.convert.vocabulary import ALPHABETS
from sopro_np.errors import RecipeError
from sopro_np.ops.quant import FORMATS
from sopro_np.precision import MODES


@dataclass(frozen=True)
class Recipe:
    """A name, its rules, and what else is saved: speak_only leaves out what only hears, vocabulary ("latin") the tokens
    of other scripts, tables ("fp32" or "fp16") is the format of the position tables."""

    name: str
    rules: tuple[tuple[str, str], ...]
    precision: str = "fast"  # at which the file is spoken with, if nobody asks for another
    speak_only: bool = False
    vocabulary: str | None = None
    tables: str = "fp32"
    rounding: str = "fitted"  # of int4, without calibration; "plain" for weights that were trained for it

    @property
    def format_version(self) -> str:
        """Of the files it makes: programs before version 2 know symmetric inputs, float32 scales and whole files."""
        formats = [FORMATS[name] for _, name in self.rules]
        new = any(getattr(self, key) != getattr(Recipe, key) for key in OPTIONAL)
        return "2" if new or any(form.scheme == "int4" or form.asymmetric for form in formats) else "1"

    @property
    def noted(self) -> str:
        """The recipe as a file keeps it, JSON: what is as always is not said."""
        said = {key: getattr(self, key) for key in OPTIONAL}
        changed = {key: value for key, value in said.items() if value != getattr(Recipe, key)}
        return json.dumps({"name": self.name, "rules": self.rules, **changed})

    def scheme(self, tensor: str) -> str:
        """Format of a matrix (its name in FORMATS), by its name."""
        short = tensor.removesuffix(".weight")
        for pattern, scheme in self.rules:
            if fnmatch.fnmatchcase(short, pattern):
                return scheme
        raise RecipeError(f"recipe {self.name}: no rule matches {short}; end the list with ['*', 'fp32']")


OPTIONAL: dict[str, tuple[Any, ...]] = {  # what else a recipe may say, and what it may be
    "precision": tuple(MODES),
    "speak_only": (True, False),
    "vocabulary": (None, *ALPHABETS),
    "tables": ("fp32", "fp16"),
    "rounding": ("fitted", "plain"),
}


# Chosen from the table of single layers in docs/QUANT.md. The codec's road from samples to codes stays at 16 bit, but
# for its feed-forward layers: it runs once per voice, and a feature that moved a little is another code. Of the rest,
# the head of the first codebook is the most sensitive layer; attention is no more so than anything else. Embeddings
# are read row by row: int8 is small enough.
_ENCODER_PATH = (
    ("mimi.encoder_transformer.*.attention.*", "fp16"),
    ("mimi.encoder.*", "fp16"),
    ("mimi.downsample", "fp16"),
    ("mimi.quantizer.*", "fp16"),
)
_INT8 = (
    ("mimi.encoder_transformer.*", "int8"),
    ("mimi.decoder_transformer.*", "int8"),
    ("mimi.decoder.*", "int8"),
)
# For small machines, from the same table. Codebooks that only decode may be int8: their rounding lies 36 dB below the
# waveform. Speaker encoder and reference blocks at int4 change nothing measurable; code table and heads would.
_BOARD = (
    ("mimi.quantizer.*", "int8"),
    ("mimi.decoder.*", "int8"),
    ("sopro.codes", "int8"),
    ("sopro.ar.head", "int8"),
    ("sopro.nar.*.heads", "int8"),
    ("*", "int4"),
)
BUILT_IN = {
    "fp32": Recipe("fp32", (("*", "fp32"),)),
    "fp16": Recipe("fp16", (("*", "fp16"),)),
    "bf16": Recipe("bf16", (("*", "bf16"),)),
    "int8": Recipe("int8", (("sopro.ar.head", "fp16"), *_ENCODER_PATH, ("*", "int8"))),
    "int4": Recipe("int4", (*_ENCODER_PATH, *_INT8, ("*", "int4")), tables="fp16"),
    "board": Recipe("board", _BOARD, speak_only=True, vocabulary="latin", tables="fp16"),
}


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or a JSON file {"name": ..., "rules": [[pattern, format], ...]}.

    `precision`, `speak_only`, `vocabulary` and `tables` may stand in it, too.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = Path(name)
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise RecipeError(f"recipe {name!r} is neither {', '.join(BUILT_IN)} nor a file")
    content = read_json(path)
    rules = content.get("rules") if isinstance(content, dict) else None
    if not isinstance(rules, list) or not all(
        isinstance(r, list) and len(r) == 2 and all(isinstance(s, str) for s in r) for r in rules
    ):
        raise RecipeError(f"{path}: a recipe is {{'name': ..., 'rules': [[pattern, format], ...]}}")
    if unknown := sorted(set(content) - {"name", "rules", *OPTIONAL}):
        raise RecipeError(f"{path}: unknown keys {unknown}; a recipe has name, rules, {', '.join(OPTIONAL)}")
    for key, possible in OPTIONAL.items():
        value = content.get(key, getattr(Recipe, key))
        if not any(value is one or (isinstance(value, str) and value == one) for one in possible):
            raise RecipeError(f"{path}: unknown {key} {value!r:.80}; there are {', '.join(map(str, possible))}")
    if not isinstance(content.get("name", ""), str):
        raise RecipeError(f"{path}: the name of a recipe is a text")
    if bad := sorted({name for _, name in rules} - set(FORMATS)):
        raise RecipeError(f"{path}: unknown formats {bad}; there are {', '.join(FORMATS)}")
    others = {key: content[key] for key in OPTIONAL if key in content}
    return Recipe(str(content.get("name", path.stem)), tuple((p, s) for p, s in rules), **others)
