"""Flite's statistical voices through its C library: speech, phones and pitch of a sentence, in this process.

CMU Flite 2.2 and its voices rms, slt and awb are free software (docs/TRAINING.md has the licences).
"""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

RATE = 16000  # samples a second of every voice here
PITCH_HOP = 80  # samples between pitch values, 5 ms


@dataclass(frozen=True)
class Speech:
    """Samples (n,) int16 at 16 kHz; phones and words as (name, end in seconds); pitch (n / 80,) in Hz, 0 = unvoiced."""

    samples: np.ndarray
    phones: list[tuple[str, float]]
    words: list[tuple[str, float]]
    pitch: np.ndarray


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
        track = library.val_track(library.feat_val(utterance.contents.features, b"param_track")).contents
        pitch = np.array([track.frames[i][0] for i in range(track.length)], np.float32)
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
    return Speech(samples, phones, words, pitch)


def _word(library: c.CDLL, segment: int) -> int | None:
    """The word that a phone belongs to; silence belongs to none."""
    inside = library.item_as(segment, b"SylStructure")
    syllable = library.item_parent(inside) if inside else None
    return library.item_parent(syllable) if syllable else None
