"""What is spoken in an evaluation: the sentences that come with the package, or a file of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sopro_np.errors import UsageError
from sopro_np.options import Options
from sopro_np.text.normalise import normalise

MAX_BYTES = 1 << 20
_PAUSE = re.compile(r"\[pause [0-9.]+\]")


@dataclass(frozen=True)
class Text:
    """A sentence, and the file of a recording of it (None: there is none)."""

    text: str
    recording: Path | None = None


def built_in() -> list[Text]:
    """Sixty sentences of 6 to 10 words."""
    return _lines(resources.files("sopro_np.evaluate").joinpath("texts.txt").read_text("utf-8"), None)


def spoken_form(text: str, options: Mapping[str, Any]) -> str:
    """What an ASR should hear of a text under these options: its spoken form, without the marks of pauses.

    A lexicon's respellings are no words: they do not count.
    """
    o = Options(**options)
    if not o.normalise:
        return text
    return _PAUSE.sub(" ", normalise(text, day_first=o.day_first, lenient=o.lenient).text)


def read_texts(path: str | Path) -> list[Text]:
    """A UTF-8 file, a sentence per line; after a tab, the name of a recording of it (relative to the file).

    Empty lines and lines that begin with # are left out. UsageError names the line that makes no sense.
    """
    path = Path(path)
    try:
        with path.open("rb") as f:
            raw = f.read(MAX_BYTES + 1)
        content = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a list of texts ({error})") from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: longer than 1 MiB: that is no list of texts")
    texts = _lines(content, path)
    if not texts:
        raise UsageError(f"{path}: holds no text")
    return texts


def _lines(content: str, path: Path | None) -> list[Text]:
    texts = []
    for number, line in enumerate(content.splitlines(), 1):
        text, name = (part.strip() for part in (line.partition("\t")[0], line.partition("\t")[2]))
        if not line.strip() or line.startswith("#"):
            continue
        recording = path.parent / name if path and name else None
        if not text:
            raise UsageError(f"{path}, line {number}: a recording without a text")
        if recording and not recording.is_file():
            raise UsageError(f"{path}, line {number}: there is no recording {recording}")
        texts.append(Text(text, recording))
    return texts
