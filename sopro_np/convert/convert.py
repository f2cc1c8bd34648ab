"""The conversion as one call: sources and a recipe in, one file and a report out."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sopro_np.convert.mimi import plan_mimi
from sopro_np.convert.passed_over import Tell, recorded, tell_or_refuse
from sopro_np.convert.plan import Part
from sopro_np.convert.recipe import BUILT_IN, Recipe
from sopro_np.convert.rounding import ROUNDINGS, Rounding
from sopro_np.convert.sopro import plan_sopro
from sopro_np.convert.source import sha256_of, weight_files
from sopro_np.convert.special_tokens import TOKENIZER_FILES
from sopro_np.convert.tokenizer import read_tokenizer
from sopro_np.convert.vocabulary import limit_vocabulary
from sopro_np.convert.writer import TensorReport, write_file
from sopro_np.errors import ConvertError, UsageError
from sopro_np.ops.quant import FORMATS
from sopro_np.version import __version__

# What is needed only to make codes of a recording (`speak_only` leaves it out); the tables that a recipe decides about.
HEARS = ("mimi.encoder.*", "mimi.encoder_transformer.*", "mimi.downsample.*", "mimi.quantizer.*.input.*")
TABLES = ("sopro.text.positions", "sopro.condition.positions")
INTEGERS = {"int8": (8, "channel", "int-quantized"), "int4": (4, "group", "pack-quantized")}  # bits, strategy, layout
# Of the published parts; another one's stands in `origin`.
Learn = Callable[[Path], Rounding]  # what a file of the model in fp32 says when it speaks -> how to round
LICENSES = {"sopro": "Apache-2.0", "mimi": "CC-BY-4.0", "tokenizer": "its own, see the source"}


@dataclass
class Report:
    """What was written, and how far each tensor is from its source."""

    path: Path
    recipe: str
    bytes_before: int
    bytes_after: int
    tensors: list[TensorReport]
    dropped: list[str]
    passed_over: dict[str, dict[str, list[str]]]
    filled: list[str]
    sources: dict[str, dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "output": str(self.path), "recipe": self.recipe, "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after, "dropped": self.dropped, "passed_over": self.passed_over,
            "filled": self.filled, "sources": self.sources,
            "tensors": [t.as_dict() for t in self.tensors],
        }  # fmt: skip


def convert(
    output: Path,
    recipe: Recipe,
    sopro: Path | None = None,
    mimi: Path | None = None,
    tokenizer: Path | None = None,
    *,
    bos: int | None = None,
    eos: int | None = None,
    drop: tuple[str, ...] = (),
    allow_unknown_config: bool = False,
    strict: bool = False,
    origin: dict[str, dict[str, Any]] | None = None,
    tell: Tell | None = None,
    learn: Learn | None = None,
) -> Report:
    """Convert any subset of the three parts into one file.

    What upstream's loaders pass over in a source (unknown config keys, unknown tensors, a missing tensor whose initial
    value is a constant) is told in one line each by `tell` (default: `warnings`), and recorded in the file and the
    report; `strict` makes it an error, but for config keys with `allow_unknown_config`. `origin` adds what a
    downloader or a trainer knows (repository, revision, license) to the sources recorded in the file, part by part.
    `learn` is given a file of the same in fp32, beside the output for that long, and answers with the rounding.
    """
    if any(p is not None and _same(p, output) for p in (sopro, mimi, tokenizer)):
        raise ConvertError(f"{output}: is a source of this conversion; name another output")
    parts: list[Part] = []
    if sopro is not None:
        parts.append(plan_sopro(sopro, drop))
    if mimi is not None:
        parts.append(plan_mimi(mimi, drop))
    if tokenizer is not None:
        parts.append(_plan_tokenizer(tokenizer, bos, eos))
    if not parts:
        raise ConvertError("nothing to convert: give --sopro, --mimi or --tokenizer")
    if tokenizer is None and (bos is not None or eos is not None):
        raise ConvertError("--bos and --eos belong to a tokenizer: give --tokenizer, too")
    dropped = [n for part in parts for n in part.dropped]
    for pattern in drop:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in dropped):
            raise ConvertError(f"--drop {pattern}: matches no tensor that could be left out")
    _check_together(parts)
    tell_or_refuse(parts, strict, allow_unknown_config, tell)
    sources = {name: dict(s) for part in parts for name, s in part.sources.items()}
    for name, known in (origin or {}).items():
        sources.setdefault(name, {}).update(known)
    before = sum(os.path.getsize(file) for part in parts for file in part.files)
    rounding = ROUNDINGS[recipe.rounding] if learn is None else _learnt(output, parts, sources, learn)
    slim(parts, recipe)
    for part in parts:
        store_tables(part, recipe)
    asked = {"bos": bos, "eos": eos, "drop": list(drop), "allow_unknown_config": allow_unknown_config}
    metadata = _metadata(parts, recipe, sources) | {
        "options": json.dumps({k: v for k, v in asked.items() if v not in (None, []) and v is not False})
    }
    tensors = write_file(output, parts, recipe, metadata | {"rounding": rounding.said}, rounding)
    after = output.stat().st_size
    return Report(output, recipe.name, before, after, tensors, dropped, sources=sources, **recorded(parts))


def slim(parts: list[Part], recipe: Recipe) -> None:
    """Leave out what the recipe does without. The sources were checked as a whole before."""
    if recipe.vocabulary:
        limit_vocabulary(parts, recipe.vocabulary)
    for part in parts:
        if recipe.speak_only:
            part.matrices = [m for m in part.matrices if not _hears(m.name)]
            part.arrays = {name: array for name, array in part.arrays.items() if not _hears(name)}


def store_tables(part: Part, recipe: Recipe) -> None:
    """The position tables in the recipe's format."""
    kind = np.float16 if recipe.tables == "fp16" else np.float32
    part.arrays |= {name: part.arrays[name].astype(kind) for name in TABLES if name in part.arrays}


