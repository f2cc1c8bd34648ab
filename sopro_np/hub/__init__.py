"""Published checkpoints: found and fetched on the Hugging Face Hub, verified, converted, kept in the user's cache.

Trust on first use: the metadata of the converted file keeps commit and sha256 of every source, and a later
download whose sources differ is refused until the user accepts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.convert.sopro import generation_of
from sopro_np.convert.source import INDEX, shards
from sopro_np.errors import DownloadError, FormatError, UsageError
from sopro_np.files import cache_dir
from sopro_np.hub import client
from sopro_np.hub.client import MIMI, SOPRO, Pin, Snapshot
from sopro_np.hub.history import CHECKPOINT, DAY, published
from sopro_np.locate import DEFAULT_RECIPE, NAME, converted_models
from sopro_np.tensorfile import read_header

PARTS = {"sopro": SOPRO, "tokenizer": SOPRO, "mimi": MIMI}
Say = Callable[[str], None]


def download(
    generation: str,
    recipe: str = DEFAULT_RECIPE,
    revision: str | None = None,
    mimi_revision: str | None = None,
    cache: Path | None = None,
    accept_changes: bool = False,
    progress: Say | None = None,
    **conversion: Any,
) -> Path:
    """Fetch and convert "v1" or "v1.5" -> the converted file; at once if it is there and nothing changed.

    `revision`, `mimi_revision`: branch, tag or commit instead of the published ones. `conversion`: drop, strict,
    allow_unknown_config, bos, eos of `convert`; if any is given, the file is converted anew. What upstream's loaders
    pass over in a source is told by `progress`, else by `warnings`.
    Errors: DownloadError (network, damaged or changed files), ConvertError, TokenizerError, UsageError.
    """
    say = progress or (lambda text: None)
    if generation not in DAY:
        raise UsageError(f"generation {generation!r}: there are {', '.join(DAY)}")
    rules = load_recipe(recipe)
    if not NAME.fullmatch(rules.name):
        raise UsageError(f"recipe name {rules.name!r} cannot be part of a file name")
    folder = Path(cache) if cache else cache_dir()
    output = folder / f"sopro-{generation}-{rules.name}.safetensors"
    metadata, made = _made_from(output)
    known = made or next((s for p in converted_models(generation, folder) if (s := _made_from(p)[1])), {})
    fresh = (rules.format_version, rules.noted)
    plain = not conversion and metadata.get("options") == "{}"
    reuse = made and plain and fresh == (metadata.get("format_version"), metadata.get("recipe"))

    at = {
        SOPRO: _resolve_sopro(generation, revision, known.get("sopro"), say),
        MIMI: _resolve(MIMI, mimi_revision or "main", mimi_revision, known.get("mimi")),
    }
    if reuse and all(made[part]["revision"] == at[repo].commit for part, repo in PARTS.items()):
        say(f"already there: {output}")
        return output
    sources: dict[str, dict[str, Any]] = {}
    folders: dict[str, Path] = {}
    for part, repo in PARTS.items():
        pin = None if accept_changes else known.get(part)
        folders[part], files = _fetch(part, at[repo], pin, say)
        sources[part] = {"repo": repo, "revision": at[repo].commit, "files": files}
        if part == "sopro":
            _check_generation(folders[part] / CHECKPOINT, at[repo], generation)
    if reuse and all(made[part]["files"] == sources[part]["files"] for part in PARTS):
        say(f"already there: {output} (newer commits, same files)")
        return output
    say(f"converting ({rules.name})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{folder}: {error.strerror}; set SOPRO_NP_CACHE to another folder") from None
    tell = (lambda line: say(f"warning: {line}")) if progress else None
    parts = (folders["sopro"] / CHECKPOINT, folders["mimi"], folders["tokenizer"])
    convert(output, rules, *parts, origin=sources, tell=tell, **conversion)
    say(f"ready: {output}")
    return output


def _resolve_sopro(generation: str, revision: str | None, pin: Pin, say: Say) -> Snapshot:
    """The commit that was asked for, else the newest of the generation; offline the pinned one."""
    if revision is None and not client.offline():
        digest = (pin or {}).get("files", {}).get(CHECKPOINT)
        return published(generation, {digest: generation} if digest else {}, say)
    newest = DAY[generation] is None
    return _resolve(SOPRO, revision or ("main" if newest else ""), revision, pin)


def _resolve(repo: str, name: str, asked: str | None, pin: Pin) -> Snapshot:
    """A branch, tag or commit by the Hub; offline what was asked for, or the pinned commit, or what the cache knows."""
    if not client.offline():
        return client.snapshot(repo, name)
    return client.known_offline(repo, asked or (pin or {}).get("revision") or name)


def _fetch(part: str, at: Snapshot, pin: Pin, say: Say) -> tuple[Path, dict[str, str]]:
    """The files of a part that its repository has -> their folder, name -> sha256. Others there are left alone."""
    if part == "sopro":
        names = [CHECKPOINT]
    elif part == "tokenizer":
        names = ["tokenizer.json", "tokenizer_config.json"]
        names += ["special_tokens_map.json"] if at.has("special_tokens_map.json") else []
    else:
        whole = at.has("model.safetensors") or not at.has(INDEX)
        names = ["config.json", "model.safetensors" if whole else INDEX]
    files: dict[str, str] = {}
    for name in names:  # which grows: an index names more
        path, files[name] = client.fetch(at, name, pin, say)
        names += shards(path) if name == INDEX else []
    return path.parent, files


def _made_from(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata of a file, and its sources; both empty if `download` did not make it or it is damaged."""
    try:
        metadata = read_header(path)[1]
        sources = json.loads(metadata["sources"])
        ours = all({"repo", "revision", "files"} <= set(sources[part]) for part in PARTS)
        return (metadata, sources) if ours else ({}, {})
    except (FormatError, ValueError, KeyError, TypeError):
        return {}, {}


def _check_generation(path: Path, at: Snapshot, wanted: str) -> None:
    """Before the codec is fetched and anything is converted."""
    found = generation_of(read_header(path, any_dtype=True)[0])
    if found != wanted:
        what = f"{at.commit} is Sopro {found or 'of no known generation'}, not {wanted}"
        raise DownloadError(f"commit {what}: choose a commit of {wanted} with --revision")
