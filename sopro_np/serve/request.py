"""A request to speak, as OpenAI's clients write it and with our own fields beside theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sopro_np.encode import FORMATS, AudioFormat
from sopro_np.errors import UsageError
from sopro_np.options import Options
from sopro_np.serve.answers import Refusal
from sopro_np.serve.order import RANKS

MEDIA = {
    "mp3": ("mp3", "audio/mpeg"),
    "opus": ("opus", "audio/ogg"),
    "flac": ("flac", "audio/flac"),
    "wav": ("wav", "audio/wav"),
    "pcm": ("raw", "audio/pcm"),
}
OURS = ("seed", "temperature", "top_p", "style_strength", "lenient", "precision")
MOST = 1e6  # seconds
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class SpeechRequest:
    """text; voice: a name, None for the default; form, media: of the answer; sse: as events; options of `synthesize`;
    priority and deadline of the scheduler."""

    text: str
    voice: str | None
    form: AudioFormat
    media: str
    sse: bool
    options: dict[str, Any]
    priority: str
    deadline: float | None


def read_request(given: dict[str, Any], characters: int, is_voice: Callable[[str], bool]) -> SpeechRequest:
    """A JSON object -> what is asked for; Refusal (400) names the field. Unknown fields are ignored.

    is_voice: where a `model` but no voice is named, is that a voice's name? (LibreChat for LocalAI names it so.)
    """
    form, media = _format(_text(given, "response_format", "mp3"))
    stream = _text(given, "stream_format", "audio")
    if stream not in ("audio", "sse"):
        raise Refusal(400, f"stream_format {stream!r:.40}: there are audio and sse", "invalid_value", "stream_format")
    _check_speed(given.get("speed"))
    options = {name: given[name] for name in OURS if given.get(name) is not None}
    try:
        Options.of(options)
    except UsageError as error:
        param = next((name for name in OURS if str(error).startswith(name)), None)
        raise Refusal(400, str(error), "invalid_value", param) from None
    if options.get("seed", 0) > MOST_SEED:
        raise Refusal(400, f"seed: at most {MOST_SEED}", "invalid_value", "seed")
    priority = _text(given, "priority", "normal")
    if priority not in RANKS:
        known = ", ".join(RANKS)
        raise Refusal(400, f"priority {priority!r:.40}: there are {known}", "invalid_value", "priority")
    deadline = given.get("deadline")
    if deadline is not None and (
        isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline < MOST
    ):
        raise Refusal(
            400, f"deadline = {deadline!r:.40} must be a number of seconds above 0", "invalid_value", "deadline"
        )
    return SpeechRequest(
        text=_input(given, characters),
        voice=_voice(given, is_voice),
        form=form,
        media=media,
        sse=stream == "sse",
        options=options,
        priority=priority,
        deadline=None if deadline is None else float(deadline),
    )


def _text(given: dict[str, Any], name: str, default: str) -> str:
    value = given.get(name)
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise Refusal(400, f"{name} must be a text, not {type(value).__name__}", "invalid_type", name)
    return value


def _input(given: dict[str, Any], characters: int) -> str:
    text = given.get("input")
    if not isinstance(text, str):
        what = "is missing" if text is None else f"must be a text, not {type(text).__name__}"
        raise Refusal(400, f"input {what}", "invalid_type" if text is not None else "missing", "input")
    if len(text) > characters:
        raise Refusal(
            400,
            f"input has {len(text)} characters, at most {characters} are taken: send it in parts",
            "string_above_max_length",
            "input",
        )
    if not text.strip():
        raise Refusal(400, "input is empty: there is nothing to say", "empty_input", "input")
    return text


def _voice(given: dict[str, Any], is_voice: Callable[[str], bool]) -> str | None:
    voice = given.get("voice")
    if isinstance(voice, dict):
        voice = voice.get("id")
        if not isinstance(voice, str):
            raise Refusal(400, 'voice must be a name, or {"id": name}', "invalid_type", "voice")
    if voice is not None and not isinstance(voice, str):
        raise Refusal(400, 'voice must be a name, or {"id": name}', "invalid_type", "voice")
    if not voice and isinstance(model := given.get("model"), str) and is_voice(model):
        return model
    return voice or None


def _format(name: str) -> tuple[AudioFormat, str]:
    if name not in MEDIA:
        known = ", ".join(MEDIA)
        raise Refusal(
            400,
            f"response_format {name!r:.40} is not made here; there are {known}",
            "unsupported_format",
            "response_format",
        )
    own, media = MEDIA[name]
    return FORMATS[own], media


def _check_speed(speed: Any) -> None:
    if speed is None:
        return
    if isinstance(speed, bool) or not isinstance(speed, int | float) or speed != 1:
        raise Refusal(
            400,
            f"speed = {speed!r:.40}: this model has no control of its speed, so only 1.0 is taken; "
            "change the speed where it is played",
            "unsupported_value",
            "speed",
        )
