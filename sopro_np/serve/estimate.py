"""How much memory requests will need: an estimate from their texts, before anything is computed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection
from dataclasses import dataclass

from sopro_np.engine import Sopro
from sopro_np.longform import AHEAD
from sopro_np.options import Options

FLOAT = 4  # bytes
WORK = 64 << 10  # bytes of arena for each frame of the longest sentence; embedded and published sizes take 40 to 75 KB


@dataclass(frozen=True)
class Need:
    """Of one request: frames of its longest sentence, how many sentences of it may be on their way, bytes of state and
    results of each of these, bytes of all its audio, which somebody may be slow to take."""

    frames: int
    sentences: int
    state: int
    audio: int


def need(tts: Sopro, characters: int, options: Options) -> Need:
    """What a text of so many characters needs at the model's usual pace."""
    pace, mimi = tts.pace, tts.mimi
    frames = min(options.max_frames, math.ceil(pace.expected(min(characters, pace.longest))))
    sentences = math.ceil(characters / pace.longest)
    kept = sum(2 * layer.key.weight.shape[0] for layer in mimi.decoder_transformer.layers)  # keys, values of a position
    a_frame = FLOAT * (kept * mimi.config.frame_stride + 2 * mimi.config.hop + 4 * tts.model.config.width)
    return Need(frames, min(sentences, AHEAD), frames * a_frame, FLOAT * mimi.config.hop * frames * sentences)


def total_bytes(needs: Collection[Need], width: int) -> int:
    """What these requests need together in a batch of `width` texts: it has width + AHEAD sentences on their way."""
    states = (need.state for need in needs for _ in range(need.sentences))
    work = WORK * max((need.frames for need in needs), default=0)
    return work + sum(heapq.nlargest(width + AHEAD, states)) + sum(need.audio for need in needs)
