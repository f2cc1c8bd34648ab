"""Conditioning row of frame t: what is said, where we are, and in which voice.

Rows do not see each other, so they are computed when they are needed, in any order, never for all of
`max_frames` up front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.config import SoproConfig
from sopro_np.errors import ModelError
from sopro_np.layers import CrossAttention, CrossKV, LayerNorm, Linear, RMSNorm
from sopro_np.model.utterance import Utterance
from sopro_np.weights import Weights

REFERENCE_ROOM = 128  # frames of a reference that a step is captured for; twice as many where they do not do


@dataclass(frozen=True)
class Film:
    """Speaker vector -> a gain and a shift for every channel (Perez et al. 2018, arXiv 1709.07871)."""

    hidden: Linear  # act "gelu"
    out: Linear  # act "tanh"
    norm: LayerNorm

    @staticmethod
    def read(w: Weights, config: SoproConfig) -> Film:
        d = config.width
        return Film(
            Linear.read(w.scope("hidden"), d, config.speaker_width, act="gelu"),
            Linear.read(w.scope("out"), 2 * d, d, act="tanh"),
            LayerNorm.read(w.scope("norm"), d),
        )

    def affine(self, speaker: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Speaker vector (E,), s -> 1 + s tanh g and s tanh b, (D,) each. s = 0: no change."""
        g, b = np.split(self.out(self.hidden(speaker[None]))[0], 2)
        s = np.float32(strength)
        return 1 + s * g, s * b

    def __call__(self, x: np.ndarray, affine: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """norm(x) * gain + shift.   x (T, D) -> (T, D)."""
        gain, shift = affine
        return self.norm(x) * gain + shift


@dataclass(frozen=True)
class Conditioner:
    """Pooled text + position -> FiLM -> reference attention -> norm."""

    positions: np.ndarray  # (frames, D), float32 or float16
    film: Film
    attention: tuple[CrossAttention, ...]
    norm: RMSNorm

    @staticmethod
    def read(w: Weights, config: SoproConfig) -> Conditioner:
        layers = w.scope("attention")
        return Conditioner(
            w.mapped("positions", None, config.width, types=("F32", "F16")),
            Film.read(w.scope("film"), config),
            tuple(
                CrossAttention.read(
                    layers.scope(i),
                    config.width,
                    config.reference_heads,
                    config.attention_bias,
                    config.reference_match,
                    config.reference_clamp,
                )
                for i in range(config.reference_layers)
            ),
            RMSNorm.read(w.scope("norm"), config.width),
        )

    def reference_kv(self, reference: np.ndarray) -> tuple[CrossKV, ...]:
        """Keys and values of the encoded reference (R, D), per layer."""
        return tuple(layer.cross_kv(reference).with_room(REFERENCE_ROOM) for layer in self.attention)

    def base(self, pooled: np.ndarray, first: int, last: int) -> np.ndarray:
        """Pooled text (D,) + position -> (last - first, D)."""
        if last > len(self.positions):
            raise ModelError(
                f"frame {last} lies beyond the model's {len(self.positions)} frame positions: lower max_frames"
            )
        return pooled + self.positions[first:last]

    def attend(self, x: np.ndarray, reference_kv: tuple[CrossKV, ...]) -> np.ndarray:
        """The reference attention layers, chained. (T, D) -> (T, D)."""
        for layer, kv in zip(self.attention, reference_kv, strict=True):
            x = layer(x, kv)
        return x

    def rows(self, u: Utterance, first: int, last: int) -> np.ndarray:
        """Conditioning of an utterance's frames first..last-1 -> (last - first, D)."""
        x = self.film(self.base(u.pooled, first, last), u.film)

        def attended(x: np.ndarray, *lengths: int) -> np.ndarray:
            known = tuple(kv._replace(length=n) for kv, n in zip(u.reference_kv, lengths))
            return self.norm(self.attend(x, known))

        lengths = [(kv.length, len(kv.keys)) for kv in u.reference_kv]
        return ops.replay(self, "attended", attended, (x,), u.reference_arrays, lengths)
