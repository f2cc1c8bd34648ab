"""HTTP endpoints as OpenAI's clients call them (audio/speech, voices, models), beside them health and metrics.

Every path exists with and without /v1: clients differ in what they take for the base.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sopro_np.serve.answers import CLOSE, Json, Refusal, refusal
from sopro_np.serve.auth import Keys, SameOrigin
from sopro_np.serve.limits import MARGIN, read_body, read_form, read_json
from sopro_np.serve.logs import LOG
from sopro_np.serve.request import read_request
from sopro_np.serve.service import Service
from sopro_np.serve.speech import SpeechAnswer
from sopro_np.serve.status import prometheus, status

PAGE = Path(__file__).with_name("static") / "index.html"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; connect-src 'self'; "
    "media-src blob: data:; img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
NO_CONSENT = {
    "",
    "no",
    "n",
    "none",
    "never",
    "false",
    "f",
    "0",
    "off",
    "null",
    "undefined",
    "nan",
}  # as programs write it
SHOWN = ("X-Sopro-Voice", "X-Sopro-Seed", "X-Sopro-Sample-Rate", "Retry-After")  # to pages of other origins


class Endpoints:
    """The handlers, with what they serve."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.responses: Counter[int] = Counter()
        self._uploads = 0

    # ------------------------------------------------------------ speech

    async def speech(self, request: Request) -> Any:
        """POST audio/speech."""
        service, limits = self.service, self.service.limits
        given = read_json(await read_body(request, limits.json_bytes))
        names = service.shelf.names
        asked = read_request(given, limits.characters, lambda model: model in names())
        name, voice = await service.voice(asked.voice)
        ticket = await service.submit(
            asked.text, voice, priority=asked.priority, deadline=asked.deadline, **asked.options
        )
        LOG.info("speech: %d characters, voice %s, seed %d", len(asked.text), name, ticket.seed)
        LOG.debug("seed %d says %r", ticket.seed, asked.text)
        rate = service.tts.sample_rate
        headers = {"X-Sopro-Voice": name, "X-Sopro-Seed": str(ticket.seed), "X-Sopro-Sample-Rate": str(rate)}

        def usage() -> dict[str, Any]:
            read, said = len(service.tts.tokenizer.encode(asked.text)), ticket.speech.frames if ticket.speech else 0
            return {"input_tokens": read, "output_tokens": said, "total_tokens": read + said}

        return SpeechAnswer(ticket, asked.form, asked.media, rate, headers, usage if asked.sse else None)

    # ------------------------------------------------------------ lists

    async def models(self, request: Request) -> Response:
        """GET models, audio/models: the one that is loaded."""
        model = self._model()
        return Json({"object": "list", "data": [model], "models": [{**model, "name": model["id"]}]})

    async def model(self, request: Request) -> Response:
        """GET models/ID."""
        if request.path_params["name"] != self.service.model_id:
            raise Refusal(404, f"the model loaded is {self.service.model_id}", "model_not_found", "model")
        return Json(self._model())

    def _model(self) -> dict[str, Any]:
        try:
            created = int(self.service.tts.path.stat().st_mtime)
        except OSError:  # it is open all the same
            created = 0
        return {"id": self.service.model_id, "object": "model", "created": created, "owned_by": "sopro_np"}

    async def voices(self, request: Request) -> Response:
        """GET audio/voices: the default first."""
        voices = [_voice(name, written) for name, written in self.service.shelf.listing().items()]
        hears = self.service.tts.mimi.hears  # may voices be added?
        return Json({"object": "list", "data": voices, "voices": voices, "hears": hears})

    # ------------------------------------------------------------ voices

    async def add_voice(self, request: Request) -> Response:
        """POST audio/voices: multipart name, audio_sample, consent."""
        limits = self.service.limits
        if self._uploads >= limits.uploads:
            raise Refusal(
                429, "other recordings are being read; ask again", "busy", headers={"Retry-After": "2", **CLOSE}
            )
        self._uploads += 1
        try:
            body = await read_body(request, limits.sample_bytes + MARGIN)
            form = await read_form(request.headers, body)
            sample = form.get("audio_sample") or form.get("sample") or form.get("file")
            name, consent = form.get("name"), form.get("consent")
            if not isinstance(name, str) or not name:
                raise Refusal(400, "name: the voice needs one", "missing", "name")
            if not isinstance(sample, UploadFile):
                raise Refusal(400, "audio_sample: a recording is needed, as a file", "missing", "audio_sample")
            if consent is None or (isinstance(consent, str) and consent.strip().lower() in NO_CONSENT):
                raise Refusal(400, "consent: say that the speaker has agreed", "missing", "consent")
            data = await sample.read()
            if len(data) > limits.sample_bytes:
                raise Refusal(413, f"audio_sample has more than {limits.sample_bytes} bytes", "body_too_large")
            notes = await self.service.add_voice(name, data)
        finally:
            self._uploads -= 1
        return Json({**_voice(name, int(time.time())), "warnings": notes})

    async def remove_voice(self, request: Request) -> Response:
        """DELETE audio/voices/ID."""
        name = request.path_params["name"]
        self.service.shelf.remove(name)
        return Json({"id": name, "object": "audio.voice.deleted", "deleted": True})

    # ------------------------------------------------------------ health

    async def health(self, request: Request) -> Response:
        """GET healthz: is the process alive?"""
        return Json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """GET readyz: are requests taken?"""
        scheduler = self.service.scheduler
        what = "failed" if scheduler.failure else "draining" if scheduler.draining else "loading"
        if scheduler.ready and not scheduler.draining:
            return Json({"status": "ready"})
        return Json({"status": what}, 503, {"Retry-After": "2"})

    async def metrics(self, request: Request) -> Response:
        """GET metrics, for Prometheus."""
        text = prometheus(self.service.scheduler, self.responses)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def status(self, request: Request) -> Response:
        """GET status: the same as JSON."""
        return Json(status(self.service.scheduler, self.responses))

    async def page(self, request: Request) -> Response:
        """GET /: the page to try it with."""
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return HTMLResponse(PAGE.read_bytes(), headers=headers)


