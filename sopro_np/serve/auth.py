"""Access control: API keys, compared in constant time, and pages of other origins kept out."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sopro_np.errors import UsageError
from sopro_np.files import file_name
from sopro_np.serve.answers import CLOSE, Refusal

SHORTEST = 8  # characters of a key
LISTS = ("/models", "/audio/voices", "/audio/models")  # Open WebUI asks for these without its key
LOCAL = (".localhost", ".local", ".internal", ".lan", ".home", ".home.arpa")  # no public domain ends so
OPEN = {"/", "/healthz", "/readyz", "/favicon.ico", *LISTS, *(f"/v1{path}" for path in LISTS)}


def read_keys(path: str | Path) -> tuple[str, ...]:
    """The keys in a file, one a line; blank lines and lines from # on are left out. UsageError if there is none."""
    try:
        lines = file_name(path, "--api-key-file").read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"--api-key-file {path}: cannot be read ({reason})") from None
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise UsageError(
            f"--api-key-file {path}: holds no key; write one into it, a line of {SHORTEST} characters or more"
        )
    if any(len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key for key in keys):
        raise UsageError(
            f"--api-key-file {path}: a key is {SHORTEST} or more letters, digits and signs, without blanks"
        )
    return keys


def is_loopback(host: str) -> bool:
    """Can only this machine reach it?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local(name: str) -> bool:
    """Is it an address, or a name that nobody can register for the whole world?"""
    if "." not in name.rstrip(".") or name.rstrip(".").endswith(LOCAL):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


class Keys:
    """Middleware: what is not OPEN needs `Authorization: Bearer KEY`; without keys everything is open."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self.app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._digests or self._is_open(scope) or self._has_key(scope):
            return await self.app(scope, receive, send)
        refusal = Refusal(
            401,
            "a valid API key is needed: Authorization: Bearer KEY",
            "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer", **CLOSE},
        )
        return await refusal.answer()(scope, receive, send)

    @staticmethod
    def _is_open(scope: Scope) -> bool:
        return scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN

    def _has_key(self, scope: Scope) -> bool:
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode("latin-1")).digest()
        known = [hmac.compare_digest(digest, own) for own in self._digests]  # all of them, whichever it is
        return kind.lower() == "bearer" and any(known)


class SameOrigin:
    """Middleware: what changes something or makes work is refused to web pages of other origins than `allowed`.

    Else any page in a browser on this machine could speak through, and leave voices in, a server on loopback. A page
    whose own name was made to lead here afterwards (DNS rebinding) calls us by that name: so without keys, pages may
    call us by an address or by a name that only a local network gives.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str] = (), keys: bool = False) -> None:
        self.app, self._allowed, self._keys = app, set(allowed), keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_allowed(origin, headers.get("host", "")):
                refusal = Refusal(
                    403,
                    "this page's origin may not use the server: start it with --cors ORIGIN",
                    "origin",
                    headers=CLOSE,
                )
                return await refusal.answer()(scope, receive, send)
        return await self.app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        if "*" in self._allowed or origin in self._allowed:
            return True
        try:
            own = bool(host) and urlsplit(origin).netloc.lower() == host.lower()
            return own and (self._keys or is_local(urlsplit(origin).hostname or ""))
        except ValueError:
            return False
