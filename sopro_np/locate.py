"""Where model and voice files are found by name: on this user's machine, and inside the package."""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from pathlib import Path

from sopro_np.errors import UsageError
from sopro_np.files import cache_dir, voices_dir

VOICE_SUFFIX = ".voice.safetensors"
DEFAULT_RECIPE = "int8"
EMBEDDED = Path(__file__).resolve().parent / "assets" / "demo.safetensors"  # with it: NAME.voice.safetensors
EMBEDDED_MODEL = "demo"  # its name; asked for by it, nobody has to be told
EMBEDDED_VOICE = "ross"  # speaks if no voice is asked for
NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)  # a name, never a path


def converted_models(generation: str, folder: Path) -> list[Path]:
    """All converted files of a published generation, the newest first."""
    return sorted(folder.glob(f"sopro-{generation}-*.safetensors"), key=os.path.getmtime, reverse=True)


def cached_model(name: str) -> Path | None:
    """File for `v1`, `v1.5` (int8 if there, else the newest) or its own name without the ending, or None."""
    if not NAME.fullmatch(name):
        return None
    folder, stem = cache_dir(), name.removesuffix(".safetensors")
    first = (folder / f"{s}.safetensors" for s in (stem, f"sopro-{name}-{DEFAULT_RECIPE}"))
    return next((path for path in (*first, *converted_models(name, folder)) if os.path.isfile(path)), None)


def find_model(name: str | Path | None) -> Path:
    """A file, or the name of a downloaded model; None: SOPRO_NP_MODEL, else the embedded one."""
    name = name or os.environ.get("SOPRO_NP_MODEL")
    if not name:
        if not EMBEDDED.is_file():
            raise UsageError(
                "no model: give --model FILE (or model=), set SOPRO_NP_MODEL, "
                "or get one with `sopro-np download v1.5` and use --model v1.5"
            )
        _say_that_it_is_embedded()
        return EMBEDDED
    if os.path.isfile(name):  # Path.is_file raises for names that are too long
        return Path(name)
    if str(name) == EMBEDDED_MODEL and EMBEDDED.is_file():
        return EMBEDDED
    if found := cached_model(str(name)):
        return found
    have = ", ".join(sorted(p.stem for p in cache_dir().glob("*.safetensors"))) or "none"
    raise UsageError(f"model {str(name)!r} is neither a file nor a downloaded model (downloaded: {have})")


@cache
def _say_that_it_is_embedded() -> None:
    """Once a process: nobody should take the small model for a published one."""
    logging.getLogger("sopro_np").warning(
        "sopro_np: no model was given: the small embedded one speaks (README tells how to get a published model)"
    )


def find_voice(name: str | Path | None, model: Path) -> Path:
    """A file, or the name of a voice in the voices folder or of an embedded one. None: the embedded model's own."""
    if name is None:
        own = EMBEDDED.with_name(f"{EMBEDDED_VOICE}{VOICE_SUFFIX}")
        if model.resolve() != EMBEDDED or not own.is_file():
            raise UsageError("whose voice? give a recording (--ref, ref=) or a saved voice (--voice, voice=)")
        return own
    if os.path.isfile(name):
        return Path(name)
    folders = (voices_dir(), EMBEDDED.parent)
    if Path(str(name)).name == str(name):
        for folder in folders:
            if os.path.isfile(path := folder / f"{name}{VOICE_SUFFIX}"):
                return path
    mine, embedded = (", ".join(_voices_in(folder)) or "none" for folder in folders)
    raise UsageError(f"voice {str(name)!r} is neither a file nor in {folders[0]} (there: {mine}; embedded: {embedded})")


def all_voices(model: Path) -> list[tuple[str, Path, bool]]:
    """(name, file, is it the model's default) of every voice with a name; the user's own hide embedded ones."""
    own = EMBEDDED.with_name(f"{EMBEDDED_VOICE}{VOICE_SUFFIX}") if model.resolve() == EMBEDDED else None
    found: dict[str, Path] = {}
    for folder in (voices_dir(), EMBEDDED.parent):
        for name in _voices_in(folder):
            found.setdefault(name, folder / f"{name}{VOICE_SUFFIX}")
    return [(name, path, path == own) for name, path in found.items()]


def _voices_in(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(VOICE_SUFFIX) for path in folder.glob(f"*{VOICE_SUFFIX}"))
