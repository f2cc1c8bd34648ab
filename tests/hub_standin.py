"""A stand-in for the Hugging Face Hub on 127.0.0.1, with faults that can be switched on.

It answers what huggingface_hub asks for a model: HEAD and GET of /{repo}/resolve/{revision}/{file} (a large file
redirects to a "CDN", a small one to /api/resolve-cache, as the real Hub does; both know Range),
/api/models/{repo}/revision/{revision} and /api/models/{repo}/commits/{revision}.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = re.compile(r"bytes=(\d+)-(\d+)")
LARGE = 100_000  # bytes; from here on a file is "LFS": known by its sha256


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    id: str
    date: str
    files: dict[str, bytes]


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" matches, `times` times.

    Of a request for a piece of a file (a checkpoint's header) it is "METHOD /path bytes=first-last".
    """

    kind: str | int  # an HTTP status, or a name that `_Handler` knows
    where: str
    code: str = ""
    times: int = 1_000_000


class Hub:
    """`repos[name]` is the history of `main`, the oldest first; `log` has (method, path, Range) of requests."""

    def __init__(self) -> None:
        self.repos: dict[str, list[Commit]] = {}
        self.log: list[tuple[str, str, str | None]] = []
        self.faults: list[Fault] = []
        self.stalled = threading.Event()  # set when a transfer hangs
        self.release = threading.Event()  # ends it
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server in self._servers:
            server.daemon_threads = True
            server.hub = self  # type: ignore[attr-defined]
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        # The CDN is another host: a file's metadata are taken from the redirect that leaves the Hub.
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def close(self) -> None:
        self.release.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def commit(self, repo: str, date: str, files: dict[str, bytes]) -> str:
        """A new head of `main`; returns its commit hash."""
        text = repr((repo, date, {n: hashlib.sha256(c).hexdigest() for n, c in files.items()}))
        commit = Commit(hashlib.sha1(text.encode()).hexdigest(), date, files)
        self.repos.setdefault(repo, []).append(commit)
        return commit.id

    @contextmanager
    def fault(self, kind: str | int, where: str = "", code: str = "", times: int = 1_000_000) -> Iterator[Fault]:
        """While the block runs, matching requests fail; on leaving, hanging transfers are let go."""
        self.stalled.clear()
        self.release.clear()
        fault = Fault(kind, where, code, times)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)
            self.release.set()


def git_sha1(content: bytes) -> str:
    """Hash of git's blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def digest(content: bytes) -> str:
    """What the Hub gives as ETag."""
    return hashlib.sha256(content).hexdigest() if len(content) >= LARGE else git_sha1(content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *args: Any) -> None:
        """The log is `Hub.log`."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        asked = self.headers.get("Range")
        self.hub.log.append((self.command, path, asked))
        line = f"{self.command} {path}" + (f" {asked}" if PIECE.fullmatch(asked or "") else "")
        fault = next((f for f in self.hub.faults if f.times and re.search(f.where, line)), None)
        if fault:
            fault.times -= 1
        kind = fault.kind if fault else ""
        if fault and isinstance(kind, int):
            return self._error(kind, fault.code)
        if kind == "silent":
            return self._hang()
        if kind == "circle":
            return self._send(302, {"Location": path})
        if kind == "not a hub":
            return self._send(200, {"Content-Type": "text/html"}, b"<html>Log in to this network</html>")
        if m := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|commits)/([^/]+)", path):
            return self._api(*m.groups())
        if m := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(kind, *m.groups())
        if m := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            return self._small(kind, *m.groups())
        if m := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            return self._large(kind, *m.groups())
        return self._error(404, "")

    def _find(self, repo: str, revision: str) -> Commit | None:
        history = self.hub.repos.get(repo)
        if history is None:
            self._error(401, "RepoNotFound")  # so says the real Hub to the anonymous
            return None
        for commit in reversed(history):
            if revision in ("main", commit.id):
                return commit
        self._error(404, "RevisionNotFound")
        return None

    def _api(self, repo: str, what: str, revision: str) -> None:
        if not (commit := self._find(repo, revision)):
            return
        answer: Any
        if what == "commits":
            answer = [
                {"id": c.id, "date": c.date, "title": "t", "message": "", "authors": []}
                for c in reversed(self.hub.repos[repo])
            ]
        else:
            siblings = [_sibling(n, c) for n, c in commit.files.items()]
            answer = {"id": repo, "sha": commit.id, "siblings": siblings}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _resolve(self, kind: str | int, repo: str, revision: str, name: str) -> None:
        if not (commit := self._find(repo, revision)):
            return None
        if name not in commit.files:
            return self._error(404, "EntryNotFound", {"X-Repo-Commit": commit.id})
        content = commit.files[name]
        where = f"{repo}/{commit.id}/{name}"
        if len(content) < LARGE:
            location = f"/api/resolve-cache/models/{where}"
            return self._send(307, {"Location": location, "X-Repo-Commit": commit.id})
        headers = {
            "Location": f"{self.hub.cdn}/cdn/{where}",
            "X-Repo-Commit": "0" * 40 if kind == "other commit" else commit.id,
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{"0" * 64 if kind == "wrong etag" else digest(content)}"',
        }
        return self._send(302, headers)

    def _small(self, kind: str | int, repo: str, revision: str, name: str) -> None:
        if not (commit := self._find(repo, revision)):
            return
        content = commit.files[name]
        etag = "0" * 40 if kind == "wrong etag" else digest(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.id}
        if self._piece(content):
            return
        self._send(200, headers, _flip(content) if kind == "flip" else content)

    def _large(self, kind: str | int, repo: str, revision: str, name: str) -> None:
        if not (commit := self._find(repo, revision)):
            return None
        content = commit.files[name]
        if kind not in ("cut", "stall") and self._piece(_flip(content) if kind == "flip" else content):
            return None
        first = int(m[1]) if (m := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        body = (_flip(content) if kind == "flip" else content)[first:]
        half = len(content) // 2 - first if len(content) // 2 > first else 0
        headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        status = 206 if first else 200
        if first > len(content):
            return self._error(416, "")
        if kind == "short":
            return self._send(status, headers, body[:half])
        if kind == "long":
            return self._send(status, headers, body + b"more")
        if kind not in ("cut", "stall"):
            return self._send(status, headers, body)
        self._send(status, {**headers, "Content-Length": str(len(body))}, body[:half])
        self.close_connection = True
        return self._hang() if kind == "stall" else None

    def _piece(self, content: bytes) -> bool:
        """Answer a request for some bytes of a file; False: it was for all, or for all from a byte on."""
        if not (m := PIECE.fullmatch(self.headers.get("Range", ""))):
            return False
        first, last = int(m[1]), min(int(m[2]), len(content) - 1)
        self._send(206, {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1])
        return True

    def _hang(self) -> None:
        self.hub.stalled.set()
        self.hub.release.wait(60)
        self.close_connection = True

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {**(headers or {}), **({"X-Error-Code": code} if code else {})}, b"")

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.wfile.flush()


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
    if len(content) >= LARGE:
        entry["blobId"] = "f" * 40  # a large file lies in git as a pointer, whose hash is of no use
        entry["lfs"] = {"sha256": digest(content), "size": len(content), "pointerSize": 134}
    return entry


def _flip(content: bytes) -> bytes:
    """One bit of one byte in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
