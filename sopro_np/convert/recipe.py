"""Which tensor is stored in which format: a short list of (pattern, format), the first match wins.

Patterns are shell patterns over tensor names without `.weight`. Norms, biases, depthwise filters and
position tables are not matrices: they stay fp32 under every recipe.
"""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sopro_np.convert.source import read_json
from sopro_np.errors import RecipeError
from sopro_np.ops.quant import FORMATS
from sopro_np.precision import MODES


@dataclass(frozen=True)
class Recipe:
    """A name and its rules."""

    name: str
    rules: tuple[tuple[str, str], ...]
    precision: str = "fast"  # at which the file is spoken with, if nobody asks for another

    @property
    def format_version(self) -> str:
        """Of the files it makes: programs before version 2 know symmetric inputs and float32 scales only."""
        formats = [FORMATS[name] for _, name in self.rules]
        new = self.precision != "fast" or any(form.scheme == "int4" or form.asymmetric for form in formats)
        return "2" if new else "1"

    @property
    def noted(self) -> str:
        """The recipe as a file keeps it, JSON."""
        said = {"name": self.name, "rules": self.rules}
        return json.dumps(said if self.precision == "fast" else said | {"precision": self.precision})

    def scheme(self, tensor: str) -> str:
        """Format of a matrix (its name in FORMATS), by its name."""
        short = tensor.removesuffix(".weight")
        for pattern, scheme in self.rules:
            if fnmatch.fnmatchcase(short, pattern):
                return scheme
        raise RecipeError(f"recipe {self.name}: no rule matches {short}; end the list with ['*', 'fp32']")


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
BUILT_IN = {
    "fp32": Recipe("fp32", (("*", "fp32"),)),
    "fp16": Recipe("fp16", (("*", "fp16"),)),
    "bf16": Recipe("bf16", (("*", "bf16"),)),
    "int8": Recipe("int8", (("sopro.ar.head", "fp16"), *_ENCODER_PATH, ("*", "int8"))),
    "int4": Recipe("int4", (*_ENCODER_PATH, *_INT8, ("*", "int4"))),
}


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or a JSON file {"name": ..., "rules": [[pattern, format], ...]}."""
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
    if unknown := sorted(set(content) - {"name", "rules", "precision"}):
        raise RecipeError(f"{path}: unknown keys {unknown}; a recipe has a name, rules and a precision")
    if (precision := content.get("precision", "fast")) not in MODES:
        raise RecipeError(f"{path}: unknown precision {precision!r}; there are {', '.join(MODES)}")
    if not isinstance(content.get("name", ""), str):
        raise RecipeError(f"{path}: the name of a recipe is a text")
    if bad := sorted({name for _, name in rules} - set(FORMATS)):
        raise RecipeError(f"{path}: unknown formats {bad}; there are {', '.join(FORMATS)}")
    return Recipe(str(content.get("name", path.stem)), tuple((p, s) for p, s in rules), precision)
