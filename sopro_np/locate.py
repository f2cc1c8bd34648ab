"""Where model and voice files are found by name: on this user's machine, and inside the package."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from sopro_np.errors import SoproWarning, UsageError
from sopro_np.files import cache_dir, file_name, voices_dir

VOICE_SUFFIX = ".voice.safetensors"
DEFAULT_RECIPE = "int8"
EMBEDDED = Path(__file__).resolve().parent / "assets" / "demo.safetensors"  # with it: NAME.voice.safetensors
EMBEDDED_MODEL = "demo"  # its name; asked for by it, nobody has to be told
EMBEDDED_VOICE = "ross"  # speaks if no voice is asked for
PUBLISHED = ("v1", "v1.5")  # generations that `sopro-np download` fetches
NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)  # a name, never a path


def converted_models(generation: str, folder: Path) -> list[Path]:
    """All converted files of a published generation, the newest first."""
    return sorted(folder.glob(f"sopro-{generation}-*.safetensors"), key=os.path.getmtime, reverse=True)


def cached_model(name: str) -> Path | None:
    """File for `v1`, `v1.5` (int8 if there, else the newest) or its own name without the ending, or None."""
    if not NAME.fullmatch(name):
        return None
    if (folder := _folder(cache_dir)) is None:
        return None
    stem = name.removesuffix(".safetensors")
    first = (folder / f"{s}.safetensors" for s in (stem, f"sopro-{name}-{DEFAULT_RECIPE}"))
    return next((path for path in (*first, *converted_models(name, folder)) if os.path.isfile(path)), None)


def find_model(name: str | Path | None, tell: bool = True) -> Path:
    """A file, or the name of a downloaded model; None: SOPRO_NP_MODEL, else the embedded one.

    `tell`: a SoproWarning, once a process, if the embedded one is taken because none was named.
    """
    asked = "model"
    if name is None or name == "":
        name, asked = os.environ.get("SOPRO_NP_MODEL"), "SOPRO_NP_MODEL"
    if not name:
        if not EMBEDDED.is_file():
            raise UsageError(
                "no model: give --model FILE (or model=), set SOPRO_NP_MODEL, "
                "or get one with `sopro-np download v1.5` and use --model v1.5"
            )
        if tell:
            _say_that_it_is_embedded()
        return EMBEDDED
    name = file_name(name, asked)
    if os.path.isfile(name):  # Path.is_file raises for names that are too long
        return Path(name)
    if str(name) == EMBEDDED_MODEL and EMBEDDED.is_file():
        return EMBEDDED
    if found := cached_model(str(name)):
        return found
    if str(name) in PUBLISHED:
        raise UsageError(f"{asked} {name} is not downloaded yet: get it with `sopro-np download {name}`")
    folder = _folder(cache_dir)
    have = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors"))) if folder else ""
    raise UsageError(f"{asked} {str(name)!r} is neither a file nor a downloaded model (downloaded: {have or 'none'})")


@cache
def _say_that_it_is_embedded() -> None:
    """Once a process: nobody should take the small model for a published one."""
    warnings.warn(
        "no model was given: the small embedded one speaks (README tells how to get a published model)",
        SoproWarning,
        stacklevel=4,  # whoever called `load` or `synthesize`
    )


def _folder(which: Callable[[], Path]) -> Path | None:
    """A folder to look into: where there is no home directory, nothing is lost by looking nowhere."""
    try:
        return which()
    except UsageError:
        return None


def find_voice(name: str | Path | None, model: Path) -> Path:
    """A file, or the name of a voice in the voices folder or of an embedded one. None: the embedded model's own.

    A name is taken in any case, with or without the ending. The user's own come first, then those spelt as asked for.
    """
    if not isinstance(name, str | Path | None):
        kind = type(name).__name__
        raise UsageError(f"a voice must be a Voice (from voice() or load_voice()), a voice file or a name, not {kind}")
    if name is None:
        own = EMBEDDED.with_name(f"{EMBEDDED_VOICE}{VOICE_SUFFIX}")
        if model.resolve() != EMBEDDED or not own.is_file():
            raise UsageError("whose voice? give a recording (--ref, ref=) or a saved voice (--voice, voice=)")
        return own
    name = file_name(name, "voice")
    if os.path.isfile(name):
        return name
    folders = _voice_folders()
    for folder in folders:
        if found := voices_named(str(name), folder):
            return found[0]
    there = [f"in {folder}: {', '.join(_voices_in(folder)) or 'none'}" for folder in folders[:-1]]
    there.append(f"embedded: {', '.join(_voices_in(folders[-1])) or 'none'}")
    raise UsageError(f"voice {str(name)!r} is neither a file nor the name of a voice ({'; '.join(there)})")


def voices_named(name: str, folder: Path) -> list[Path]:
    """Files of the voices of that name in a folder: spelt so first, then in another case."""
    asked = voice_name(name)
    alike = (own for own in _voices_in(folder) if own.casefold() == asked.casefold())
    return [folder / f"{own}{VOICE_SUFFIX}" for own in sorted(alike, key=lambda own: own != asked)]


def _voice_folders() -> list[Path]:
    """The user's, if there is a place for it, and the embedded one."""
    mine = _folder(voices_dir)
    return [EMBEDDED.parent] if mine is None else [mine, EMBEDDED.parent]


def all_voices(model: Path) -> list[tuple[str, Path, bool]]:
    """(name, file, is it the model's default) of every voice with a name; the user's own hide embedded ones."""
    own = EMBEDDED.with_name(f"{EMBEDDED_VOICE}{VOICE_SUFFIX}") if model.resolve() == EMBEDDED else None
    found: dict[str, Path] = {}
    for folder in _voice_folders():
        hidden = {name.casefold() for name in found}
        found |= {n: folder / f"{n}{VOICE_SUFFIX}" for n in _voices_in(folder) if n.casefold() not in hidden}
    return [(name, path, path == own) for name, path in found.items()]


def _voices_in(folder: Path) -> list[str]:
    names = (path.name.removesuffix(VOICE_SUFFIX) for path in folder.glob(f"*{VOICE_SUFFIX}") if os.path.isfile(path))
    return sorted(name for name in names if name)


def voice_name(name: str) -> str:
    """Without the ending, which may stand in any case."""
    return name[: -len(VOICE_SUFFIX)] if name.casefold().endswith(VOICE_SUFFIX) else name
