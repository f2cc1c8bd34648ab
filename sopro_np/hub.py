"""Published checkpoints: fetched from the Hugging Face Hub, verified, converted, kept in the user's cache.

Fetched files lie in the standard Hugging Face cache, so other programs share them; the converted file lies in
ours. huggingface_hub (the extra `hub`) does the transfer and reads its own settings when it is imported:
HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT.

Trust on first use: the metadata of the converted file keeps commit and sha256 of every source, and a later
download whose sources differ is refused until the user accepts them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sopro_np.errors import DownloadError, FormatError, UsageError
from sopro_np.files import cache_dir
from sopro_np.locate import DEFAULT_RECIPE, NAME, converted_models
from sopro_np.tensorfile import read_header
from sopro_np.version import __version__

SOPRO, MIMI = "samuel-vitorino/sopro", "kyutai/mimi"
PARTS = {
    "sopro": (SOPRO, ("model.safetensors",)),
    "tokenizer": (SOPRO, ("tokenizer.json", "tokenizer_config.json")),
    "mimi": (MIMI, ("config.json", "model.safetensors")),
}
# Both generations were published as `main` of one repository: v1 is the last that it held before this date.
PUBLISHED_BEFORE = {"v1": datetime(2026, 2, 4, tzinfo=UTC), "v1.5": None}
COMMIT = re.compile("[0-9a-f]{40}")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CALLER = {"library_name": "sopro_np", "library_version": __version__}

Pin = dict[str, Any] | None  # of the first download: repo, revision (commit), files (name -> sha256)


class Snapshot(NamedTuple):
    """A repository at one commit (40 hex digits), and what the Hub says of its files (nothing when offline)."""

    repo: str
    commit: str
    files: dict[str, tuple[int | None, str]]  # name -> size, sha256 (small files: git's blob sha1)


def download(
    generation: str,
    recipe: str = DEFAULT_RECIPE,
    revision: str | None = None,
    mimi_revision: str | None = None,
    cache: Path | None = None,
    accept_changes: bool = False,
    progress: Callable[[str], None] | None = None,
    **conversion: Any,
) -> Path:
    """Fetch and convert "v1" or "v1.5" -> the converted file; at once if it is there and nothing changed.

    `revision`, `mimi_revision`: branch, tag or commit instead of the published ones. `conversion`: drop,
    allow_unknown_config, bos, eos of `convert`; if any is given, the file is converted anew.
    Errors: DownloadError (network, damaged or changed files), ConvertError, TokenizerError, UsageError.
    """
    from sopro_np.convert.convert import FORMAT_VERSION, convert
    from sopro_np.convert.recipe import load_recipe

    say = progress or (lambda text: None)
    if generation not in PUBLISHED_BEFORE:
        raise UsageError(f"generation {generation!r}: there are {', '.join(PUBLISHED_BEFORE)}")
    rules = load_recipe(recipe)
    if not NAME.fullmatch(rules.name):
        raise UsageError(f"recipe name {rules.name!r} cannot be part of a file name")
    folder = Path(cache) if cache else cache_dir()
    output = folder / f"sopro-{generation}-{rules.name}.safetensors"
    metadata, made = _made_from(output)
    known = made or next((s for p in converted_models(generation, folder) if (s := _made_from(p)[1])), {})
    fresh = (FORMAT_VERSION, json.dumps({"name": rules.name, "rules": rules.rules}))
    plain = not conversion and metadata.get("options") == "{}"
    reuse = made and plain and fresh == (metadata.get("format_version"), metadata.get("recipe"))

    at = {
        SOPRO: _resolve(SOPRO, revision, known.get("sopro"), PUBLISHED_BEFORE[generation]),
        MIMI: _resolve(MIMI, mimi_revision, known.get("mimi"), None),
    }
    if reuse and all(made[part]["revision"] == at[repo].commit for part, (repo, _) in PARTS.items()):
        say(f"already there: {output}")
        return output
    sources: dict[str, dict[str, Any]] = {}
    paths: dict[str, Path] = {}
    for part, (repo, names) in PARTS.items():
        pin = None if accept_changes else known.get(part)
        sources[part] = {"repo": repo, "revision": at[repo].commit, "files": {}}
        for name in names:
            paths[part], sources[part]["files"][name] = _fetch(at[repo], name, pin, say)
        if part == "sopro":
            _check_generation(paths[part], at[repo], generation)
    if reuse and all(made[part]["files"] == sources[part]["files"] for part in PARTS):
        say(f"already there: {output} (newer commits, same files)")
        return output
    say(f"converting ({rules.name})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{folder}: {error.strerror}; set SOPRO_NP_CACHE to another folder") from None
    mimi, tokenizer = paths["mimi"].parent, paths["tokenizer"].parent
    convert(output, rules, paths["sopro"], mimi, tokenizer, origin=sources, **conversion)
    say(f"ready: {output}")
    return output


def _made_from(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata of a file, and its sources; both empty if `download` did not make it or it is damaged."""
    try:
        metadata = read_header(path)[1]
        sources = json.loads(metadata["sources"])
        ours = all({"repo", "revision", "files"} <= set(sources[part]) for part in PARTS)
        return (metadata, sources) if ours else ({}, {})
    except (FormatError, ValueError, KeyError, TypeError):
        return {}, {}


