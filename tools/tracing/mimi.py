"""Every stage of the codec on the waveforms and codes of a golden case."""

from __future__ import annotations

import re

import numpy as np

from sopro_np.mimi.codec import Mimi
from sopro_np.mimi.seanet import Seanet

Tensors = dict[str, np.ndarray]


def trace_mimi(mimi: Mimi, vectors: Tensors) -> Tensors:
    """Arrays under golden's names, (channels, time) as there."""
    out: Tensors = {}
    for name, value in vectors.items():
        if m := re.fullmatch(r"(enc\.L\d+)\.wav", name):
            out.update({name: value, **_encode(mimi, value, m[1])})
        if m := re.fullmatch(r"(dec\.T\d+)\.codes", name):
            out.update({name: value, **_decode(mimi, value.T, m[1])})
    for name in vectors:
        if m := re.fullmatch(r"dec\.T(\d+)\.wav_first(\d+)q", name):
            codes = vectors[f"dec.T{m[1]}.codes"].T[:, : int(m[2])]
            out[name] = mimi.decode(codes, mimi.new_state(len(codes)))
    return out


def _encode(mimi: Mimi, wav: np.ndarray, name: str) -> Tensors:
    out: Tensors = {}
    _layers(mimi.encoder.seanet, wav[:, None], f"{name}.seanet", out)
    x = mimi.encoder.convolved(wav)
    out[f"{name}.seanet"] = x.T
    x = mimi.encoder.transformed(x)
    out[f"{name}.transformer"] = x.T
    x = mimi.encoder.downsample(x)
    out[f"{name}.downsample"] = x.T
    out[f"{name}.sem_proj"] = mimi.quantizer.semantic.project(x).T
    out[f"{name}.aco_proj"] = mimi.quantizer.acoustic.project(x).T
    out[f"{name}.codes"] = mimi.encode(wav).T
    return out


def _decode(mimi: Mimi, codes: np.ndarray, name: str) -> Tensors:
    out: Tensors = {}
    state = mimi.new_state(len(codes))
    x = mimi.quantizer.decode(codes)
    out[f"{name}.quantizer"] = x.T
    x = mimi.upsample(x, state.upsample)
    out[f"{name}.upsample"] = x.T
    for i, (layer, kv) in enumerate(zip(mimi.decoder_transformer.layers, state.transformer, strict=True)):
        x = layer(x, [kv], mimi.decoder_transformer.rope, [0])
        if i == 0:
            out[f"{name}.transformer.after_layer0"] = x.T
    out[f"{name}.transformer"] = x.T
    _layers(mimi.decoder, x, f"{name}.seanet", out)
    out[f"{name}.wav"] = mimi.decode(codes, mimi.new_state(len(codes)))
    return out


def _layers(net: Seanet, x: np.ndarray, name: str, out: Tensors) -> None:
    """The output of every layer, under its number in the original's list."""
    for number, layer in zip(net.numbers, net.layers, strict=True):
        x = layer(x, layer.new_state())
        out[f"{name}.layer{number}"] = x.T