def _hears(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in HEARS)


def check_speaks(parts: list[Part], where: object) -> None:
    """Calibration lets a model speak. UsageError names what it lacks."""
    there, options = {part.prefix for part in parts}, {"sopro": "acoustic model", "tokenizer": "tokenizer"}
    if missing := [what for prefix, what in options.items() if prefix not in there]:
        raise UsageError(
            f"{where}: no {' and no '.join(missing)}, so it cannot speak: add it, or leave --calibrate out"
        )


def _learnt(output: Path, parts: list[Part], sources: dict[str, dict[str, Any]], learn: Learn) -> Rounding:
    check_speaks(parts, ", ".join(str(part.path) for part in parts))
    fp32 = BUILT_IN["fp32"]
    try:
        with TemporaryDirectory(prefix=".calibrating-", dir=output.parent) as folder:
            whole = Path(folder) / "fp32.safetensors"
            write_file(whole, parts, fp32, _metadata(parts, fp32, sources))
            return learn(whole)
    except OSError as error:
        raise ConvertError(f"{output.parent}: {error.strerror or error}: it needs room for the model in fp32") from None


def _plan_tokenizer(path: Path, bos: int | None, eos: int | None) -> Part:
    arrays, passed_over = read_tokenizer(path, bos, eos)
    file = path / "tokenizer.json" if os.path.isdir(path) else path
    return Part(
        "tokenizer",
        path,
        [file],
        arrays={n: np.ascontiguousarray(a) for n, a in arrays.items()},
        passed_over=passed_over,
        sources={"tokenizer": {"file": file.name, "sha256": sha256_of(file)}},
    )


def _check_together(parts: list[Part]) -> None:
    """Sopro and Mimi must speak of the same codes, Sopro and the tokenizer of the same ids."""
    rows = next((m.rows for p in parts for m in p.matrices if m.name == "sopro.text.embed.weight"), None)
    ids = next((len(p.arrays["tokenizer.vocab_offsets"]) - 1 for p in parts if p.prefix == "tokenizer"), 0)
    if rows is not None and ids > rows:
        raise ConvertError(f"the tokenizer has {ids} ids, text_enc.embed.emb.weight {rows} rows: not of one model")
    config = {p.prefix: p.config for p in parts if p.config}
    if len(config) < 2:
        return
    s, m = config["sopro"], config["mimi"]
    assert s is not None and m is not None
    if s["codebooks"] > m["codebooks"] or s["code_values"] > m["code_values"]:
        raise ConvertError(
            f"this Sopro writes {s['codebooks']} codebooks of {s['code_values']} values, "
            f"this Mimi reads {m['codebooks']} of {m['code_values']}: they do not belong together"
        )


