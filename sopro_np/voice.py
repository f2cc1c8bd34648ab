"""A voice: what the model needs of a reference recording, computed once, used for any number of sentences.

The file holds the reference *codes* (a few KB) and says which codec made them and which model they are for;
keys, values and the speaker vector are rebuilt when it is loaded, so all recipes of one model share voices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors.numpy import save

from sopro_np.errors import FormatError, VoiceError
from sopro_np.files import replacing
from sopro_np.layers import CrossKV
from sopro_np.model.build import Model
from sopro_np.tensorfile import TensorFile

FORMAT = "sopro_np.voice"
MAX_FRAMES = 1 << 12  # of a reference, five minutes: the speaker encoder sees them all at once


@dataclass(frozen=True, eq=False, repr=False)
class Voice:
    """A speaker, as a model needs it: made by `Sopro.voice` from a recording or by `Sopro.load_voice` from a file.

    Immutable, arrays included (they are copies of what was given); voices are equal, as keys of a dict too, if codes
    and fingerprints are: the rest follows from them. They can be pickled and copied.

    codes (R, Q) uint16; speaker (E,); reference_kv: keys and values (R, D) per reference attention layer;
    fingerprints: part name -> sha256 of the checkpoint the codes and vectors belong to; frame_rate: R per second.
    """

    codes: np.ndarray
    speaker: np.ndarray
    reference_kv: tuple[CrossKV, ...]
    fingerprints: Mapping[str, str]
    frame_rate: float = 12.5

    def __post_init__(self) -> None:
        reference_kv = tuple(CrossKV(_own(kv.keys), _own(kv.values), kv.length) for kv in self.reference_kv)
        fixed = {"codes": _own(self.codes), "speaker": _own(self.speaker), "reference_kv": reference_kv}
        for name, value in {**fixed, "fingerprints": MappingProxyType(dict(self.fingerprints))}.items():
            object.__setattr__(self, name, value)

    @property
    def seconds(self) -> float:
        """Length of the recording behind it, as far as it is used."""
        return len(self.codes) / self.frame_rate

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Voice):
            return NotImplemented
        return np.array_equal(self.codes, other.codes) and self.fingerprints == other.fingerprints

    def __hash__(self) -> int:
        return hash((self.codes.shape, self.codes.astype(np.uint16).tobytes(), frozenset(self.fingerprints.items())))

    def __repr__(self) -> str:
        model = self.fingerprints.get("sopro", "unknown")[:6]
        return f"Voice({self.seconds:.1f} s, {self.codes.shape[-1]} codebooks, model {model})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as it was made, so that the other side's arrays are read-only, too."""
        return Voice, (self.codes, self.speaker, self.reference_kv, dict(self.fingerprints), self.frame_rate)

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file of a few KB, whole or not at all. VoiceError if it cannot be written."""
        metadata = {"format": FORMAT, "version": "1", **{f"{k}_sha256": v for k, v in self.fingerprints.items()}}
        data = save({"codes": self.codes.astype(np.uint16)}, metadata)
        with replacing(path, VoiceError) as f:
            f.write(data)


def _own(array: np.ndarray) -> np.ndarray:
    """A copy that nobody can change."""
    array = np.array(array)
    array.flags.writeable = False
    return array


WhoSpeaks = Voice | str | Path | None  # a voice, a voice file, a name, or None: the embedded model's own


def make_voice(model: Model, codes: np.ndarray, fingerprints: Mapping[str, str]) -> Voice:
    """Reference codes (R, Q) -> Voice for this model."""
    config = model.config
    if codes.ndim != 2 or codes.shape[1] != config.codebooks or len(codes) == 0:
        raise VoiceError(f"reference codes of shape {codes.shape}: (frames, {config.codebooks}) is needed")
    if len(codes) > MAX_FRAMES:
        raise VoiceError(f"the reference has {len(codes)} frames, the most are {MAX_FRAMES}: cut it")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= config.code_values:
        raise VoiceError(f"a reference code lies outside 0..{config.code_values - 1}")
    reference_kv = model.condition.reference_kv(model.reference(codes))
    return Voice(codes.astype(np.uint16), model.speaker(codes), reference_kv, fingerprints, config.frame_rate)


def load_voice(path: str | Path, model: Model, fingerprints: Mapping[str, str]) -> Voice:
    """Read a voice file; one that belongs to another model or codec is refused with the reason."""
    try:
        file = TensorFile(path)
    except FormatError as error:
        raise VoiceError(f"{error}; a voice is made from a recording by `sopro-np voice`") from None
    if file.metadata.get("format") != FORMAT:
        raise VoiceError(f"{path}: not a voice file; make one with `sopro-np voice REF -o {Path(path).name}`")
    if file.metadata.get("version") != "1":
        raise VoiceError(f"{path}: voice version {file.metadata.get('version')!s:.20}, this program reads 1")
    check_fingerprints(_prints(file), fingerprints, str(path))
    if list(file.header) != ["codes"] or file.header["codes"]["dtype"] != "U16":
        raise VoiceError(f"{path}: damaged (it must hold one U16 tensor `codes`)")
    try:
        return make_voice(model, np.array(file["codes"]), fingerprints)
    except VoiceError as error:
        raise VoiceError(f"{path}: {error}") from None


def saved_fingerprints(path: str | Path) -> dict[str, str]:
    """Of a voice file, from its header alone. FormatError if it is damaged, or something else."""
    file = TensorFile(path)
    if file.metadata.get("format") != FORMAT:
        raise FormatError(f"{path}: not a voice file")
    return _prints(file)


def _prints(file: TensorFile) -> dict[str, str]:
    return {k.removesuffix("_sha256"): v for k, v in file.metadata.items() if k.endswith("_sha256")}


def check_fingerprints(theirs: Mapping[str, str], mine: Mapping[str, str], name: str) -> None:
    """A voice fits the checkpoints it was made with, in any recipe, and no others."""
    for part in mine:
        if theirs.get(part) != mine[part]:
            raise VoiceError(
                f"{name}: made for another {part} checkpoint "
                f"({str(theirs.get(part))[:12]}..., this model has {mine[part][:12]}...): "
                "make it again from the recording with `sopro-np voice`"
            )
