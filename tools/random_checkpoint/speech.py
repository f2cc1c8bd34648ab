"""Four seconds of speech-like sound: glottal pulses through moving formants, a little noise, and pauses."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

RATE = 24000
SECONDS = 4.0
PEAK = 0.5

# Formant frequencies in Hz of five vowels (adult voice, Peterson and Barney 1952, rounded).
VOWELS = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]], np.float64
)
BANDWIDTHS = np.array([80.0, 100.0, 140.0])
LOUDNESS = np.array([1.0, 0.5, 0.25])
PHRASES = ((0.15, 1.45), (1.75, 2.6), (2.85, 3.8))  # seconds; silence between them


def speech(rng: np.random.Generator) -> np.ndarray:
    """One utterance, float64 (SECONDS * RATE,), peak 0.5.

    Each glottal pulse excites three damped sinusoids (a formant-wave-function synthesiser), whose frequencies
    glide from vowel to vowel; the pitch falls within each phrase.
    """
    out = np.zeros(int(SECONDS * RATE))
    grain = np.arange(int(0.03 * RATE)) / RATE
    damping = np.exp(-np.pi * BANDWIDTHS[:, None] * grain)
    pitch = rng.uniform(100.0, 200.0)
    for start, end in PHRASES:
        knots = np.linspace(start, end, max(3, round((end - start) * 5)))  # five syllables a second
        vowels = VOWELS[rng.integers(len(VOWELS), size=knots.size)]
        t = start
        while t < end - 0.03:
            formants = np.array([np.interp(t, knots, vowels[:, f]) for f in range(3)])
            position = (t - start) / (end - start)
            syllable = 0.55 - 0.45 * np.cos(2 * np.pi * position * (knots.size - 1))
            envelope = syllable * np.sin(np.pi * min(max(position, 0.02), 0.98)) ** 0.5
            waves = damping * np.sin(2 * np.pi * formants[:, None] * grain)
            at = int(t * RATE)
            out[at : at + grain.size] += envelope * (LOUDNESS @ waves)
            t += 1.0 / (pitch * (1.1 - 0.25 * position + 0.02 * rng.standard_normal()))
        breath = slice(int((start - 0.06) * RATE), int((start + 0.02) * RATE))  # a fricative opens the phrase
        noise = np.diff(rng.standard_normal(breath.stop - breath.start + 1))
        out[breath] += 0.15 * noise * np.hanning(noise.size)
    out += 0.001 * rng.standard_normal(out.size)  # the room
    return out * (PEAK / np.abs(out).max())


def write_reference(path: Path, rng: np.random.Generator) -> None:
    """Write the utterance as mono PCM16 at 24 kHz."""
    pcm = np.rint(speech(rng) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