def _voice(name: str, written: int) -> dict[str, Any]:
    return {"id": name, "object": "audio.voice", "name": name, "created_at": written, "type": "audio_sample"}


class Counted:
    """Middleware: counts answers by their status."""

    def __init__(self, app: ASGIApp, counts: Counter[int]) -> None:
        self.app, self._counts = app, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts[message["status"]] += 1
            await send(message)

        await self.app(scope, receive, counted)


def make_app(service: Service) -> Starlette:
    """The ASGI application. Whoever runs it starts and drains the scheduler."""
    its = Endpoints(service)
    shared = [
        ("/audio/speech", its.speech, "POST"),
        ("/audio/voices", its.voices, "GET"),
        ("/audio/voices", its.add_voice, "POST"),
        ("/audio/voices/{name}", its.remove_voice, "DELETE"),
        ("/audio/models", its.models, "GET"),
        ("/models", its.models, "GET"),
        ("/models/{name}", its.model, "GET"),
        ("/status", its.status, "GET"),
    ]
    routes = [
        Route(base + path, _told(handler), methods=[method]) for base in ("/v1", "") for path, handler, method in shared
    ]
    own = [("/healthz", its.health), ("/readyz", its.ready), ("/metrics", its.metrics), ("/", its.page)]
    routes += [Route(path, _told(handler), methods=["GET"]) for path, handler in own]
    middleware = [Middleware(Counted, its.responses)]
    if service.cors:
        methods = ["GET", "POST", "DELETE"]
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=service.cors,
                allow_methods=methods,
                allow_headers=["*"],
                expose_headers=SHOWN,
            )
        )
    middleware += [Middleware(SameOrigin, service.cors, bool(service.keys)), Middleware(Keys, service.keys)]
    failures: Any = {HTTPException: _http_failure}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=failures)
    app.router.redirect_slashes = False
    return app


def _told(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Any]]:
    """The handler, with every failure as an answer: none gets as far as a log that would print its words."""

    async def answer(request: Request) -> Any:
        try:
            return await handler(request)
        except Exception as error:
            return refusal(error).answer()

    return answer


async def _http_failure(request: Request, error: HTTPException) -> Response:
    """What starlette says: no such path, or not by this method."""
    headers = {**(error.headers or {}), **(CLOSE if request.method not in ("GET", "HEAD") else {})}
    message = f"{request.method} {request.url.path[:80]}: {error.detail}"
    return Refusal(error.status_code, message, None, headers=headers).answer()
