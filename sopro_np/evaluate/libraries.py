"""Libraries of the extra `eval`: loaded when a measure needs them, named when they are not there."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from sopro_np.errors import SoproError

PACKAGES = {  # module -> what pip is told; pyworld and webrtcvad import pkg_resources, which setuptools 81 dropped
    "pyworld": "'pyworld>=0.3.5' 'setuptools>=77,<81'",
    "jiwer": "'jiwer>=4.0'",
    "pocketsphinx": "'pocketsphinx>=5.0'",
    "faster_whisper": "'faster-whisper>=1.2'",
    "distillmos": "'distillmos>=0.9.1'",
    "onnxruntime": "'onnxruntime>=1.17'",
    "speechmos": "'speechmos>=0.0.1.1'",
    "resemblyzer": "'resemblyzer>=0.1.4' 'setuptools>=77,<81'",
}


class MissingLibrary(SoproError):
    """A measure cannot be taken on this installation."""


def remedy(name: str) -> str:
    """How the library of that module is installed: from its own name, for no index has this package's extras."""
    return f"pip install {PACKAGES.get(name, name)}"


def library(name: str, what: str) -> ModuleType:
    """The module `name`; MissingLibrary says what it was needed for and what to do."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyworld and webrtcvad speak of their own use of pkg_resources
            return importlib.import_module(name)
    except (ImportError, OSError) as error:  # the latter: a library of C that lacks another one
        reason = "is not installed" if getattr(error, "name", None) == name else f"cannot be loaded ({error})"
        raise MissingLibrary(f"{what} needs {name}, which {reason}: {remedy(name)}") from None
