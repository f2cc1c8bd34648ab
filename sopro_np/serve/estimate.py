"""How much memory a request will need: an estimate from its text, before anything is computed."""

from __future__ import annotations

import math

from sopro_np.engine import Sopro
from sopro_np.longform import AHEAD
from sopro_np.options import Options

FLOAT = 4  # bytes


def job_bytes(tts: Sopro, characters: int, options: Options) -> int:
    """Bytes of state, results and unread audio of a text of so many characters, at the model's usual pace."""
    pace, model, mimi = tts.pace, tts.model.config, tts.mimi
    longest = min(characters, pace.longest)
    frames = min(options.max_frames, math.ceil(pace.expected(longest)))  # of one sentence
    sentences = math.ceil(characters / pace.longest)
    positions = sum(2 * layer.key.weight.shape[0] for layer in mimi.decoder_transformer.layers)
    state = FLOAT * (positions * mimi.config.frame_stride + model.width * 4 + 2 * mimi.config.hop)
    audio = FLOAT * mimi.config.hop * frames * sentences
    return min(sentences, AHEAD) * frames * state + audio
