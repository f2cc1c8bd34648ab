"""`sopro-np info`: what a model or voice file holds, from its header; `--memory`: what speaking from it takes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sopro_np.config import MimiConfig, SoproConfig
from sopro_np.engine import open_model
from sopro_np.errors import FormatError, SoproError, UsageError
from sopro_np.locate import EMBEDDED, find_model, find_voice
from sopro_np.pace import Pace
from sopro_np.tensorfile import TensorFile
from sopro_np.voice import FORMAT as VOICE_FORMAT

PARTS = {
    "sopro": ("text", "codes", "voice", "condition", "ar", "nar", "stop"),
    "mimi": ("encoder", "encoder_transformer", "downsample", "quantizer", "upsample", "decoder_transformer", "decoder",
             "rope"),
}  # fmt: skip
ROUNDED = {
    "plain": "the largest weight of an output or group is the largest integer",
    "fitted": "scales of int4 are searched, by the weights alone",
    "calibrated": "by what the model computes when it speaks",
}


def info(args: argparse.Namespace) -> int:
    """Print it for people, or as JSON."""
    path = _find(args.file)
    file = TensorFile(path)
    if file.metadata.get("format") == VOICE_FORMAT:
        facts = _voice_facts(file)
    else:
        facts = model_facts(file)
        if args.memory:
            facts["arena"] = _arena(path)
    if args.json:
        json.dump(facts, sys.stdout, indent=1)
        print()
    else:
        print("\n".join(_lines(facts)))
    return 0


def _find(name: str | None) -> Path:
    """A file, or the name of a model or of a voice."""
    try:
        return find_model(name, tell=False)
    except UsageError as no_model:
        if not name:
            raise
        try:
            return find_voice(name, EMBEDDED)
        except UsageError as no_voice:
            raise UsageError(f"{no_model}; {no_voice}") from None


def _voice_facts(file: TensorFile) -> dict[str, Any]:
    codes = file.header.get("codes", {"shape": []})
    if len(codes["shape"]) != 2:
        raise FormatError(f"{file.path}: damaged voice file: it must hold one tensor `codes` of two axes")
    frames, codebooks = codes["shape"]
    prints = {k: v for k, v in file.metadata.items() if k.endswith("_sha256")}
    return {"kind": "voice", "file": str(file.path), "frames": frames, "codebooks": codebooks, **prints}


def model_facts(file: TensorFile) -> dict[str, Any]:
    """Architecture, recipe, bytes per part and per scheme, sources."""
    if file.metadata.get("format") != "sopro_np":
        raise FormatError(f"{file.path}: not a model file of sopro_np (convert it with `sopro-np convert`)")
    architecture = _records(file, "architecture")
    for part, record in (("sopro", SoproConfig), ("mimi", MimiConfig)):
        if part in architecture:
            record.from_dict(architecture[part])
    return {
        "kind": "model",
        "file": str(file.path),
        "bytes": Path(file.path).stat().st_size,
        "made_by": f"sopro_np {file.metadata.get('sopro_np_version')}",
        "recipe": _json(file, "recipe", dict),
        "speak_only": file.metadata.get("speak_only") == "true",
        "vocabulary": file.metadata.get("vocabulary"),
        "parts": {part: _part_bytes(file, part) for part in ("sopro", "mimi", "tokenizer") if _has(file, part)},
        "bits": {part: _part_bits(file, part) for part in ("sopro", "mimi") if _has(file, part)},
        "rounding": file.metadata.get("rounding", "plain"),
        "stored_as": dict(_by_dtype(file)),
        "architecture": architecture,
        "sources": _records(file, "sources"),
        "licenses": _json(file, "licenses", dict),
        "dropped": _json(file, "dropped", list),
        "passed_over": _passed_over(file),
        "filled": _json(file, "filled", list) if "filled" in file.metadata else [],  # not yet in files of 0.1
        "speech": _speech(file),
    }


def _arena(path: Path) -> int | str:
    """Bytes that a stream's operations compute in (found by speaking a little), or why nobody knows."""
    from sopro_np.bench.stages import stream_arenas

    try:
        tts = open_model(path)
        return stream_arenas(tts) if tts.ops == "native" else "none with NumPy's operations"
    except SoproError as error:  # a part of a model is a model file, too
        return f"unknown: {error}"


def _json(file: TensorFile, key: str, kind: type) -> Any:
    value = file.json(key)
    if not isinstance(value, kind):
        raise FormatError(f"{file.path}: metadata {key!r} is not what it should be: {value!r:.80}")
    return value


def _records(file: TensorFile, key: str) -> Any:
    """A JSON object of JSON objects."""
    records = _json(file, key, dict)
    if not all(isinstance(record, dict) for record in records.values()):
        raise FormatError(f"{file.path}: metadata {key!r} is not what it should be: {records!r:.80}")
    return records


def _passed_over(file: TensorFile) -> Any:
    """Part -> kind -> names of what upstream's loader ignores in the source; earlier files do not say."""
    parts = _records(file, "passed_over") if "passed_over" in file.metadata else {}
    if not all(isinstance(names, list) for kinds in parts.values() for names in kinds.values()):
        raise FormatError(f"{file.path}: metadata 'passed_over' is not what it should be: {parts!r:.80}")
    return parts


