"""`sopro-np batch`: many lines -> a folder of utterances, here or on a cluster; a call goes on where the last ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sopro_np.bulk.key import chosen_options, file_digest
from sopro_np.bulk.lines import BadLine, Line, read_lines
from sopro_np.bulk.local import speak
from sopro_np.bulk.outputs import ERRORS, MANIFEST, METADATA, Outputs
from sopro_np.bulk.plan import Plan, Task
from sopro_np.bulk.shard import Shard
from sopro_np.bulk.tars import write_tars
from sopro_np.cli.progress import Progress, clock, watched
from sopro_np.encode import FORMATS
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import UsageError
from sopro_np.files import file_name
from sopro_np.locate import VOICE_SUFFIX, find_model, find_voice
from sopro_np.modelfile import check_kind
from sopro_np.options import Options, whole
from sopro_np.tensorfile import TensorFile
from sopro_np.voice import Voice

TOLD = 5  # bad lines that are shown; all stand in errors.jsonl


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if every line was spoken, now or before, 1 if some could not be."""
    options = {name: getattr(args, name) for name in Options.names() if hasattr(args, name)}
    Options.of(options)  # what is wrong with them is said before a model is read
    base = options.pop("seed", None) or 0
    for name in ("tars", "width"):
        whole(f"--{name}", getattr(args, name), 1)
    shard = None if args.shard is None else Shard.parse(args.shard)
    if shard is not None and args.tars is not None:
        raise UsageError("--tars has to have all lines: give it with the call without --shard")
    folder = file_name(args.out, "-o")
    lines = _read(args.lines, args.input, folder)
    model = find_model(args.model)
    check_kind(TensorFile(model))
    with open_model(model, args.threads, args.ops) as tts:
        rate, digest, form = tts.sample_rate, file_digest(model), FORMATS[args.format]
        plan = Plan(tts, digest, *_who(args, tts, lines), base, chosen_options(options, ops=tts.ops, format=form.name))
        own = [line for place, line in enumerate(lines) if shard is None or shard.has(place)]
        with Outputs(folder, form, rate, shard) as outputs:
            work = Work(outputs, Progress(not args.quiet and watched()), rate)
            tasks = work.to_do(plan, own)
            try:
                if args.scheduler is not None:
                    from sopro_np.bulk.cluster import Model, speak_on

                    where = Model(str(model.resolve()), digest, model.stat().st_size, tts.ops, args.threads)
                    speak_on(args.scheduler, where, tasks, options, args.width, outputs.open, work.tell)
                else:
                    speak(tts, tasks, options, args.width, outputs.open, work.tell)
            except KeyboardInterrupt:
                work.stopped(args.quiet)
                raise
            work.progress.clear()
            records = outputs.finish(line.id for line in own)
            if args.tars is not None:
                write_tars(outputs.folder, records, args.tars)
            work.sum_up(len(own), args.quiet)
            return int(bool(outputs.bad))


def _read(name: str, form: str | None, folder: Path) -> list[Line | BadLine]:
    if name == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed; name a file of lines")
        return read_lines(sys.stdin.buffer, "standard input", form)
    for made in (MANIFEST, METADATA, ERRORS):
        if os.path.exists(name) and os.path.exists(folder / made) and os.path.samefile(name, folder / made):
            raise UsageError(f"{name}: is written by this command; name another folder with -o")
    try:
        with Path(name).open("rb") as source:
            return read_lines(source, name, form)
    except (OSError, ValueError) as error:  # a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}: cannot be read ({reason}); name a file of lines") from None


def _who(args: argparse.Namespace, tts: Sopro, lines: Sequence[Line | BadLine]) -> tuple[Voice | None, str | None]:
    """The voice of lines that name none, and what it is called."""
    if args.ref is not None:
        return tts.voice(args.ref), Path(args.ref).name
    if args.voice is None and all(isinstance(line, BadLine) or line.voice for line in lines):
        return None, None
    path = find_voice(args.voice, tts.path)
    return tts.load_voice(path), path.name.removesuffix(VOICE_SUFFIX)


class Work:
    """What there is to do, and how far it is."""

    def __init__(self, outputs: Outputs, progress: Progress, rate: int) -> None:
        self._outputs, self.progress, self._rate = outputs, progress, rate
        self._tasks: list[Task] = []
        self._characters = 0  # of them
        self._started = time.perf_counter()

    def to_do(self, plan: Plan, lines: Sequence[Line | BadLine]) -> list[Task]:
        """Tasks that are not done yet; bad lines get their records."""
        for place, task in enumerate(plan.tasks(lines)):
            if isinstance(task, BadLine):
                self._outputs.fail(task)
            elif not self._outputs.is_done(task):
                self._tasks.append(task)
            self.progress.update(place, len(lines), "  looking at what is there")
        self.progress.restart()
        self._characters = sum(len(task.text) for task in self._tasks)
        self._started = time.perf_counter()
        return self._tasks

    def tell(self, running: int) -> None:
        """Draw how far it is; `running`: characters said of tasks that are not at their end."""
        more = f"  RTF {self._rtf:.2f}  {self._outputs.ended} of {len(self._tasks)} lines"
        self.progress.update(self._outputs.characters + running, self._characters, more)

    def stopped(self, quiet: bool) -> None:
        """On stderr: what an interrupted call leaves, and who does the rest."""
        self.progress.clear()
        if not quiet:
            left = len(self._tasks) - self._outputs.ended
            told = f"{left} of {len(self._tasks)} lines left; the same call does them"
            print(f"{self._outputs.folder}: {told}", file=sys.stderr)

    @property
    def _rtf(self) -> float:
        took = time.perf_counter() - self._started
        return took * self._rate / self._outputs.samples if self._outputs.samples else 0.0

    def sum_up(self, lines: int, quiet: bool) -> None:
        """On stderr, in words."""
        bad, done = self._outputs.bad, len(self._outputs.done)
        for line in bad[:TOLD]:
            print(f"sopro-np: line {line.number}: {line.problem}", file=sys.stderr)
        if len(bad) > TOLD:
            print(f"sopro-np: and {len(bad) - TOLD} more: see {self._outputs.errors_file}", file=sys.stderr)
        if quiet:
            return
        audio, took = self._outputs.samples / self._rate, time.perf_counter() - self._started
        rtf = f", RTF {self._rtf:.2f}" if audio else ""
        new = f"{clock(audio)} of speech in {clock(took)}{rtf}" if audio else "nothing new was spoken"
        here = f"{done} of {lines} lines done; {new}"
        doubtful = sum(bool(record["check"]) for record in self._outputs.done.values())
        checked = f"; {doubtful} to be listened to (`check` in the manifest)" if doubtful else ""
        print(f"{self._outputs.folder}: {here}{checked}", file=sys.stderr)
