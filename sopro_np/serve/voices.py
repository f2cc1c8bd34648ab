"""Voice folder of a server: names of voices, prepared when they are first asked for, an LRU of them kept."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sopro_np.engine import Sopro
from sopro_np.errors import SoproError, UsageError, VoiceError
from sopro_np.hearing import noted
from sopro_np.locate import EMBEDDED, VOICE_SUFFIX, all_voices
from sopro_np.mimi.codec import SPEAKS_ONLY
from sopro_np.serve.samples import Sample, check_sample
from sopro_np.voice import Voice, check_fingerprints, saved_fingerprints

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
RECORDINGS = (".wav", ".flac", ".ogg", ".mp3")  # that become a voice by lying in the folder
OPENAI = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)  # fmt: skip
KEPT = 16  # prepared voices
SHOWN = 20  # names in an error
MOST = 1000  # voices in a folder, before no more are added

Stamp = tuple[int, int]  # time and size of a file: another stamp, another voice


class UnknownVoice(UsageError):
    """No voice has that name."""


class VoiceTaken(UsageError):
    """There is a voice of that name already."""


class VoiceShelf:
    """The voices that a server speaks in: those of a plain folder, read anew each time, and the embedded ones.

    A voice file, or a recording, that is put into the folder is a voice from then on. default: the name of the voice
    for requests without one (None: the model's own, else the first). aliases: other names -> voices. folder None: the
    embedded ones alone. Any thread may call.
    """

    def __init__(
        self,
        tts: Sopro,
        folder: Path | None = None,
        default: str | None = None,
        aliases: Mapping[str, str] | None = None,
        ffmpeg: bool = False,
    ) -> None:
        self.tts, self.folder, self.ffmpeg = tts, folder, ffmpeg
        self._given, self._aliases = default, dict(aliases or {})
        self._lock, self._preparing = threading.Lock(), threading.Lock()
        self._prepared: OrderedDict[Path, tuple[Stamp, Voice]] = OrderedDict()
        self._fits: dict[Path, tuple[Stamp, bool]] = {}

    # ------------------------------------------------------------ names

    def names(self) -> list[str]:
        """Of all voices there are now, the default first."""
        return list(self.listing())

    def listing(self) -> dict[str, int]:
        """Name -> when its file was written (Unix time in s) of all voices there are now, the default first."""
        files = self._files()
        first = self._default(files)
        return {name: _written(files[name]) for name in sorted(files, key=lambda name: (name != first, name))}

    def resolve(self, name: str | None = None) -> str:
        """The name of the voice that will speak. UnknownVoice if there is none.

        None or "" is the default; one of OpenAI's names that is neither a voice nor an alias is the default, too.
        """
        return self._find(name)[0]

    def _find(self, name: str | None) -> tuple[str, Path]:
        files = self._files()
        if name in OPENAI and name not in (*self._aliases, *self.unheard()) and self._named(name, files) is None:
            name = None
        found = self._named(name, files) if name else self._default(files)
        if found is None:
            raise UnknownVoice(self._missing(name or self._given, files))
        return found, files[found]

    def _named(self, name: str, files: Mapping[str, Path]) -> str | None:
        """The voice that is called so, that an alias of that name stands for, or that differs in case alone."""
        if name not in files:
            name = self._aliases.get(name, name)
        alike = [name] if name in files else [known for known in files if known.casefold() == name.casefold()]
        return alike[0] if len(alike) == 1 else None

    def _default(self, files: Mapping[str, Path]) -> str | None:
        if self._given is not None:
            return self._named(self._given, files)
        own = next((name for name, _, default in all_voices(self.tts.path) if default and name in files), None)
        return own or min(files, default=None)

    def _missing(self, name: str | None, files: Mapping[str, Path]) -> str:
        if name is not None and self._aliases.get(name, name).casefold() in map(str.casefold, self.unheard()):
            return f"voice {name} is a recording: {SPEAKS_ONLY}"
        if name is not None and files:
            return _unknown(self._aliases.get(name, name), files)
        what = "recording" if self.tts.mimi.hears else f"voice file (*{VOICE_SUFFIX})"
        where = f"put a {what} into {self.folder}" if self.folder else "name a folder with --voices"
        return f"there is no voice yet: {where}"

    def _files(self) -> dict[str, Path]:
        """Name -> file. A voice file goes before a recording of its name, the folder before embedded ones."""
        found = {name: path for name, path, _ in all_voices(self.tts.path) if _is_embedded(path)}
        saved: dict[str, Path] = {}
        for path in self._inside():
            if path.name.endswith(VOICE_SUFFIX):
                saved[path.name.removesuffix(VOICE_SUFFIX)] = path
            elif path.suffix.lower() in RECORDINGS:
                found[path.stem] = path
        found |= saved
        return {name: path for name, path in found.items() if NAME.fullmatch(name) and self._is_fitting(path)}

    def unheard(self) -> list[str]:
        """Names of the recordings in the folder that would be voices if this model could hear."""
        if self.tts.mimi.hears:
            return []
        return [path.stem for path in self._inside() if path.suffix.lower() in RECORDINGS]

    def _inside(self) -> list[Path]:
        """Files of the folder, in order of their names."""
        if self.folder is None:
            return []
        try:
            with os.scandir(self.folder) as entries:
                return sorted(self.folder / entry.name for entry in entries if _is_file(entry))
        except OSError:  # it is not there yet
            return []

    def _is_fitting(self, path: Path) -> bool:
        """Does a voice file fit the model? (Of a recording that shows when it is heard, if the model can hear.)"""
        if not path.name.endswith(VOICE_SUFFIX):
            return self.tts.mimi.hears
        try:
            stamp = _stamp(path)
            known = self._fits.get(path)
            if known is None or known[0] != stamp:
                try:
                    check_fingerprints(saved_fingerprints(path), self.tts.fingerprints, path.name)
                    known = stamp, True
                except SoproError:
                    known = stamp, False
                if len(self._fits) > 4 * MOST:  # files that came and went
                    self._fits.clear()
                self._fits[path] = known
            return known[1]
        except OSError:  # removed meanwhile
            return False

    # ------------------------------------------------------------ voices

    def get(self, name: str | None = None) -> Voice:
        """The voice of that name, prepared. It may take a second: a recording is encoded when it is first asked for.

        UnknownVoice if there is none; AudioError, VoiceError if its file cannot be used.
        """
        _, path = self._find(name)
        if (ready := self._at_hand(path)) is not None:
            return ready
        with self._preparing:  # one at a time: the others have speech to make
            if (ready := self._at_hand(path)) is not None:
                return ready
            stamp = _stamp(path)
            recording = not path.name.endswith(VOICE_SUFFIX)
            voice = self.tts.voice(path) if recording else self.tts.load_voice(path)
            self._keep(path, stamp, voice)
            return voice

    def prepared(self, name: str | None = None) -> Voice | None:
        """The same if it is at hand, else None; at once."""
        return self._at_hand(self._find(name)[1])

    def _at_hand(self, path: Path) -> Voice | None:
        with self._lock, suppress(OSError):
            known = self._prepared.get(path)
            if known is not None and known[0] == _stamp(path):
                self._prepared.move_to_end(path)
                return known[1]
        return None

    def _keep(self, path: Path, stamp: Stamp, voice: Voice) -> None:
        with self._lock:
            self._prepared[path] = stamp, voice
            self._prepared.move_to_end(path)
            while len(self._prepared) > KEPT:
                self._prepared.popitem(last=False)

    # ------------------------------------------------------------ changes

    def add(self, name: str, data: bytes) -> list[str]:
        """Bytes of a recording -> a voice of that name, kept in the folder as a file of a few KB; whole or not at all.

        Returned is what is doubtful about the recording, a sentence each.

        UsageError for a name that cannot be, VoiceTaken, AudioError for the recording, VoiceError if it cannot be kept.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError(f"name {name!r:.80}: 1 to 64 letters, digits, _ or - are a voice's name")
        if self.folder is None:
            raise UsageError("this server has no folder for voices: start it with --voices DIR")
        self.tts.mimi.encoder  # noqa: B018  # or an error, whatever was sent
        with self._preparing:
            self._check_free(name)
            check_sample(data, ffmpeg=self.ffmpeg)
            with noted() as notes:
                voice = self.tts.voice(Sample(data))
            path = self.folder / f"{name}{VOICE_SUFFIX}"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VoiceError(f"{self.folder}: cannot be made ({error.strerror}); see to its permissions") from None
            voice.save(path)
            self._keep(path, _stamp(path), voice)
            return notes

    def _check_free(self, name: str) -> None:
        files = self._files()
        if any(name.casefold() == known.casefold() for known in files):
            raise VoiceTaken(f"there is a voice {name} already: remove it first, or choose another name")
        if len(files) >= MOST:
            raise UsageError(
                f"there are {len(files)} voices already, and no more than {MOST} may be added: remove some"
            )

    def remove(self, name: str) -> None:
        """A voice that was added is gone. UnknownVoice if there is none, UsageError if it was not added by `add`."""
        if name not in (files := self._files()):
            raise UnknownVoice(_unknown(name, files))
        path = files[name]
        if _is_embedded(path):
            raise UsageError(f"voice {name} belongs to the model: it cannot be removed")
        if not path.name.endswith(VOICE_SUFFIX):
            raise UsageError(
                f"voice {name} is a recording that was put into the voice folder: delete {path.name} there"
            )
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise VoiceError(f"voice {name} cannot be removed: {error.strerror}") from None
        with self._lock:
            self._prepared.pop(path, None)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself, say: the others are voices all the same
        return False


def _written(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:  # removed meanwhile
        return 0


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _is_embedded(path: Path) -> bool:
    return path.parent == EMBEDDED.parent


def _unknown(name: str, files: Mapping[str, Path]) -> str:
    names = sorted(files)
    more = ", ..." if len(names) > SHOWN else ""
    return f"there is no voice {name!r:.80}; there are {', '.join(names[:SHOWN]) or 'none'}{more}"