def _refuse_change(pin: Pin, now: Snapshot, name: str, sha256: str) -> None:
    """The file must be that of the first download."""
    if pin and pin["files"].get(name) != sha256:
        option = "--mimi-revision" if now.repo == MIMI else "--revision"
        raise DownloadError(
            f"{name} is not the file of the first download (commit {pin['revision']}, now {now.commit}); "
            f"to trust the new one pass --accept-changes, to keep the old one {option} {pin['revision']}"
        )


def _check_generation(path: Path, snapshot: Snapshot, wanted: str) -> None:
    """Before the codec is fetched and anything is converted."""
    from sopro_np.convert.sopro import GENERATIONS

    tensors = read_header(path)[0]
    found = next((g for tensor, g in GENERATIONS.items() if tensor in tensors), "of no known generation")
    if found != wanted:
        what = f"{snapshot.commit} is Sopro {found}, not {wanted}"
        raise DownloadError(f"commit {what}: choose a commit of {wanted} with --revision")


def _hub() -> Any:
    try:
        import huggingface_hub.constants
    except ImportError:
        raise DownloadError("downloading needs huggingface_hub: pip install 'sopro_np[hub]'") from None
    return huggingface_hub


def _resolve(repo: str, revision: str | None, pin: Pin, before: datetime | None) -> Snapshot:
    """A revision (None: the published one) as a commit, with the Hub's list of files."""
    hub = _hub()
    if hub.constants.HF_HUB_OFFLINE:
        return Snapshot(repo, _offline_commit(repo, revision, pin, before), {})
    api, seconds = hub.HfApi(**CALLER), hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        if revision is None and before is not None:
            commits = _within(3 * seconds, lambda: api.list_repo_commits(repo, revision="main"))
            old = [commit for commit in commits if commit.created_at < before]
            if not old:
                raise DownloadError(f"nothing before {before:%Y-%m-%d}: choose a commit with --revision")
            revision = max(old, key=lambda commit: commit.created_at).commit_id
        revision = revision or "main"
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=seconds)
        if not COMMIT.fullmatch(info.sha or "") or (COMMIT.fullmatch(revision) and info.sha != revision):
            raise DownloadError(f"the Hub answers with commit {info.sha}: check HF_ENDPOINT and proxies")
    except Exception as error:
        raise DownloadError(f"{repo}, {revision or 'list of commits'}: {_reason(error)}") from error
    files = {f.rfilename: (f.size, (f.lfs and f.lfs.sha256) or f.blob_id or "") for f in info.siblings or ()}
    return Snapshot(repo, info.sha, files)


