"""What goes wrong in a batch is one job's end; all others say what they say alone, and nobody waits for ever."""

from __future__ import annotations

import gc
import json
import linecache
import os
import sys
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import ARCHS, on_kernels
from tiny import inside

from sopro_np.engine import Sopro, open_model
from sopro_np.errors import ModelError, SoproError, UsageError
from sopro_np.job import SentenceJob
from sopro_np.mimi.codec import TRANSFORMER_FRAMES
from sopro_np.session import Session

TEXT = "Hello there."
OPTIONS: dict[str, Any] = {
    "max_frames": 12, "chunk_frames": 4, "lookahead": 0, "min_gen_frames": 10**6, "stop_threshold": 2.0,
}  # fmt: skip
DTYPES = {"F32": np.float32, "F16": np.float16}


def speaker(arch: str, recipe: str = "int8", threads: int = 1) -> Sopro:
    return open_model(tiny.model_file(arch, recipe), threads, "native")


def finish(batch: Any) -> None:
    while len(batch):
        batch.step()


def damaged(source: Path, target: Path, name: str, row: int, value: float) -> Path:
    """A model file with one row of one tensor overwritten."""
    raw = bytearray(source.read_bytes())
    size = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + size])[name]
    a, b = entry["data_offsets"]
    dtype = np.dtype(DTYPES[entry["dtype"]])
    array = np.frombuffer(raw, dtype, (b - a) // dtype.itemsize, 8 + size + a).reshape(entry["shape"])
    array[row] = value
    target.write_bytes(raw)
    return target


# A row that one code of a codebook alone reads: (recipe, tensor, codebook, row of its code 0, what it becomes).
DAMAGE = {
    "AR": ("int8", "sopro.codes.weight_scale", 0, 0, 3e38),
    "NAR int8": ("int8", "sopro.codes.weight_scale", 1, 64, 3e38),
    "NAR fp32": ("fp32", "sopro.codes.weight", 1, 64, np.nan),
    "codec int8": ("int8", "mimi.quantizer.acoustic.codebook.2", 3, 0, np.nan),
    "codec fp32": ("fp32", "mimi.quantizer.acoustic.codebook.2", 3, 0, np.nan),
}


@on_kernels
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("where", DAMAGE)
def test_broken_numbers_end_those_who_read_them(where: str, arch: str, threads: int, tmp_path: Path) -> None:
    """Who fails alone fails in a batch, and nobody else: those say every bit of what they say alone."""
    recipe, name, codebook, first, value = DAMAGE[where]
    voice, good = tiny.voice(arch, recipe), speaker(arch, recipe)
    said = Counter[int]()
    for seed in range(5):
        said.update(set(good.codes(TEXT, voice, seed=seed, **OPTIONS)[:, codebook].tolist()))
    rarest = min(said, key=lambda code: (said[code], code))
    path = damaged(tiny.model_file(arch, recipe), tmp_path / "m.safetensors", name, first + rarest, value)
    tts = open_model(path, threads, "native")

    def alone(seed: int) -> bytes | None:
        try:
            return tts.synthesize(TEXT, voice, seed=seed, **OPTIONS).tobytes()
        except SoproError:
            return None

    expected = [alone(seed) for seed in range(5)]
    assert 0 < expected.count(None) < 5
    batch = tts.batch()
    jobs = [batch.add(TEXT, voice, seed=seed, **OPTIONS) for seed in range(5)]
    finish(batch)
    assert [job.speech and job.speech.wav.tobytes() for job in jobs] == expected
    assert all((job.error is None) != (wav is None) for job, wav in zip(jobs, expected, strict=True))


@on_kernels
def test_no_memory_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tts, voice = speaker("v1.5"), tiny.voice("v1.5")
    alone = tts.synthesize(TEXT, voice, seed=1, **OPTIONS)
    make = type(tts.mimi).new_state

    def new_state(self: Any, frames: int) -> Any:
        if frames == 8:
            raise MemoryError("no room for a state")
        return make(self, frames)

    monkeypatch.setattr(type(tts.mimi), "new_state", new_state)
    batch = tts.batch()
    jobs = [batch.add(TEXT, voice, seed=1, **{**OPTIONS, "max_frames": n}) for n in (12, 7, 12)]
    finish(batch)
    assert isinstance(jobs[1].error, MemoryError) and jobs[1].speech is None
    assert all(jobs[i].speech.wav.tobytes() == alone.tobytes() for i in (0, 2))


@on_kernels
def test_a_failed_job_keeps_nothing_of_the_others() -> None:
    tts, voice = speaker("v1.5"), tiny.voice("v1.5")
    batch = tts.batch()
    jobs = [batch.add(TEXT, voice, seed=i, **OPTIONS) for i in range(3)]
    sessions = [weakref.ref(inside(job).session) for job in jobs]
    for _ in range(3):
        batch.step()
    inside(jobs[1]).session._rows[:] = np.nan
    finish(batch)
    assert jobs[1].error is not None
    gc.collect()
    assert [session() for session in sessions] == [None, None, None]


# ---------------------------------------------------------------- interrupts


@on_kernels
@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupt_ends_the_jobs_of_the_step(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes on from a state that is half advanced; the batch itself can be used again."""
    tts, voice = speaker("v1.5"), tiny.voice("v1.5")
    alone = tts.synthesize(TEXT, voice, seed=1, **OPTIONS)
    batch = tts.batch()
    jobs = [batch.add(TEXT, voice, seed=1, **OPTIONS) for _ in range(count)]
    for _ in range(6):
        batch.step()
    with monkeypatch.context() as patch:

        def interrupt(self: Session, *_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(Session, "accept", interrupt)
        with pytest.raises(KeyboardInterrupt):
            batch.step()
    assert len(batch) == 0 and all("interrupted" in str(job.error) and job.done for job in jobs)
    job = batch.add(TEXT, voice, seed=1, **OPTIONS)
    finish(batch)
    assert job.speech.wav.tobytes() == alone.tobytes()


@on_kernels
def test_an_interrupt_at_any_line_leaves_no_lock() -> None:
    """But for those that unlock: nothing is called there, and Python looks for signals only around calls."""
    tts, voice = speaker("v1"), tiny.voice("v1")
    lines = 0

    def interrupted_at(line: int) -> bool:
        batch, seen = tts.batch(), 0
        batch.add(TEXT, voice, seed=1, **OPTIONS)

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal seen
            if not frame.f_code.co_filename.endswith("batch.py") or frame.f_code.co_name not in ("step", "_step"):
                return None
            line_of_it = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and not any(
                atomic in line_of_it for atomic in ("self._stepper is me", "with self._lock")
            ):
                seen += 1
                if seen == line:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            batch.step()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        batch.step()  # UsageError: another thread is stepping this batch
        return seen >= line

    while interrupted_at(lines + 1):
        lines += 1
    assert lines > 10


# ---------------------------------------------------------------- other threads, other batches, other processes


@on_kernels
def test_jobs_of_another_batch_and_what_is_none() -> None:
    tts, voice = speaker("v1"), tiny.voice("v1")
    mine, other = tts.batch(), tts.batch()
    job = other.add(TEXT, voice, seed=1, **OPTIONS)
    with pytest.raises(UsageError, match="not in this batch"):
        mine.remove(job)
    with pytest.raises(UsageError, match="is no job"):
        mine.remove("job")
    finish(other)
    assert job.speech.wav.tobytes() == tts.synthesize(TEXT, voice, seed=1, **OPTIONS).tobytes()
    mine.remove(job)  # done: left as it is
    assert job.speech is not None


@on_kernels
@pytest.mark.parametrize("cancels", [False, True])
def test_leaving_while_the_last_chunk_is_made(cancels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another thread. Removed: no speech and no chunk any more; cancelled: the step is finished first."""
    tts, voice = speaker("v1.5"), tiny.voice("v1.5")
    batch = tts.batch()
    job = batch.add(TEXT, voice, seed=1, **OPTIONS)
    finished = SentenceJob.finish

    def finish_late(self: SentenceJob) -> None:
        if self.audio is not None and self.audio.last and not self.audio.due:
            thread = threading.Thread(target=job.cancel if cancels else lambda: batch.remove(job))
            thread.start()
            thread.join()
        finished(self)

    monkeypatch.setattr(SentenceJob, "finish", finish_late)
    heard = [np.zeros(0, np.float32)]
    while len(batch):
        heard += [wav for _, wav in batch.step()]
    assert job.done and job.error is None
    if cancels:
        whole = tts.synthesize(TEXT, voice, seed=1, **OPTIONS).tobytes()
        assert job.speech.wav.tobytes() == np.concatenate(heard).tobytes() == whole
    else:
        assert job.speech is None


@on_kernels
def test_a_chunk_belongs_to_whoever_gets_it() -> None:
    tts, voice = speaker("v1"), tiny.voice("v1")
    batch = tts.batch()
    job = batch.add(TEXT, voice, seed=1, **OPTIONS)
    while len(batch):
        for _, wav in batch.step():
            wav *= 0
    assert job.speech.wav.tobytes() == tts.synthesize(TEXT, voice, seed=1, **OPTIONS).tobytes()


@on_kernels
def test_closed_while_others_are_speaking() -> None:
    tts, voice = speaker("v1.5", threads=2), tiny.voice("v1.5")
    stream = tts.stream(TEXT, voice, seed=1, **OPTIONS)
    next(stream)
    batch = tts.batch()
    jobs = [batch.add(TEXT, voice, seed=1, **OPTIONS) for _ in range(3)]
    batch.step()
    tts.close()
    assert len(batch) == 0 and all(job.done for job in jobs)  # also where nobody steps any more
    with pytest.raises(ModelError, match="was closed"):
        list(stream)
    assert batch.step() == []
    assert all(isinstance(job.error, ModelError) and "was closed" in str(job.error) for job in jobs)
    for use in (tts.batch, tts.voices, tts.__enter__):
        with pytest.raises(ModelError, match="was closed"):
            use()


@on_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_speaks_too() -> None:
    """It has none of the threads that its parent had."""
    tts, voice = speaker("v1.5", threads=2), tiny.voice("v1.5")
    expected = [wav.tobytes() for wav in tts.synthesize_many([TEXT] * 2, voice, seed=1, **OPTIONS)]
    child = os.fork()
    if child == 0:
        timer = threading.Timer(60, os._exit, [2])
        timer.daemon = True
        timer.start()
        said = [wav.tobytes() for wav in tts.synthesize_many([TEXT] * 2, voice, seed=1, **OPTIONS)]
        os._exit(0 if said == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------- nobody waits for ever


@on_kernels
@pytest.mark.parametrize("threads", [1, 2])
def test_new_short_texts_do_not_starve_a_long_one(threads: int) -> None:
    """Whoever joins stands behind those who wait: between two chunks nobody waits for more than one of each other."""
    tts, voice = speaker("v1.5", threads=threads), tiny.voice("v1.5")
    size, wait = 16, 0
    batch = tts.batch(size)
    long = batch.add(TEXT, voice, seed=0, **{**OPTIONS, "chunk_frames": 16, "max_frames": 150, "guard": False})
    for seed in range(10**6):
        while not long.done and len(batch) < size:
            batch.add(TEXT, voice, seed=seed, **{**OPTIONS, "chunk_frames": 16, "max_frames": 5})
        heard = [job for job, _ in batch.step()]
        wait = 0 if long in heard else wait + 1
        assert wait <= 16 + size  # 16 frames take as many steps to be said
        if long.done:
            break
    assert long.speech.frames >= 150


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("arch", ARCHS)
def test_whole_numbers_of_numpy(arch: str, integer: Any) -> None:
    """They count as Python's own, and do not overflow."""
    tts, voice = tiny.model(arch), tiny.voice(arch)
    most, ahead = integer(100), integer(125)
    job = tts.batch(integer(2)).add(TEXT, voice, priority=integer(1), max_frames=most, lookahead=ahead)
    assert job.priority == 1 and inside(job).session is not None
    assert len(tts.synthesize(TEXT, voice, seed=integer(1), **{**OPTIONS, "lookahead": ahead, "chunk_frames": most}))
    for name in ("top_k", "max_frames", "chunk_frames", "lookahead"):
        with pytest.raises(UsageError, match=f"{name} = .* is too large"):
            tts.synthesize(TEXT, voice, **{name: 2**63})


@on_kernels
@pytest.mark.parametrize("threads", [1, 2])
def test_long_chunks_go_through_the_codec_in_its_own_pieces(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for everything at once gets it, in memory that does not grow with it; others beside it do, too."""
    tts, voice = speaker("v1.5", threads=threads), tiny.voice("v1.5")
    long, short = {**OPTIONS, "max_frames": 100, "chunk_frames": 100}, {**OPTIONS, "max_frames": 100}
    expected = tts.synthesize(TEXT, voice, seed=1, **{**OPTIONS, "max_frames": 100, "chunk_frames": 4}).tobytes()
    most = 0
    features = type(tts.mimi).features

    def noted(self: Any, codes: np.ndarray, states: Any) -> np.ndarray:
        nonlocal most
        most = max(most, len(codes) // len(states))
        return features(self, codes, states)

    monkeypatch.setattr(type(tts.mimi), "features", noted)
    batch = tts.batch()
    jobs = [batch.add(TEXT, voice, seed=1, **options) for options in (long, short, long)]
    finish(batch)
    assert [job.speech.wav.tobytes() for job in jobs] == [expected] * 3
    assert most == TRANSFORMER_FRAMES
