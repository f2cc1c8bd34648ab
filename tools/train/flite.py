"""Flite's statistical voices through its C library: speech, phones and parameters of a sentence, in this process.

CMU Flite 2.2 and its voices rms, slt and awb are free software (docs/TRAINING.md has the licences).
"""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.linalg import solveh_banded

RATE = 16000  # samples a second of every voice here
HOP = 80  # samples between parameters, 5 ms
STRENGTHS, CEPSTRA = 5, 25
WIDTH = 1 + STRENGTHS + CEPSTRA
POSTFILTER = 1.4  # factor of all cepstra but the first two, as flite's
HIGHEST = 600  # Hz: one frame in a million has an infinite pitch


@dataclass(frozen=True)
class Speech:
    """Samples (n,) int16 at 16 kHz; phones and words as (name, end in seconds); what the samples were made from.

    track (n / 80, 31): pitch in Hz (0 = unvoiced), how much of five bands is voiced, mel-cepstrum.
    """

    samples: np.ndarray
    phones: list[tuple[str, float]]
    words: list[tuple[str, float]]
    track: np.ndarray


class _Wave(c.Structure):
    _fields_ = (
        ("type", c.c_char_p), ("rate", c.c_int), ("length", c.c_int), ("channels", c.c_int),
        ("samples", c.POINTER(c.c_short)),
    )  # fmt: skip


class _Track(c.Structure):
    _fields_ = (
        ("type", c.c_char_p), ("length", c.c_int), ("channels", c.c_int), ("times", c.POINTER(c.c_float)),
        ("frames", c.POINTER(c.POINTER(c.c_float))),
    )  # fmt: skip


class _Utterance(c.Structure):
    _fields_ = (("features", c.c_void_p),)


@cache
def _library() -> c.CDLL:
    library = c.CDLL("libflite.so.1", mode=c.RTLD_GLOBAL)
    for part in ("usenglish", "cmulex"):
        c.CDLL(f"libflite_{part}.so.1", mode=c.RTLD_GLOBAL)
    signatures: dict[str, tuple[Any, ...]] = {
        "flite_synth_text": (c.POINTER(_Utterance), c.c_char_p, c.c_void_p),
        "utt_wave": (c.POINTER(_Wave), c.POINTER(_Utterance)),
        "feat_val": (c.c_void_p, c.c_void_p, c.c_char_p),
        "val_track": (c.POINTER(_Track), c.c_void_p),
        "utt_relation": (c.c_void_p, c.POINTER(_Utterance), c.c_char_p),
        "relation_head": (c.c_void_p, c.c_void_p),
        "item_next": (c.c_void_p, c.c_void_p),
        "item_feat_string": (c.c_char_p, c.c_void_p, c.c_char_p),
        "item_feat_float": (c.c_float, c.c_void_p, c.c_char_p),
        "item_as": (c.c_void_p, c.c_void_p, c.c_char_p),
        "item_parent": (c.c_void_p, c.c_void_p),
        "delete_utterance": (None, c.POINTER(_Utterance)),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@cache
def _voice(name: str) -> int:
    _library()
    register = getattr(c.CDLL(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
    register.restype, register.argtypes = c.c_void_p, (c.c_char_p,)
    return int(register(None))


def available() -> bool:
    """Whether the library is installed (Debian: flite)."""
    try:
        _voice("rms")
    except (OSError, AttributeError):
        return False
    return True


def speak(text: str, voice: str) -> Speech:
    """The text in that voice; the same call always gives the same samples."""
    library = _library()
    c.CDLL(None).srand(1)  # the excitation's noise
    utterance = library.flite_synth_text(text.encode("ascii"), _voice(voice))
    if not utterance:
        raise RuntimeError(f"flite cannot say {text!r}")
    try:
        wave = library.utt_wave(utterance).contents
        if wave.rate != RATE:
            raise RuntimeError(f"voice {voice} speaks at {wave.rate} Hz instead of {RATE}")
        samples = np.ctypeslib.as_array(wave.samples, (wave.length,)).copy()
        features = utterance.contents.features
        parts = [_track(library, features, name) for name in (b"param_track", b"str_track")]
        phones, words, last = [], [], None
        segment = library.relation_head(library.utt_relation(utterance, b"Segment"))
        while segment:
            end = float(library.item_feat_float(segment, b"end"))
            phones.append((library.item_feat_string(segment, b"name").decode(), end))
            if word := _word(library, segment):
                if word == last:
                    words.pop()
                words.append((library.item_feat_string(word, b"name").decode(), end))
            last = word
            segment = library.item_next(segment)
    finally:
        library.delete_utterance(utterance)
    main, strengths = parts
    statistics = main[:, 2:].reshape(len(main), -1, 2)[:, : 2 * CEPSTRA]  # pitch and its deviation come first
    pitch = np.where(main[:, :1] < HIGHEST, main[:, :1], 0)
    return Speech(samples, phones, words, np.concatenate((pitch, strengths, trajectories(statistics)), 1))


def trajectories(statistics: np.ndarray) -> np.ndarray:
    """The likeliest cepstra (n, 25) given means and deviations (n, 50, 2) of their values, then of their slopes.

    Tokuda et al., Speech parameter generation algorithms for HMM-based speech synthesis (2000): flite does it, too,
    but does not keep the result. Then its postfilter: deeper formants.
    """
    means, precisions = statistics[..., 0].astype(float), 1 / np.maximum(statistics[..., 1].astype(float), 1e-3) ** 2
    out = np.empty((len(means), CEPSTRA))
    for k in range(CEPSTRA):
        value, slope = precisions[:, k], precisions[:, CEPSTRA + k].copy()
        slope[[0, -1]] = 0  # a slope is half the difference of the neighbours
        bands = np.zeros((3, len(means)))
        bands[0] = value
        bands[0, 1:] += slope[:-1] / 4
        bands[0, :-1] += slope[1:] / 4
        bands[2, :-2] = -slope[1:-1] / 4
        right = value * means[:, k]
        right[1:] += (slope * means[:, CEPSTRA + k])[:-1] / 2
        right[:-1] -= (slope * means[:, CEPSTRA + k])[1:] / 2
        out[:, k] = solveh_banded(bands, right, lower=True)
    out[:, 2:] *= POSTFILTER
    return out


def _track(library: c.CDLL, features: int, name: bytes) -> np.ndarray:
    """One of an utterance's tracks, (frames, channels)."""
    track = library.val_track(library.feat_val(features, name)).contents
    return np.array([track.frames[i][: track.channels] for i in range(track.length)], np.float32)


def _word(library: c.CDLL, segment: int) -> int | None:
    """The word that a phone belongs to; silence belongs to none."""
    inside = library.item_as(segment, b"SylStructure")
    syllable = library.item_parent(inside) if inside else None
    return library.item_parent(syllable) if syllable else None