def _offline_commit(repo: str, revision: str | None, pin: Pin, before: datetime | None) -> str:
    """Without the Hub: a commit itself, the pinned one, or what the Hugging Face cache knows by that name."""
    name = revision or (pin or {}).get("revision") or ("main" if before is None else "")
    if COMMIT.fullmatch(name):
        return name
    if name and isinstance(path := _hub().try_to_load_from_cache(repo, "model.safetensors", revision=name), str):
        return Path(path).parent.name
    raise DownloadError(
        f"{repo}: HF_HUB_OFFLINE is set and the commit of {name or 'the published model'} is not known: "
        "unset it for the first download, or name a cached commit with --revision (--mimi-revision)"
    )


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """`call()` or TimeoutError: listing commits has no time limit of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)


def _fetch(snapshot: Snapshot, name: str, pin: Pin, say: Callable[[str], None]) -> tuple[Path, str]:
    """One file through the Hugging Face cache -> its path in the snapshot, its sha256."""
    hub, repo = _hub(), snapshot.repo
    size, digest = snapshot.files.get(name, (None, ""))
    blobs = f"models--{repo.replace('/', '--')}/blobs"
    partial = Path(hub.constants.HF_HUB_CACHE, blobs, f"{digest}.incomplete")
    say(f"{repo}: {name} at commit {snapshot.commit[:12]}")
    try:
        if len(digest) == 64:  # what is known to have changed need not be fetched
            _refuse_change(pin, snapshot, name, digest)
        if size is not None and partial.is_file() and partial.stat().st_size > size:
            partial.unlink()  # it would be resumed behind its end, and fail, for ever
        path = Path(hub.hf_hub_download(repo, name, revision=snapshot.commit, **CALLER))
        if path.parent.name != snapshot.commit:
            raise DownloadError(f"the Hub sends commit {path.parent.name}: check HF_ENDPOINT and proxies")
        sha256 = _verify(path, size, digest)
        _refuse_change(pin, snapshot, name, sha256)
        return path, sha256
    except Exception as error:
        if getattr(error, "errno", None) in DISK_FULL:
            partial.unlink(missing_ok=True)  # it would keep the disk full
        raise DownloadError(f"{repo}, {name} at commit {snapshot.commit}: {_reason(error)}") from error


def _verify(path: Path, size: int | None, digest: str) -> str:
    """sha256 of a file that agrees with the list and its blob's name (the ETag); another file is removed."""
    blob = path.resolve()
    content = blob.stat().st_size
    with blob.open("rb") as f:
        sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    wrong = size not in (None, content)
    for stated in {digest, blob.name}:
        if re.fullmatch("[0-9a-f]{64}", stated):
            wrong |= stated != sha256
        elif COMMIT.fullmatch(stated):
            wrong |= stated != hashlib.sha1(b"blob %d\0" % content + blob.read_bytes()).hexdigest()
    if wrong:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise DownloadError("size or digest is not what the Hub states; the file was removed, try again")
    return sha256


def _reason(error: BaseException) -> str:
    """One sentence with a remedy. Errors of the HTTP library (requests, later httpx) are known by name."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # "not cached, and the Hub cannot be asked, because ..."
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    status = getattr(getattr(error, "response", None), "status_code", None)
    reasons = (
        ("DownloadError", str(error)),
        ("OfflineMode LocalEntry", "not cached, and HF_HUB_OFFLINE is set: unset it to download"),
        ("GatedRepo", "access is gated: accept the terms on the repository's page and set HF_TOKEN"),
        ("RevisionNotFound", "no such revision: choose another with --revision (--mimi-revision)"),
        ("EntryNotFound", "no such file: choose another commit with --revision (--mimi-revision)"),
        ("RepositoryNotFound", f"no such repository, or not for you ({status}): check HF_TOKEN, HF_ENDPOINT"),
        ("TooManyRedirects RecursionError", "the Hub redirects in circles: check HF_ENDPOINT and proxies"),
        ("Timeout", "no answer in time: try again, or raise HF_HUB_DOWNLOAD_TIMEOUT (seconds)"),
        ("FileMetadataError JSONDecodeError", "the answer is not that of a Hub: check HF_ENDPOINT and proxies"),
        ("ConnectionError ConnectError", "the Hub cannot be reached: check network, HF_ENDPOINT and proxies"),
    )
    if found := [reason for kinds, reason in reasons if any(kind in names for kind in kinds.split())]:
        return found[0]
    if status is not None:
        return f"the Hub answers HTTP {status}: check HF_TOKEN and HF_ENDPOINT, or try again later"
    if getattr(error, "errno", None) in DISK_FULL:
        return f"{os.strerror(error.errno)}: free some space, or set HF_HOME to a larger disk"  # type: ignore[attr-defined]
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]}; try again"
