"""Sopro TTS without a deep-learning framework.

import sopro_np
wav = sopro_np.synthesize("Hello.", ref="me.wav", model="sopro-v1.5-int8.safetensors", seed=1)
"""

from typing import TYPE_CHECKING, Any

from sopro_np.errors import (
    AudioError,
    BulkError,
    ConvertError,
    DownloadError,
    FormatError,
    Full,
    ModelError,
    NothingToSay,
    OpsError,
    RecipeError,
    SoproError,
    SoproWarning,
    TokenizerError,
    UsageError,
    VoiceError,
)
from sopro_np.version import __version__

if TYPE_CHECKING:
    from sopro_np.api import load, synthesize
    from sopro_np.engine import Sopro
    from sopro_np.longform import Job
    from sopro_np.options import OptionArgs, Options
    from sopro_np.speech import Speech
    from sopro_np.speechbatch import SpeechBatch
    from sopro_np.voice import Voice
    from sopro_np.wav import write_wav

__all__ = [
    "AudioError", "BulkError", "ConvertError", "DownloadError", "FormatError", "Full", "Job", "ModelError",
    "NothingToSay", "OpsError", "OptionArgs", "Options", "RecipeError", "Sopro", "SoproError", "SoproWarning", "Speech",
    "SpeechBatch", "TokenizerError", "UsageError", "Voice", "VoiceError", "__version__", "load", "synthesize",
    "write_wav",
]  # fmt: skip

# Imported on first use: `import sopro_np` alone, and `sopro-np --help`, stay instant. Name -> the module it lives in.
_LATER = {
    "Job": "longform", "OptionArgs": "options", "Options": "options", "Sopro": "engine", "Speech": "speech",
    "SpeechBatch": "speechbatch", "Voice": "voice", "load": "api", "synthesize": "api", "write_wav": "wav",
}  # fmt: skip


if not TYPE_CHECKING:  # else a type checker would believe in any name

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module 'sopro_np' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(f"sopro_np.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    """All that is for users, imported or not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
