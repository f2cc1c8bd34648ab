"""The folder that utterances go to: audio files that appear whole, and manifests of what is there.

    wavs/ID.wav (or .flac)       the audio
    manifest.jsonl               a record for each file, as NeMo reads it; manifest-i-of-n.jsonl while work goes on
    metadata.csv                 the same for LJSpeech's readers: id|text|text as it was spoken
    errors.jsonl                 lines that were not spoken, and why; none if there is none

An utterance is done if a record of its key names a file that has the bytes which the record tells of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sopro_np.bulk.key import file_digest
from sopro_np.bulk.lines import BadLine
from sopro_np.bulk.parts import Parts
from sopro_np.bulk.plan import Task
from sopro_np.bulk.records import Journal, Record, check_free, read_records, write_records
from sopro_np.bulk.shard import FILES, Shard
from sopro_np.encode import AudioFormat, open_writer
from sopro_np.errors import BulkError, SoproError, UsageError
from sopro_np.files import replacing
from sopro_np.longform import Heard

AUDIO, PARTS, TARS = "wavs", ".parts", "tars"
MANIFEST, METADATA, ERRORS = "manifest.jsonl", "metadata.csv", "errors.jsonl"
LONG = 1000  # characters, about a minute: from there on a text is kept on the disk while it is said
UNFINISHED = ".sopro-*.part"  # what a kill leaves of a file that was being written
FIELDS = {
    **dict.fromkeys(
        ["audio_filepath", "text", "normalized_text", "id", "voice", "finish_reason", "key", "sha256"], str
    ),
    "duration": float,
    "seed": int,
    "check": list,
}  # of a record


@dataclass(frozen=True)
class Said:
    """How an utterance was said: samples, finish_reason and check as in Speech, text as the model was given it."""

    samples: int
    finish_reason: str
    check: tuple[str, ...]
    spoken: str


class Outputs:
    """The output folder of one process: it does the lines of `shard`, None: all, and then puts manifests together.

    BulkError if the folder cannot be used, holds something else, or another process does the same lines.
    """

    def __init__(self, folder: Path, form: AudioFormat, sample_rate: int, shard: Shard | None) -> None:
        self.folder, self._form, self._rate = folder, form, sample_rate
        self._merges, self._shard = shard is None, shard or Shard()
        self.samples = self.ended = self.characters = 0  # of audio, of tasks, of their texts: by this process
        self.done: dict[str, Record] = {}  # id -> record, of lines that are asked for
        self.bad: list[BadLine] = []
        self._check_is_ours()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                self._journal = Journal(folder / self._shard.file("manifest"))
                stack.callback(self._journal.withdraw)
                if self._merges:
                    for path in self._others():
                        check_free(path)
                records = [record for path in self._manifests() for record in _of_us(path)]
                self._known = {(r["id"], r["key"]): r for r in records if _is_whole(r)}
                (folder / AUDIO).mkdir(exist_ok=True)
                if self._merges:
                    self._sweep()
                self._errors: Journal | None = None
                (folder / self._shard.file("errors")).unlink(missing_ok=True)
                stack.pop_all()
        except OSError as error:
            raise BulkError(f"{folder}: cannot be written ({error.strerror or error}); name another folder") from None

    def _manifests(self) -> list[Path]:
        return [self.folder / MANIFEST, *sorted(self.folder.glob(FILES))]

    def _others(self) -> list[Path]:
        return [path for path in self._manifests()[1:] if path != self._journal.path]

    def _check_is_ours(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder}: is not a folder; name another one with -o")
        audio = self.folder / AUDIO
        if not any(path.exists() for path in self._manifests()) and (
            (self.folder / METADATA).exists() or (audio.is_dir() and any(audio.iterdir()))
        ):
            raise BulkError(f"{self.folder}: holds {AUDIO}/ or {METADATA} of somebody else; name another folder")

    def _sweep(self) -> None:
        for folder in (self.folder, self.folder / AUDIO, self.folder / TARS):
            for path in folder.glob(UNFINISHED):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------ one utterance

    def is_done(self, task: Task) -> bool:
        """Does its file lie there, with the bytes that a record of its key tells of?"""
        record = self._known.get((task.id, task.key))
        if record is None or not (path := self._audio(task.id)).is_file() or file_digest(path) != record["sha256"]:
            return False
        self.done[task.id] = record
        return True

    def open(self, task: Task) -> Target:
        """A place for the samples of an utterance that is not done; of a long one, with what was said before."""
        long = len(task.text) >= LONG
        stem = self.folder / PARTS / f"{task.id}-{task.key[:16]}"
        return Target(task, self, Parts(stem) if long else None)

    def fail(self, bad: BadLine) -> None:
        """An error record for a line."""
        self.bad.append(bad)
        if self._errors is None:
            self._errors = Journal(self.folder / self._shard.file("errors"))
        self._errors.append(_error(bad))

    def put(self, task: Task, pieces: Iterable[np.ndarray], said: Said) -> None:
        """All samples of an utterance, int16 (n,): its file, whole, then its record."""
        path = self._audio(task.id)
        try:
            with open_writer(str(path), self._form, self._rate, samples=said.samples) as writer:
                for piece in pieces:
                    writer.write(piece)
        except (SoproError, OSError) as error:
            raise BulkError(str(error)) from None
        record = self._record(task, said, file_digest(path))
        self._journal.append(record)
        self.done[task.id] = record

    def _audio(self, id: str) -> Path:
        return self.folder / AUDIO / f"{id}{self._form.endings[0]}"

    def _record(self, task: Task, said: Said, digest: str) -> Record:
        return {
            "audio_filepath": f"{AUDIO}/{self._audio(task.id).name}",
            "duration": said.samples / self._rate,
            "text": task.text,
            "normalized_text": said.spoken,
            "id": task.id,
            "voice": task.voice,
            "seed": task.seed,
            "finish_reason": said.finish_reason,
            "check": list(said.check),
            "key": task.key,
            "sha256": digest,
        }

    # ------------------------------------------------------------ all of them

    @property
    def errors_file(self) -> Path:
        """Where error records lie once all is finished."""
        return self.folder / (ERRORS if self._merges else self._shard.file("errors"))

    def finish(self, ids: Iterable[str | None]) -> list[Record]:
        """Manifests in the order of the lines, whose ids these are; all that shards have left is put together.

        Returns the records. Files that are there from another list stay in the manifest, behind the others.
        """
        wanted = dict.fromkeys(id for id in ids if id is not None)
        records = [self.done[id] for id in wanted if id in self.done]
        errors = [_error(bad) for bad in sorted(self.bad, key=lambda bad: bad.number)]
        if not self._merges:
            write_records(self._journal.path, records)
            if errors:
                write_records(self.errors_file, errors)
            return records
        others = {r["id"]: r for r in self._known.values() if r["id"] not in wanted and self._is_there(r)}
        records += [others[id] for id in sorted(others)]
        write_records(self.folder / MANIFEST, records)
        with replacing(self.folder / METADATA, BulkError) as file:
            file.writelines(ljspeech(record).encode() for record in records)
        if errors:
            write_records(self.errors_file, errors)
        else:
            self.errors_file.unlink(missing_ok=True)
        self._tidy()
        return records

    def _is_there(self, record: Record) -> bool:
        path = self.folder / str(record.get("audio_filepath"))
        return path.parent == self.folder / AUDIO and path.is_file()

    def _tidy(self) -> None:
        """What was needed on the way."""
        for path in (*self.folder.glob(FILES), *self.folder.glob("errors-*-of-*.jsonl")):
            path.unlink(missing_ok=True)
        if (parts := self.folder / PARTS).is_dir():
            for path in parts.iterdir():
                path.unlink()
            parts.rmdir()

    def close(self) -> None:
        """Others may work here."""
        self._journal.close()
        if self._errors is not None:
            self._errors.close()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Target:
    """Where the samples of one utterance go. after: what was said of it before, None: nothing."""

    def __init__(self, task: Task, outputs: Outputs, parts: Parts | None) -> None:
        self.task, self._outputs, self._parts = task, outputs, parts
        self.after: Heard | None = parts.heard if parts else None
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Samples that follow, 16 bit."""
        self._outputs.samples += len(data) // 2
        if self._parts is None:
            self._pieces.append(data)
        else:
            self._parts.write(data)

    def mark(self, heard: Heard) -> bool:
        """So far all is said, to the end of a sentence. Returns whether that is enough for now: never."""
        if self._parts is not None:
            self._parts.mark(heard)
        return False

    def finish(self, said: Said) -> None:
        """That was all: the file is put in its place."""
        self._outputs.put(self.task, self._all(), said)
        self._end()
        if self._parts is not None:
            self._parts.remove()

    def fail(self, problem: str) -> None:
        """It cannot be spoken."""
        self._outputs.fail(BadLine(self.task.number, self.task.id, problem))
        self._end()
        self.close()

    def _end(self) -> None:
        self._outputs.ended += 1
        self._outputs.characters += len(self.task.text)

    def close(self) -> None:
        """Not to its end; what is on the disk stays."""
        if self._parts is not None:
            self._parts.close()

    def _all(self) -> Iterator[np.ndarray]:
        if self._parts is None:
            yield np.frombuffer(b"".join(self._pieces), "<i2")
        else:
            yield from self._parts.pieces()


def _of_us(path: Path) -> list[Record]:
    """Records of a manifest; BulkError if somebody else has written it."""
    records = read_records(path)
    for record in records:
        if not all(isinstance(record.get(name), str) for name in ("id", "key", "sha256")):
            raise BulkError(f"{path}: is not a manifest of this program; name another folder with -o")
    return records


def _is_whole(record: Record) -> bool:
    """Has it all that `_record` writes? Somebody may have edited it: then its line is spoken again."""
    return all(isinstance(record.get(name), kind) for name, kind in FIELDS.items()) and (
        record["audio_filepath"].rpartition(".")[0] == f"{AUDIO}/{record['id']}"
    )


def _error(bad: BadLine) -> Record:
    return {"line": bad.number, "id": bad.id, "error": bad.problem}


def ljspeech(record: Record) -> str:
    """A line of metadata.csv: id|text|text as it was spoken. It knows no quotes: a | or a line end becomes a space."""
    texts = (" ".join(str(record.get(name)).replace("|", " ").split()) for name in ("text", "normalized_text"))
    return "|".join((record["id"], *texts)) + "\n"
