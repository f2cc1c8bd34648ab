"""A model file -> the parts it holds: acoustic model, codec, tokenizer. Every tensor must belong to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sopro_np.config import MimiConfig, SoproConfig
from sopro_np.errors import FormatError
from sopro_np.mimi.codec import Mimi, build_mimi
from sopro_np.model.build import Model, build_model
from sopro_np.pace import Pace
from sopro_np.tensorfile import TensorFile
from sopro_np.tokenizer import Tokenizer
from sopro_np.voice import FORMAT as VOICE
from sopro_np.weights import Weights

VERSIONS = ("1", "2")  # of the format; 2: see Recipe.format_version


@dataclass(frozen=True)
class Parts:
    """What a file holds (None: it does not); fingerprints: part -> sha256 of the checkpoint it was made from; pace: how
    fast it speaks."""

    model: Model | None
    mimi: Mimi | None
    tokenizer: Tokenizer | None
    fingerprints: dict[str, str]
    pace: Pace


def read_parts(file: TensorFile, weights: Weights) -> Parts:
    """FormatError, which names the file, if it is not one of ours, or damaged, or its parts do not fit together."""
    try:
        return _read(file, weights)
    except FormatError as error:
        message = str(error)
        raise FormatError(message if str(file.path) in message else f"{file.path}: {message}") from None


def check_kind(file: TensorFile) -> None:
    """Is it a model at all? FormatError says what it is."""
    kind = file.metadata.get("format")
    if kind == VOICE:
        raise FormatError(f"{file.path}: a voice file, not a model: it is given with --voice (voice=)")
    if kind != "sopro_np":
        raise FormatError(f"{file.path}: a safetensors file, but not one made by `sopro-np convert`: convert it first")


def _read(file: TensorFile, weights: Weights) -> Parts:
    check_kind(file)
    if (version := file.metadata.get("format_version")) not in VERSIONS:
        raise FormatError(f"{file.path}: format version {version!s:.20}, this program reads {' and '.join(VERSIONS)}")
    if (speaks_only := file.metadata.get("speak_only", "false")) not in ("true", "false"):
        raise FormatError(f"{file.path}: metadata 'speak_only' is {speaks_only!r:.20}, not true or false")
    architecture = file.json("architecture")
    if not isinstance(architecture, dict) or set(architecture) - {"sopro", "mimi"}:
        raise FormatError(f"{file.path}: the architecture in the metadata is not understood")
    model = mimi = tokenizer = None
    if "sopro" in architecture:
        model = build_model(weights.scope("sopro"), SoproConfig.from_dict(architecture["sopro"]))
    if "mimi" in architecture:
        mimi = build_mimi(weights.scope("mimi"), MimiConfig.from_dict(architecture["mimi"]), speaks_only == "false")
    if names := [n for n in file.header if n.startswith("tokenizer.")]:
        tokenizer = Tokenizer({n: file[n] for n in names})
        weights.used.update(names)
    weights.assert_all_used()
    if model and tokenizer and tokenizer.vocab_size > model.text.vocabulary:
        raise FormatError(
            f"{file.path}: the tokenizer has {tokenizer.vocab_size} entries, "
            f"the text encoder {model.text.vocabulary}: they do not belong together"
        )
    if model and mimi:
        s, m = model.config, mimi.config
        if s.codebooks > m.codebooks or s.code_values > m.code_values:
            raise FormatError(f"{file.path}: the codec has fewer codes than the model writes")
        if abs(s.frame_rate - m.frame_rate) > 1e-3 * s.frame_rate:
            raise FormatError(
                f"{file.path}: the codec has {m.frame_rate:g} frames a second, the model {s.frame_rate:g}"
            )
    speech = file.json("speech") if "speech" in file.metadata else None
    pace = Pace.read(speech, model.config.frame_rate if model else 12.5)
    return Parts(model, mimi, tokenizer, _fingerprints(file.json("sources"), architecture), pace)


def _fingerprints(sources: Any, architecture: dict[str, Any]) -> dict[str, str]:
    """Part -> sha256 of the checkpoint it was made from: what ties a voice to its model."""
    try:
        prints = {part: sources[part]["sha256"] for part in architecture}
    except (KeyError, TypeError):
        prints = {"sources": None}
    if not all(isinstance(digest, str) for digest in prints.values()):
        raise FormatError("the metadata 'sources' must hold a sha256 for every part")
    return prints
