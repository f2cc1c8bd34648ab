"""What a Wyoming client wants to hear: a text, or one that arrives in pieces, handed on sentence by sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from sopro_np.errors import SoproError, UsageError
from sopro_np.script import Part
from sopro_np.serve.settled import Settled
from sopro_np.speech import Speech
from sopro_np.text.split import Piece

ARRIVING = 600.0  # seconds that a text may take to arrive
LANGUAGES = ("en",)


def text_of(data: dict[str, Any], most: int) -> str:
    """The text that an event brings, of at most so many characters. UsageError if there is none that could be one."""
    text = data.get("text")
    if not isinstance(text, str):
        raise UsageError("the event has no text: it must be a string")
    if len(text) > most:
        raise UsageError("the text is too long: send it in several requests, or serve with more --characters")
    return text


def voice_of(data: dict[str, Any]) -> str | None:
    """The name of the voice that is asked for; None: the default. UsageError for a language that no voice speaks."""
    if (kind := data.get("text_format")) not in (None, "text"):
        raise UsageError(f"text_format {kind!r:.40}: only plain text is read")
    voice = data.get("voice")
    if voice is None:
        return None
    name, language = (voice.get("name"), voice.get("language")) if isinstance(voice, dict) else (voice, None)
    if not isinstance(voice, dict) or not isinstance(name, str | None) or not isinstance(language, str | None):
        raise UsageError("voice must be an object with a name, a string")
    if not name and language and language.replace("_", "-").split("-")[0].lower() not in LANGUAGES:
        raise UsageError(f"there is no voice for the language {language!r:.40}; there are {', '.join(LANGUAGES)}")
    return name


class Text:
    """A text that is there: `synthesize`."""

    def __init__(self, voice: str | None, text: str) -> None:
        self.voice, self._text = voice, text

    async def parts(self) -> AsyncIterator[str]:
        """The text."""
        yield self._text

    def heard(self, part: str | Part, speech: Speech) -> None:
        """It was said."""


class TextStream:
    """A text in pieces: `synthesize-start`, chunks, `synthesize-stop`. One task pushes, another one takes parts.

    most: characters in all. `instead`: what is said if no chunk had any text (clients send the whole text once more,
    before the stop).
    """

    def __init__(self, voice: str | None, sentences: Callable[[str], Iterable[Piece]], most: int) -> None:
        self.voice, self.instead, self._most = voice, "", most
        self._half = ""  # a character that JavaScript cut in two, as far as it is there
        self.over = asyncio.Event()  # its stop has come
        self._settled = Settled(sentences)
        self._ready: list[Piece] = []
        self._position, self._level = 0, 0.0  # as in Part
        self._error: SoproError | None = None
        self._news = asyncio.Event()
        self._until = asyncio.get_running_loop().time() + ARRIVING
        self.refused = False  # nobody takes its parts

    async def push(self, data: dict[str, Any]) -> None:
        """The next piece of text: the data of its event."""
        if self.refused or self._error is not None:
            return
        try:
            more = self._half + text_of(data, self._most - len(self._settled.text))
            more = more.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")  # halves as one
            whole = len(more) - ("\ud800" <= more[-1:] <= "\udbff")
            more, self._half = more[:whole], more[whole:]
            settled = await asyncio.to_thread(self._settled.push, more)
            self._ready += settled  # now, and not the list as it was before
        except SoproError as error:
            self._error = error
        self._news.set()

    async def stop(self) -> None:
        """No more text comes."""
        if not self.refused and self._error is None:
            try:
                self._settled.text += self._half  # which is an error
                if not self._settled.text.strip():
                    self._settled.text = self.instead
                settled = await asyncio.to_thread(self._settled.end)
                self._ready += settled
            except SoproError as error:
                self._error = error
        self.over.set()
        self._news.set()

    def fail(self, error: SoproError, over: bool = False) -> None:
        """What still comes is dropped. `over`: nor will its stop come."""
        self._error = self._error or error
        self._news.set()
        if over:
            self.over.set()

    async def parts(self) -> AsyncIterator[Part]:
        """All sentences that are settled and were not taken yet, again and again to the end of the text."""
        while True:
            if self._ready:
                pieces, self._ready = tuple(self._ready), []
                yield Part(pieces, self._position, self._level)
            elif self._error is not None:
                raise self._error
            elif self.over.is_set():
                return
            else:
                await self._wait()

    def heard(self, part: str | Part, speech: Speech) -> None:
        """It was said; the next one goes on from there."""
        if not self._position:
            self._level = speech.level
        self._position += len(speech.sentences)

    async def _wait(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout_at(self._until):
                await self._news.wait()
        except TimeoutError:
            raise UsageError(f"the text did not end within {ARRIVING:g} s") from None
