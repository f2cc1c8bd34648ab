"""Sopro TTS without a deep-learning framework.

import sopro_np
wav = sopro_np.synthesize("Hello.", ref="me.wav", model="sopro-v1.5-int8.safetensors", seed=1)
"""

from typing import TYPE_CHECKING, Any

from sopro_np.errors import Full, SoproError
from sopro_np.version import __version__

__all__ = ["Full", "Job", "Sopro", "SoproError", "Speech", "Voice", "__version__", "load", "synthesize"]


if TYPE_CHECKING:
    from sopro_np.api import Job, Sopro, Speech, Voice, load, synthesize


def __getattr__(name: str) -> Any:
    """The engine is imported on first use: `import sopro_np` alone, and `sopro-np --help`, stay instant."""
    if name in __all__:
        from sopro_np import api

        return getattr(api, name)
    raise AttributeError(f"module 'sopro_np' has no attribute {name!r}")
