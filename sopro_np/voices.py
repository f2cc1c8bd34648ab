"""Who speaks: a recording heard as codes, the names of the voices that fit, and voices called by name, kept loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sopro_np.audio import MAX_SECONDS, AudioSource, reference_samples
from sopro_np.errors import SoproError, SoproWarning, UsageError, VoiceError
from sopro_np.locate import all_voices, find_voice
from sopro_np.mimi.codec import Mimi
from sopro_np.model.build import Model
from sopro_np.ops.runtime import Runtime
from sopro_np.voice import Voice, WhoSpeaks, check_fingerprints, saved_fingerprints

VOICES_KEPT = 16  # voices called by name that stay loaded


def reference_codes(
    model: Model, mimi: Mimi, runtime: Runtime, ref: AudioSource | np.ndarray, seconds: float | None
) -> np.ndarray:
    """A recording, or float samples (n,) at the codec's rate, at most `seconds` of it -> codes (R, Q)."""
    config = model.config
    most = min(MAX_SECONDS, mimi.most_frames / mimi.config.frame_rate)
    limit = min(config.reference_seconds, most) if seconds is None else seconds
    if not isinstance(limit, int | float) or not 0 < limit <= most:
        raise UsageError(f"seconds = {limit!r} must be more than 0 and at most {most:g}, all this model can hear")
    wav = reference_samples(ref, mimi.config.sample_rate, limit, mimi.config.frame_rate)
    with runtime():
        return mimi.encode(wav)[:, : config.codebooks]


def fitting_voices(model: Path, fingerprints: Mapping[str, str]) -> list[str]:
    """Names of the saved voices that fit the model of this file, its default first. SoproWarning: damaged files."""
    found = []
    for name, path, default in all_voices(model):
        try:
            check_fingerprints(saved_fingerprints(path), fingerprints, name)
        except VoiceError:  # of another model
            continue
        except SoproError as error:
            warnings.warn(f"left out: {error}", SoproWarning, stacklevel=2)
            continue
        found.append((not default, name))
    return [name for _, name in sorted(found)]


class LoadedVoices:
    """The voices that one model was last asked for by name, loaded: file -> (its time, the voice)."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, Voice]] = {}

    def find(
        self, who: WhoSpeaks, model: Path, fingerprints: Mapping[str, str], load: Callable[[str | Path], Voice]
    ) -> Voice:
        """A voice that fits; called by name or file it is loaded once, and again if the file has changed."""
        if isinstance(who, Voice):
            check_fingerprints(who.fingerprints, fingerprints, "this voice")
            return who
        path = find_voice(who, model)
        modified = path.stat().st_mtime_ns
        known = self._known.get(path)
        if known is None or known[0] != modified:
            known = modified, load(path)
            if len(self._known) >= VOICES_KEPT:
                self._known.pop(next(iter(self._known)), None)
            self._known[path] = known
        return known[1]

    def clear(self) -> None:
        self._known.clear()