def _metadata(parts: list[Part], recipe: Recipe, sources: dict[str, dict[str, Any]]) -> dict[str, str]:
    architecture = {p.prefix: p.config for p in parts if p.config}
    original = {p.prefix: p.original_config for p in parts if p.original_config}
    metadata = {
        "format": "sopro_np",
        "architecture": json.dumps(architecture),
        "sources": json.dumps(sources),
        "licenses": json.dumps({p.prefix: sources[p.prefix].get("license", LICENSES[p.prefix]) for p in parts}),
        "dropped": json.dumps([n for p in parts for n in p.dropped]),
        **{key: json.dumps(value) for key, value in recorded(parts).items()},
        **recipe_metadata(parts, recipe),
    }
    if speech := next((p.speech for p in parts if p.speech), None):
        metadata["speech"] = json.dumps(speech)
    if "sopro" in original:
        metadata["cfg"] = str(original["sopro"])
    if "mimi" in original:
        metadata["mimi_config"] = str(original["mimi"])
    return metadata


def recipe_metadata(parts: list[Part], recipe: Recipe) -> dict[str, str]:
    """What the metadata say of the formats, whatever the source."""
    asymmetric = [m.name for p in parts for m in p.matrices if FORMATS[recipe.scheme(m.name)].asymmetric]
    metadata = {
        "format_version": recipe.format_version,
        "sopro_np_version": __version__,
        "recipe": recipe.noted,
        "quantization_config": json.dumps(quantization_config(recipe)),
    }
    if asymmetric or recipe.precision != "fast":
        metadata["activations"] = json.dumps({"asymmetric": asymmetric, "precision": recipe.precision})
    if recipe.speak_only and any(p.prefix == "mimi" for p in parts):
        metadata["speak_only"] = "true"
    if recipe.vocabulary:
        metadata["vocabulary"] = recipe.vocabulary
    return metadata


def quantization_config(recipe: Recipe) -> dict[str, Any]:
    """The recipe in the words of compressed-tensors. Convolutions among the targets are our extension."""
    groups: dict[str, dict[str, Any]] = {}
    for name, form in FORMATS.items():
        targets = [pattern for pattern, own in recipe.rules if own == name]
        if targets and form.scheme in INTEGERS:
            bits, strategy, layout = INTEGERS[form.scheme]
            weights: dict[str, Any] = {
                "num_bits": bits, "type": "int", "symmetric": True, "strategy": strategy, "dynamic": False,
            }  # fmt: skip
            if strategy == "group":
                weights["group_size"] = form.group
            groups[f"group_{len(groups)}"] = {
                "targets": targets, "format": layout, "weights": weights,
                "input_activations": {
                    "num_bits": 8, "type": "int", "symmetric": not form.asymmetric, "strategy": "token",
                    "dynamic": True,
                },
            }  # fmt: skip
    layouts = {group["format"] for group in groups.values()}
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed" if groups else "none",
        "format": "mixed-precision" if len(layouts) > 1 else next(iter(layouts), "dense"),
        "config_groups": groups,
        "ignore": [pattern for pattern, name in recipe.rules if FORMATS[name].scheme not in INTEGERS],
    }


def _same(source: Path, output: Path) -> bool:
    """Would the output replace this file, or one that is read from this folder?"""
    names = ("model.safetensors", "pytorch_model.bin", "config.json", *TOKENIZER_FILES)
    files = [source, *weight_files(source), *(source / name for name in names if os.path.isdir(source))]
    return os.path.exists(output) and any(os.path.exists(f) and os.path.samefile(f, output) for f in files)
