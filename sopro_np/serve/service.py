"""What a server serves: one model, its voices, the scheduler before it, and how requests are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sopro_np.engine import Sopro
from sopro_np.script import Part
from sopro_np.serve.limits import Limits
from sopro_np.serve.scheduler import Scheduler
from sopro_np.serve.ticket import Ticket
from sopro_np.serve.voices import VoiceShelf
from sopro_np.voice import Voice


@dataclass
class Service:
    """model_id: as clients are told; seed: of requests that give none (None: drawn for each); keys: of the API, none:
    open to all who can reach it; cors: origins whose pages may use it; options: of requests that do not say otherwise,
    as in `synthesize`."""

    tts: Sopro
    scheduler: Scheduler
    shelf: VoiceShelf
    limits: Limits = field(default_factory=Limits)
    seed: int | None = None
    keys: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    _voices: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "sopro_np voices"), repr=False)

    @property
    def model_id(self) -> str:
        """Name of the loaded model."""
        return self.tts.path.stem

    async def voice(self, name: str | None) -> tuple[str, Voice]:
        """The voice of that name (None: the default) -> its real name, and the voice; it may take a second."""
        found = self.shelf.resolve(name)
        if (ready := self.shelf.prepared(found)) is not None:
            return found, ready
        return found, await asyncio.get_running_loop().run_in_executor(self._voices, self.shelf.get, found)

    async def add_voice(self, name: str, data: bytes) -> list[str]:
        """A recording becomes a voice, on the thread for voices -> what is doubtful about it."""
        return await asyncio.get_running_loop().run_in_executor(self._voices, self.shelf.add, name, data)

    async def submit(self, text: str | Part, voice: Voice, **options: object) -> Ticket:
        """Scheduler.submit, on a thread: a long text takes a while to normalise. The server's seed and options where
        none are given."""
        if self.seed is not None and options.get("seed") is None:
            options["seed"] = self.seed
        options = {**self.options, **options}
        return await asyncio.to_thread(self.scheduler.submit, text, voice, **options)  # type: ignore[arg-type]
