"""What a Wyoming server says about itself, and how it has a text spoken."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from typing import Any

from sopro_np.options import Options
from sopro_np.script import Part, fitting, sentences
from sopro_np.serve.service import Service
from sopro_np.serve.ticket import Ticket
from sopro_np.serve.wyoming_events import MOST_DATA
from sopro_np.serve.wyoming_stream import LANGUAGES
from sopro_np.text.split import Piece
from sopro_np.version import __version__
from sopro_np.voice import Voice

LOG = logging.getLogger("sopro_np.serve")
MAKER = {"name": "Sopro TTS", "url": "https://huggingface.co/samuel-vitorino/sopro"}


class WyomingService:
    """A service as conversations use it.

    sample_rate in Hz; most: characters of a text; most_data: bytes of the data of an event.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._chosen, tts = service, Options.of(service.options), service.tts
        self._fits = fitting(tts.pace, tts.tokenizer.encode, len(tts.model.text.positions))
        self.sample_rate, self.most = tts.sample_rate, service.limits.characters
        self.most_data = max(MOST_DATA, service.limits.json_bytes)

    def info(self) -> dict[str, Any]:
        """What there is, as the protocol describes it; the voices are looked up now."""
        common = {"attribution": MAKER, "installed": True, "version": __version__}
        voices = [
            {"name": name, "description": name, "languages": list(LANGUAGES), "speakers": None, **common}
            for name in self._service.shelf.names()
        ]
        program = {
            "name": "sopro-np",
            "description": "Sopro TTS, which speaks in voices it has heard",
            **common,
            "voices": voices,
            "supports_synthesize_streaming": True,
        }
        others = ("asr", "handle", "intent", "wake", "mic", "snd")
        return {"tts": [program], **{name: [] for name in others}}

    def sentences(self, text: str) -> Iterable[Piece]:
        """What is said of a text, sentence by sentence."""
        return sentences(text, self._chosen, self._fits)

    async def voice(self, name: str | None) -> tuple[str, Voice]:
        """The voice of that name, or the default -> its real name, and the voice. A recording takes a second."""
        return await self._service.voice(name)

    def new_seed(self) -> int:
        """Of one request."""
        return secrets.randbits(32) if self._service.seed is None else self._service.seed

    async def submit(self, text: str | Part, voice: Voice, seed: int) -> Ticket:
        """A request to the scheduler."""
        LOG.debug("seed %d says %r", seed, text if isinstance(text, str) else " ".join(p.text for p in text.pieces))
        return await self._service.submit(text, voice, priority="interactive", seed=seed)