def _speech(file: TensorFile) -> dict[str, float] | None:
    """The pace that was measured on the model's lessons; None: it was not."""
    speech = file.json("speech") if "speech" in file.metadata else None
    return None if speech is None else dataclasses.asdict(Pace.read(speech, frame_rate=12.5))


def _has(file: TensorFile, part: str) -> bool:
    return any(n.startswith(f"{part}.") for n in file.header)


def _part_bytes(file: TensorFile, part: str) -> dict[str, int]:
    """Bytes of a part, by its modules."""
    sizes: Counter[str] = Counter()
    for name, entry in file.header.items():
        if name.startswith(f"{part}."):
            module = name.split(".")[1] if part in PARTS else "tables"
            sizes[module] += entry["data_offsets"][1] - entry["data_offsets"][0]
    return {"total": sum(sizes.values()), **dict(sizes.most_common())}


def _part_bits(file: TensorFile, part: str) -> dict[str, float]:
    """Bits per number of a part, by its modules: scales and shapes are counted as bits, not as numbers."""
    bits: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for name, entry in file.header.items():
        if name.startswith(f"{part}."):
            bytes_ = entry["data_offsets"][1] - entry["data_offsets"][0]
            count = math.prod(entry["shape"])
            if name.endswith("_shape"):
                count = math.prod(map(int, file[name]))
            elif name.endswith(("_packed", "_scale")):
                count = 0
            for key in ("all", name.split(".")[1]):
                bits[key] += 8 * bytes_
                numbers[key] += count
    return {key: round(bits[key] / numbers[key], 2) for key in bits if numbers[key]}


def _by_dtype(file: TensorFile) -> Counter[str]:
    """Numbers stored, by type."""
    counts: Counter[str] = Counter()
    for entry in file.header.values():
        counts[entry["dtype"]] += math.prod(entry["shape"])
    return counts


def _lines(facts: dict[str, Any]) -> list[str]:
    if facts["kind"] == "voice":
        return [f"{key}: {value}" for key, value in facts.items()]
    mb = 1e6
    lines = [
        f"{facts['file']}: {facts['bytes'] / mb:.1f} MB, recipe {facts['recipe'].get('name')}, {facts['made_by']}",
    ]
    if facts["speak_only"]:
        lines.append("only speaks: voices are made of recordings with the full file of the same model")
    if facts["vocabulary"]:
        lines.append(f"vocabulary: what {facts['vocabulary'].capitalize()} text can reach, nothing else")
    if sopro := facts["architecture"].get("sopro"):
        lines.append(
            f"sopro: width {sopro['width']}, {sopro['codebooks']} codebooks x {sopro['code_values']}, "
            f"{len(sopro['ar_dilations'])} AR and {len(sopro['nar_dilations'])} NAR blocks, "
            f"{len(sopro['stages'])} stages, stops by {sopro['stop']}, {sopro['nar_padding']} padding"
        )
    if mimi := facts["architecture"].get("mimi"):
        lines.append(
            f"mimi: {mimi['sample_rate']} Hz, width {mimi['width']}, {mimi['layers']} layers, "
            f"{mimi['codebooks']} codebooks x {mimi['code_values']}"
        )
    for part, sizes in facts["parts"].items():
        bits = facts["bits"].get(part, {})
        each = {k: f" at {bits[k]:g} bits" if k in bits else "" for k in sizes}
        modules = ", ".join(f"{k} {v / mb:.2f}{each[k]}" for k, v in sizes.items() if k != "total")
        all_bits = f", {bits['all']:g} bits a number" if bits else ""
        lines.append(f"{part}: {sizes['total'] / mb:.2f} MB{all_bits} ({modules})")
    lines.append(f"rounded to integers: {ROUNDED.get(facts['rounding'], facts['rounding'])}")
    lines.append("numbers: " + ", ".join(f"{n:,} {dtype}" for dtype, n in facts["stored_as"].items()))
    if (arena := facts.get("arena")) is not None:
        lines.append(f"arena: {arena if isinstance(arena, str) else f'{arena / mb:.1f} MB a stream'}")
    if p := facts["speech"]:
        lines.append(
            f"pace: {p['start']:g} frames + {p['each']:g} a character, times {p['low']:g} to {p['high']:g}; "
            f"up to {p['longest']} characters at once"
        )
    for part, source in facts["sources"].items():
        lines.append(f"from {part}: " + ", ".join(f"{k} {v}" for k, v in source.items()))
    lines.append("licences: " + ", ".join(f"{k} {v}" for k, v in facts["licenses"].items()))
    if facts["dropped"]:
        lines.append("dropped: " + ", ".join(map(str, facts["dropped"])))
    for part, kinds in facts["passed_over"].items():
        for kind, names in kinds.items():
            lines.append(f"passed over in {part}, {kind}: {', '.join(map(str, names))}")
    if facts["filled"]:
        lines.append("filled with upstream's initial values: " + ", ".join(map(str, facts["filled"])))
    return lines
