"""The functions at the top of the package: `load`, and `synthesize` for a program that wants one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sopro_np import engine
from sopro_np.audio import AudioSource
from sopro_np.engine import Sopro
from sopro_np.errors import UsageError
from sopro_np.locate import find_model, find_voice
from sopro_np.modelfile import check_kind
from sopro_np.ops import current
from sopro_np.options import OptionArgs, Options
from sopro_np.speech import check_text
from sopro_np.tensorfile import TensorFile
from sopro_np.voice import Voice


def load(model: str | Path | None = None, threads: int | None = None, ops: str | None = None) -> Sopro:
    """Open a model: a file, the name of a downloaded one, or None for SOPRO_NP_MODEL, else the embedded one.

    `threads`: at most that many for large products. `ops`: "numpy" (or "native").
    """
    if model is not None and not isinstance(model, str | Path):
        raise UsageError(f"model = {model!r}: give a file or a name")
    return engine.open_model(find_model(model), threads, ops)


_last: tuple[tuple[Any, ...], Sopro] | None = None


def synthesize(
    text: str,
    ref: AudioSource | None = None,
    voice: Voice | str | Path | None = None,
    model: str | Path | None = None,
    *,
    threads: int | None = None,
    ops: str | None = None,
    **options: Unpack[OptionArgs],
) -> np.ndarray:
    """Text -> float32 waveform (samples,), mono, in [-1, 1], at the model's rate (24 kHz for the published ones).

    One of `ref` (a recording: file name, bytes or file object) and `voice` (a Voice, a voice file or a name); the
    embedded model has a voice for the case that neither is given.
    `model`: a file or the name of a downloaded model; else SOPRO_NP_MODEL, else the embedded one. The last model
    stays loaded.
    `options` are the fields of sopro_np.options.Options. Errors: sopro_np.SoproError.
    """
    check_text(text)
    Options.of(options)  # what is wrong with them is said before a model is read
    if ref is not None and voice is not None:
        raise UsageError("give either ref= (a recording) or voice= (a saved voice), not both")
    path = find_model(model)
    check_kind(TensorFile(path))  # before a voice for it is asked for
    saved = None if ref is not None or isinstance(voice, Voice) else find_voice(voice, path)  # fails before loading
    tts = _loaded(path, threads, ops)
    if ref is not None:
        voice = tts.voice(ref)
    elif saved is not None:
        voice = tts.load_voice(saved)
    assert isinstance(voice, Voice)
    return tts.synthesize(text, voice, **options)


def _loaded(path: Path, threads: int | None, ops: str | None) -> Sopro:
    """The last model again, unless another file, thread count or set of ops is asked for."""
    global _last
    ops = current() if ops is None else ops
    key = (path.resolve(), path.stat().st_mtime_ns, threads, ops)
    if _last is None or _last[0] != key:
        _last = (key, load(path, threads, ops))
    return _last[1]
