"""The pulse phase a decoder is asked for: whole periods in every frame, so that it depends on the frame's codes alone.

A codec of few codes cannot know where the original's pulses are, and a decoder cannot add up a pitch over all earlier
frames; but both know the pitch. Its phase starts at 0 in each frame of 80 ms and is stretched to end at a whole number
of turns: continuous from frame to frame, and within 6 Hz of the true pitch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FRAME = 8  # pitch values, one per 10 ms
FINE = 5  # phases per pitch value: 500 a second


def frame_phase(pitch: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch (B, 8T) in Hz, 0 = unvoiced -> cosine and sine of the phase (B, 40T, 2), voiced (B, 40T)."""
    frames = pitch.unflatten(1, (-1, FRAME))
    voiced = (frames > 0).float()
    mean = frames.sum(2, keepdim=True) / voiced.sum(2, keepdim=True).clamp_min(1)
    turns = torch.where(frames > 0, frames, mean).repeat_interleave(FINE, 2) / (100 * FINE)
    ends = turns.cumsum(2)
    total = ends[..., -1:]
    angle = 2 * math.pi * (ends - turns / 2) * (total.round() / total.clamp_min(1e-6))
    wave = torch.stack((angle.cos(), angle.sin()), -1)
    return wave.flatten(1, 2), voiced.repeat_interleave(FINE, 2).flatten(1)
