"""Asking the Hugging Face Hub: commits, headers of checkpoints, verified files; every failure a DownloadError.

Files lie in the standard Hugging Face cache, so other programs share them. huggingface_hub (the extra `hub`) does the
transfer and reads its own settings when it is imported: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE,
HF_HUB_DOWNLOAD_TIMEOUT.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sopro_np.errors import DownloadError
from sopro_np.version import __version__

SOPRO, MIMI = "samuel-vitorino/sopro", "kyutai/mimi"
COMMIT = re.compile("[0-9a-f]{40}")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CALLER = {"library_name": "sopro_np", "library_version": __version__}

Pin = dict[str, Any] | None  # of the first download: repo, revision (commit), files (name -> sha256)


class Snapshot(NamedTuple):
    """A repository at one commit (40 hex digits), and what the Hub says of its files (nothing when offline)."""

    repo: str
    commit: str
    files: dict[str, tuple[int | None, str]]  # name -> size, sha256 (small files: git's blob sha1)

    def has(self, name: str) -> bool:
        """Is there a file of this name? Offline: in the Hugging Face cache."""
        return name in self.files if self.files else _cached(self.repo, name, self.commit) is not None


def library() -> Any:
    """huggingface_hub, or how to get it."""
    try:
        import huggingface_hub.constants
    except ImportError:
        raise DownloadError("downloading needs huggingface_hub: pip install 'huggingface_hub>=0.34,<1.0'") from None
    return huggingface_hub


def offline() -> bool:
    """Has the user forbidden to ask the Hub?"""
    return bool(library().constants.HF_HUB_OFFLINE)


def snapshot(repo: str, revision: str) -> Snapshot:
    """A branch, tag or commit as a commit, with the Hub's list of files."""
    hub = library()
    api, seconds = hub.HfApi(**CALLER), hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=seconds)
        if not COMMIT.fullmatch(info.sha or "") or (COMMIT.fullmatch(revision) and info.sha != revision):
            raise DownloadError(f"the Hub answers with commit {info.sha}: check HF_ENDPOINT and proxies")
    except Exception as error:
        raise DownloadError(f"{repo}, {revision}: {_reason(error)}") from error
    files = {f.rfilename: (f.size, (f.lfs and f.lfs.sha256) or f.blob_id or "") for f in info.siblings or ()}
    return Snapshot(repo, info.sha, files)


def commits(repo: str) -> list[tuple[str, datetime]]:
    """Commits of `main` with their times, the newest first."""
    api = library().HfApi(**CALLER)
    try:
        listed = _within(lambda: api.list_repo_commits(repo, revision="main"))
    except Exception as error:
        raise DownloadError(f"{repo}, list of commits: {_reason(error)}") from error
    found = [(str(commit.commit_id), commit.created_at) for commit in listed]
    return sorted(found, key=lambda commit: commit[1], reverse=True)


def tensor_names(at: Snapshot, name: str, again: bool = True) -> frozenset[str] | None:
    """Names of the tensors of a safetensors file, of which only the header is fetched. None: what came is no header."""
    hub = library()
    api = hub.HfApi(**CALLER)
    no_header = (hub.errors.SafetensorsParsingError, struct.error, AttributeError, TypeError, RecursionError)
    try:
        header = _within(lambda: api.parse_safetensors_file_metadata(at.repo, name, revision=at.commit))
    except no_header:
        return None
    except Exception as error:
        if again and _status(error) >= 500:  # the library repeats such requests for whole files only
            return tensor_names(at, name, again=False)
        raise DownloadError(f"{at.repo}, {name} at commit {at.commit}: {_reason(error)}") from error
    return frozenset(header.tensors)


def known_offline(repo: str, name: str) -> Snapshot:
    """Without the Hub: a commit itself, or what the Hugging Face cache knows by that name ("": nothing is known)."""
    if COMMIT.fullmatch(name):
        return Snapshot(repo, name, {})
    if name and (path := _cached(repo, "model.safetensors", name) or _cached(repo, "config.json", name)):
        return Snapshot(repo, path.parent.name, {})
    raise DownloadError(
        f"{repo}: HF_HUB_OFFLINE is set and the commit of {name or 'the published model'} is not known: "
        "unset it for the first download, or name a cached commit with --revision (--mimi-revision)"
    )


def _cached(repo: str, name: str, revision: str) -> Path | None:
    """A file in the Hugging Face cache."""
    path = library().try_to_load_from_cache(repo, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _within(call: Callable[[], Any]) -> Any:
    """`call()` or TimeoutError: some calls of the library have no time limit of their own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(3 * library().constants.HF_HUB_DOWNLOAD_TIMEOUT)


def fetch(at: Snapshot, name: str, pin: Pin, say: Callable[[str], None]) -> tuple[Path, str]:
    """One file through the Hugging Face cache -> its path in the snapshot, its sha256. It must be that of `pin`."""
    hub, repo = library(), at.repo
    size, digest = at.files.get(name, (None, ""))
    blobs = f"models--{repo.replace('/', '--')}/blobs"
    partial = Path(hub.constants.HF_HUB_CACHE, blobs, f"{digest}.incomplete")
    say(f"{repo}: {name} at commit {at.commit[:12]}")
    try:
        if len(digest) == 64:  # what is known to have changed need not be fetched
            _refuse_change(pin, at, name, digest)
        if size is not None and partial.is_file() and partial.stat().st_size > size:
            partial.unlink()  # it would be resumed behind its end, and fail, for ever
        path = Path(hub.hf_hub_download(repo, name, revision=at.commit, **CALLER))
        if path.parent.name != at.commit:
            raise DownloadError(f"the Hub sends commit {path.parent.name}: check HF_ENDPOINT and proxies")
        sha256 = _verify(path, size, digest)
        _refuse_change(pin, at, name, sha256)
        return path, sha256
    except Exception as error:
        if getattr(error, "errno", None) in DISK_FULL:
            partial.unlink(missing_ok=True)  # it would keep the disk full
        raise DownloadError(f"{repo}, {name} at commit {at.commit}: {_reason(error)}") from error


def _refuse_change(pin: Pin, now: Snapshot, name: str, sha256: str) -> None:
    """The file must be that of the first download; one that was not fetched then may only come from the same commit."""
    if pin and pin["files"].get(name, sha256 if pin["revision"] == now.commit else None) != sha256:
        option = "--mimi-revision" if now.repo == MIMI else "--revision"
        raise DownloadError(
            f"{name} is not the file of the first download (commit {pin['revision']}, now {now.commit}); "
            f"to trust the new one pass --accept-changes, to keep the old one {option} {pin['revision']}"
        )


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


def _status(error: BaseException) -> int:
    """Of the Hub's answer; 0: there was none."""
    return getattr(getattr(error, "response", None), "status_code", None) or 0


def _reason(error: BaseException) -> str:
    """One sentence with a remedy. Errors of the HTTP library (requests, later httpx) are known by name."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # "not cached, and the Hub cannot be asked, because ..."
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    status = _status(error)
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
    if status:
        return f"the Hub answers HTTP {status}: check HF_TOKEN and HF_ENDPOINT, or try again later"
    if getattr(error, "errno", None) in DISK_FULL:
        return f"{os.strerror(error.errno)}: free some space, or set HF_HOME to a larger disk"  # type: ignore[attr-defined]
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]}; try again"
