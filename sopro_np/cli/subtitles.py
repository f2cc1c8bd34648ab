"""What was said and when, as a file beside the audio: SubRip, WebVTT, or JSON with all that is known."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence

from sopro_np.cli.process import OutputError
from sopro_np.files import write_whole
from sopro_np.speech import Speech


def _clock(seconds: float, mark: str) -> str:
    """HH:MM:SS and milliseconds after `mark`."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


def srt(speech: Speech, text: str) -> str:
    """SubRip; lines are those of the text that was given."""
    cues = (
        f"{i}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n{_line(text, s.span)}\n"
        for i, s in enumerate(speech.sentences, 1)
    )
    return "\n".join(cues)


def vtt(speech: Speech, text: str) -> str:
    """WebVTT."""
    cues = (f"\n{_clock(s.start, '.')} --> {_clock(s.end, '.')}\n{_escaped(text, s.span)}\n" for s in speech.sentences)
    return "WEBVTT\n" + "".join(cues)


def as_json(speech: Speech, text: str) -> str:
    """Seed, how it ended, what was found, and every sentence. Seeds are strings: many readers round above 2^53."""
    facts = {
        "seed": str(speech.seed),
        "finish_reason": speech.finish_reason,
        "frames": speech.frames,
        "check": speech.check,
    }
    sentences = [
        {**dataclasses.asdict(s), "seed": str(s.seed), "written": _line(text, s.span)} for s in speech.sentences
    ]
    return json.dumps({**facts, "sentences": sentences}, indent=2, ensure_ascii=False) + "\n"


KINDS: dict[str, Callable[[Speech, str], str]] = {"srt": srt, "vtt": vtt, "json": as_json}  # options of `say`


def joined(speeches: Sequence[Speech], lengths: Sequence[int], starts: Sequence[float], speed: float = 1.0) -> Speech:
    """Speech of several texts as of one (without its audio): so many characters each, heard from so many seconds on.

    All of it was made faster by `speed` afterwards.
    """
    sentences = [
        dataclasses.replace(
            s,
            span=(at + s.span[0], at + s.span[1]),
            start=(start + s.start) / speed,
            end=(start + s.end) / speed,
        )
        for speech, at, start in zip(speeches, itertools.accumulate(lengths, initial=0), starts, strict=False)
        for s in speech.sentences
    ]
    reason = next((s.finish_reason for s in speeches if s.finish_reason != "stop"), "stop")
    return dataclasses.replace(
        speeches[0], finish_reason=reason, frames=sum(s.frames for s in speeches),
        check=tuple(c for s in speeches for c in s.check), sentences=tuple(sentences),
    )  # fmt: skip


def _line(text: str, span: tuple[int, int]) -> str:
    return " ".join(text[slice(*span)].split()).replace("-->", "->")


def _escaped(text: str, span: tuple[int, int]) -> str:
    return _line(text, span).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write(path: str, content: str) -> None:
    """A text file, whole or not at all, a pipe or a device; "-" is standard output."""
    if path == "-":
        print(content, end="")
        return
    write_whole(path, content.encode(), OutputError)
