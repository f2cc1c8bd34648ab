"""Libraries of the extra `eval`: loaded when a measure needs them, named when they are not there."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from sopro_np.errors import SoproError


class MissingLibrary(SoproError):
    """A measure cannot be taken on this installation."""


def library(name: str, what: str) -> ModuleType:
    """The module `name`; MissingLibrary says what it was needed for and what to do."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyworld and webrtcvad speak of their own use of pkg_resources
            return importlib.import_module(name)
    except ImportError as error:
        reason = "is not installed" if getattr(error, "name", None) == name else f"cannot be loaded ({error})"
        raise MissingLibrary(f"{what} needs {name}, which {reason}: pip install 'sopro_np[eval]'") from None
