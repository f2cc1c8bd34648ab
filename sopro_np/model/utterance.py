"""An utterance: what is said, in which voice and how strongly styled, ready for any of its frames to be computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from sopro_np import ops
from sopro_np.layers import CrossKV


class Speaker(Protocol):
    """What a voice gives the model: reference codes (R, Q), speaker vector (E,), keys and values of the reference."""

    @property
    def codes(self) -> np.ndarray: ...
    @property
    def speaker(self) -> np.ndarray: ...
    @property
    def reference_kv(self) -> tuple[CrossKV, ...]: ...


@dataclass(frozen=True)
class Utterance:
    """Computed once per text and voice; nothing in it changes while frames are generated.

    text_kv: keys and values of the encoded text, per attending AR block; pooled (D,): the text as one vector;
    film: gain and shift (D,) by which the voice colours it; reference_kv: of the voice; prefix (P,): codes of the
    reference's codebook 0 that precede the first frame.
    """

    text_kv: Mapping[int, CrossKV]
    pooled: np.ndarray
    film: tuple[np.ndarray, np.ndarray]
    reference_kv: tuple[CrossKV, ...]
    prefix: np.ndarray

    @cached_property
    def reference_arrays(self) -> ops.Arrays:
        """Keys and values of the reference, for a step that reads them."""
        return ops.Arrays(array for kv in self.reference_kv for array in (kv.keys, kv.values))

    @property
    def text_room(self) -> int:
        """Text positions that its AR steps are captured for."""
        return max((len(kv.keys) for kv in self.text_kv.values()), default=0)
