"""What the numbers of one model are, as the converter wrote them: two frozen records, no defaults.

An unknown or missing key is an error: a file made by a newer converter must not half-work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Self, get_args, get_type_hints

from sopro_np.errors import FormatError

# The second word is the largest value that is believed: a damaged number must not reserve memory.
Count = Annotated[int, 1 << 24]
Layers = Annotated[int, 1 << 10]
Reach = Annotated[int, 1 << 12]  # a dilation or a stride, in frames
Real = Annotated[float, 1e6]


class _Record:
    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """JSON object -> record; lists become tuples; names the key that does not fit."""
        name = cls.__name__
        if not isinstance(values, dict):
            raise FormatError(f"{name}: a JSON object was expected, got {type(values).__name__}")
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - known):
            raise FormatError(f"{name}: unknown keys {unknown}; this file needs a newer sopro_np")
        if missing := sorted(known - set(values)):
            raise FormatError(f"{name}: missing keys {missing}; convert the model again")
        hints = get_type_hints(cls, include_extras=True)
        return cls(**{key: _coerce(f"{name}.{key}", value, hints[key]) for key, value in values.items()})


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """Check one JSON value against str, Count, Layers, Reach, Real, a tuple of them, or one of them `| None`."""
    kinds = get_args(hint)
    if type(None) in kinds:
        return None if value is None else _coerce(name, value, kinds[0])
    if Ellipsis in kinds:
        if not isinstance(value, list):
            raise FormatError(f"{name}: {value!r:.80} is not a list")
        return tuple(_coerce(name, item, kinds[0]) for item in value)
    kind, largest = kinds if kinds else (hint, None)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise FormatError(f"{name}: {value!r:.80} is not of the type {kind.__name__}")
    if largest is None:
        return value
    if not 0 <= value <= largest:
        raise FormatError(f"{name}: {value!r:.80} is not in 0..{largest:g}")
    return kind(value)


@dataclass(frozen=True)
class SoproConfig(_Record):
    """The acoustic model: text and a voice -> codes.

    Codebooks are counted from 0; a stage is a tuple of codebooks. Times are seconds where the name says so.
    """

    width: Count  # D, channels of the whole model
    codebooks: Layers  # Q
    code_values: Count  # V, entries of one codebook
    frame_rate: Real  # frames per second
    speaker_width: Count  # length of the speaker vector
    text_layers: Layers
    voice_layers: Layers  # blocks that encode the reference
    reference_layers: Layers  # cross-attention layers over the reference
    reference_heads: Layers
    reference_match: str  # "values": loudness matched before the output projection; "output": after it
    reference_clamp: Real | None  # largest loudness ratio
    ar_dilations: tuple[Reach, ...]  # one per block
    ar_text_attention: tuple[Count, ...]  # blocks followed by text attention
    text_heads: Layers
    attention_bias: bool  # do the projections of both kinds of attention have biases?
    ar_history: Count  # previous codes that enter a step
    ar_codes: Count  # outputs of the AR head: V, or V + 1 with an end code
    nar_dilations: tuple[Reach, ...]
    nar_padding: str  # "causal" or "same"
    nar_trunk: str  # "shared" by all stages, or each stage its "own"
    stages: tuple[tuple[Count, ...], ...]
    stop: str  # "code": an end code; "head": a probability per frame; "never"
    stop_threshold: Real
    stop_patience: Count
    min_gen_frames: Count
    prefix_frames: Count  # frames of the reference that may precede the first generated code
    style_strength: Real
    reference_seconds: Real


@dataclass(frozen=True)
class MimiConfig(_Record):
    """The codec: codes <-> waveform."""

    sample_rate: Count  # Hz
    width: Count  # H, channels between the SEANet and the quantizer
    ratios: tuple[Reach, ...]  # upsampling of the decoder, in its order
    residual_layers: Layers
    dilation_growth: Annotated[int, 16]
    layers: Layers
    heads: Layers
    norm_eps: Real
    codebooks: Layers  # Q
    semantic_codebooks: Count
    code_values: Count  # V
    code_width: Count  # length of one codebook row
    frame_stride: Reach  # transformer positions per frame

    @property
    def hop(self) -> int:
        """Samples per frame."""
        hop = self.frame_stride
        for ratio in self.ratios:
            hop *= ratio
        return hop

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop
