"""Weights + config -> Model: the one place where the parts of the acoustic model are put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np.config import SoproConfig
from sopro_np.errors import FormatError
from sopro_np.model.ar import Autoregressor
from sopro_np.model.condition import Conditioner
from sopro_np.model.nar import Refiner
from sopro_np.model.stop import StopRule
from sopro_np.model.text import TextEncoder
from sopro_np.model.utterance import Speaker, Utterance
from sopro_np.model.voice import ReferenceEncoder, SpeakerEncoder
from sopro_np.weights import Weights


@dataclass(frozen=True)
class Model:
    """The acoustic model: weights only, immutable, shared by all voices and streams."""

    config: SoproConfig
    text: TextEncoder
    speaker: SpeakerEncoder
    reference: ReferenceEncoder
    condition: Conditioner
    ar: Autoregressor
    nar: Refiner
    stop: StopRule

    def start(self, ids: np.ndarray, voice: Speaker, style: float | None = None) -> Utterance:
        """Text ids (S,), a voice, and the strength of the speaker vector (None: the model's own) -> Utterance."""
        sequence, pooled = self.text(ids)
        return Utterance(
            self.ar.text_kv(sequence),
            pooled,
            self.condition.film.affine(voice.speaker, self.config.style_strength if style is None else style),
            voice.reference_kv,
            voice.codes[: self.config.prefix_frames, 0],
        )


def build_model(w: Weights, config: SoproConfig) -> Model:
    """Read every tensor below `w`; a missing, misshapen or left-over one is an error."""
    check(config)
    table = w.table("codes.weight", config.codebooks * config.code_values + 1, config.width)
    voice = w.scope("voice", packs=False)  # used once per voice
    model = Model(
        config,
        TextEncoder.read(w.scope("text"), config),
        SpeakerEncoder.read(voice.scope("speaker"), config),
        ReferenceEncoder.read(voice, config, table),
        Conditioner.read(w.scope("condition"), config),
        Autoregressor.read(w.scope("ar"), config, table),
        Refiner.read(w.scope("nar"), config, table),
        StopRule.read(w.scope("stop"), config, table),
    )
    w.assert_all_used()
    return model


def check(c: SoproConfig) -> None:
    """Numbers that do not fit together, named, before a tensor is read."""
    covered = [q for stage in c.stages for q in stage]
    rules = {
        "sizes must be positive": min(c.width, c.codebooks, c.code_values, c.speaker_width) >= 1,
        "reference_seconds must be positive": c.reference_seconds > 0,
        "frame_rate must be positive": c.frame_rate > 0,
        "heads must divide width": all(h >= 1 and c.width % h == 0 for h in (c.reference_heads, c.text_heads)),
        "reference_match is 'values' or 'output'": c.reference_match in ("values", "output"),
        "nar_padding is 'causal' or 'same'": c.nar_padding in ("causal", "same"),
        "nar_trunk is 'shared' or 'own'": c.nar_trunk in ("shared", "own"),
        "stop is 'code', 'head' or 'never'": c.stop in ("code", "head", "never"),
        "ar_codes is code_values, plus one for an end code": c.ar_codes == c.code_values + (c.stop == "code"),
        "ar_history must be at least 1": c.ar_history >= 1,
        "dilations must be positive": all(d >= 1 for d in c.ar_dilations + c.nar_dilations),
        "ar_text_attention names existing blocks": all(i < len(c.ar_dilations) for i in c.ar_text_attention),
        "stages hold distinct codebooks 1..Q-1": sorted(set(covered)) == sorted(covered)
        and all(1 <= q < c.codebooks for q in covered)
        and all(c.stages),
    }
    for rule, holds in rules.items():
        if not holds:
            raise FormatError(f"the model's configuration is inconsistent: {rule}")
