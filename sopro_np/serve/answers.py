"""HTTP answers in OpenAI's shapes: JSON, and every failure as {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from sopro_np.errors import AudioError, NothingToSay, SoproError, UsageError
from sopro_np.serve.logs import log_failure
from sopro_np.serve.ticket import Busy, Draining, Expired, Loading, Refused
from sopro_np.serve.voices import UnknownVoice, VoiceTaken

CLOSE = {"Connection": "close"}  # what is left of the request is not read


class Json(Response):
    """JSON in ASCII: also what a client sent broken, and gets told, can be sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Refusal(Exception):
    """A request that is answered with an error of this status."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = status, message, code, param, headers

    def answer(self) -> Json:
        """As OpenAI's clients read it."""
        return Json({"error": self.body()}, self.status, dict(self.headers or {}))

    def body(self) -> dict[str, Any]:
        """message, type, param, code."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}


CODES: tuple[tuple[type[Exception], int, str, str | None], ...] = (  # status, code, param of the first one that fits
    (Busy, 429, "queue_full", None),
    (Loading, 503, "loading", None),
    (Draining, 503, "draining", None),
    (Expired, 503, "deadline_exceeded", None),
    (UnknownVoice, 404, "voice_not_found", "voice"),
    (VoiceTaken, 409, "voice_exists", "name"),
    (NothingToSay, 400, "empty_input", "input"),
    (UsageError, 400, "invalid_value", None),
    (AudioError, 400, "invalid_audio", None),
    (SoproError, 500, "failed", None),
)


def refusal(error: Exception) -> Refusal:
    """What a client is told of an error; of one that we did not foresee, nothing but that."""
    if isinstance(error, Refusal):
        return error
    for kind, status, code, param in CODES:
        if isinstance(error, kind):
            headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Refused) else None
            return Refusal(status, str(error), code, param, headers)
    log_failure("a request failed", error)
    return Refusal(500, "the server failed; its log says why", "internal_error")
