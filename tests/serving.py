"""A server of a tiny model in this process, on a free port, and what clients of it need."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import io
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import tiny as models

from sopro_np.engine import Sopro, open_model
from sopro_np.model.stop import Stop, StopRule
from sopro_np.options import DEFAULTS, Options
from sopro_np.pace import Pace
from sopro_np.serve.limits import Limits
from sopro_np.serve.run import bind, serve
from sopro_np.serve.scheduler import Scheduler
from sopro_np.serve.service import Service
from sopro_np.serve.voices import VoiceShelf
from sopro_np.wav import pcm16

TEXT = "Hello there."
VOICE = "one"


@dataclass
class Live:
    """A server that runs."""

    service: Service
    port: int
    shared: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.shared = self.client()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def post(self, path: str = "/v1/audio/speech", **body: Any) -> httpx.Response:
        return self.shared.post(path, json=body)

    def wav(self, text: str = TEXT, seed: int = 1, voice: str | None = None, **options: Any) -> np.ndarray:
        """What `synthesize` says."""
        return self.service.tts.synthesize(text, self.service.shelf.get(voice), seed=seed, **options)

    def idle(self) -> bool:
        stats = self.service.scheduler.stats()
        return not stats["waiting"] and not stats["running"]

    def wait_idle(self, seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not self.idle():
            assert time.monotonic() < until, self.service.scheduler.stats()
            time.sleep(0.01)


class Late(StopRule):
    """As the model's, but no utterance is empty."""

    def new_state(self, options: Options = DEFAULTS) -> Stop:
        return super().new_state(dataclasses.replace(options, min_gen_frames=options.min_gen_frames or 2))


@functools.cache
def quick(arch: str) -> Sopro:
    """A tiny model that is told to speak fast: it seldom ends by itself, and few frames are its budget."""
    tts = open_model(models.model_file(arch, "int8", 5), threads=1)
    model = dataclasses.replace(tts.model, stop=Late(**vars(tts.model.stop)))
    pace = Pace(start=2.0, each=0.2, low=0.1, high=1.5, longest=60)
    tts._parts = dataclasses.replace(tts._open, model=model, pace=pace)
    return tts


def voices_folder(folder: Path, arch: str = "v1.5") -> Path:
    """A voice file, a recording, and files that are no voices."""
    folder.mkdir(parents=True, exist_ok=True)
    config = quick(arch).model.config
    codes = np.random.default_rng(3).integers(0, config.code_values, (20, config.codebooks))
    quick(arch).voice_from_codes(codes).save(folder / f"{VOICE}.voice.safetensors")
    shutil.copy(models.checkpoint(arch, 5) / "ref.wav", folder / "two.wav")
    (folder / "notes.txt").write_text("no voice")
    (folder / "bad name!.wav").write_bytes(b"RIFF")
    return folder


@contextmanager
def serving(folder: Path, arch: str = "v1.5", ready: bool = True, **settings: Any) -> Iterator[Live]:
    """Serve; settings: of Service, and queue, memory, width of its Scheduler."""
    tts = quick(arch)
    bounds = {name: settings.pop(name) for name in ("queue", "memory", "width") if name in settings}
    default = settings.pop("default", VOICE)
    shelf = VoiceShelf(tts, voices_folder(folder, arch), default, settings.pop("aliases", None))
    service = Service(tts, Scheduler(tts, **bounds), shelf, settings.pop("limits", Limits()), **settings)
    listening = bind("127.0.0.1", 0)
    live = Live(service, listening.getsockname()[1])
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        told = asyncio.Event()
        loops.append((asyncio.get_running_loop(), told))
        await serve(service, listening, 20.0, told=told)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    try:
        while ready and not service.scheduler.ready:
            assert service.scheduler.failure is None and thread.is_alive()
            time.sleep(0.01)
        yield live
    finally:
        live.shared.close()
        loop, told = loops[0]
        loop.call_soon_threadsafe(told.set)
        thread.join(60)
        assert not thread.is_alive()


def pcm(wav: np.ndarray) -> bytes:
    return pcm16(wav)


def decoded(data: bytes) -> tuple[np.ndarray, int]:
    """Samples (n,) int16 and rate of a file of any format."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        file.seekable = lambda: False  # its length is not known
        blocks = [np.zeros(0, np.int16)]
        while len(block := file.read(1 << 14, dtype="int16")):
            blocks.append(block)
        return np.concatenate(blocks), file.samplerate


def events(body: str) -> list[Any]:
    """Data of server-sent events: JSON, or the text that ends them."""
    found = [block.removeprefix("data: ") for block in body.split("\n\n") if block]
    return [json.loads(data) if data.startswith("{") else data for data in found]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, checked for its shape."""
    body = answer.json()
    assert list(body) == ["error"] and set(body["error"]) == {"message", "type", "param", "code"}, body
    assert isinstance(body["error"]["message"], str) and body["error"]["message"]
    return body["error"]


@contextmanager
def raw(live: Live, seconds: float = 30.0) -> Iterator[socket.socket]:
    """A connection, to write on it what one likes."""
    with socket.create_connection(("127.0.0.1", live.port), seconds) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """Until the other side closes."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
