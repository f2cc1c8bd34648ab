"""Long texts: whenever they were ended, they go on behind the last sentence, and become what `synthesize` gives."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import ARCHS, on_kernels
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sopro_np.bulk.cluster import Collected
from sopro_np.bulk.local import speak
from sopro_np.bulk.outputs import AUDIO, LONG, PARTS, Outputs, Target
from sopro_np.bulk.parts import Parts
from sopro_np.bulk.plan import Task
from sopro_np.encode import FORMATS
from sopro_np.engine import Sopro
from sopro_np.errors import BulkError
from sopro_np.longform import Heard
from sopro_np.speech import Sentence
from sopro_np.wav import pcm16, write_wav

TEXT = (
    "Hello there, all of you, wherever you are today. I have 3 cats and 12 dogs at home.\n\n"
    "It is late [pause 0.4] and then we go home. Bye now, my friend. [pause 1]"
)
OPTIONS: dict[str, Any] = {"max_frames": 6}


def finish(tts: Sopro, after: Heard | None, keep: bool) -> tuple[np.ndarray, Any, list[tuple[Heard, int]]]:
    """TEXT -> samples, job, and after which samples which state could be gone on from."""
    batch, parts, states = tts.batch(1), [np.zeros(0, np.float32)], []
    job = batch.add(TEXT, tiny.voice("v1"), keep=keep, after=after, seed=4, **OPTIONS)
    while len(batch):
        parts += [wav for _, wav in batch.step()]
        if (heard := job.heard) is not None and (not states or len(heard.sentences) > len(states[-1][0].sentences)):
            states.append((heard, sum(map(len, parts))))
    return np.concatenate(parts), job, states


@on_kernels
def test_what_follows_is_the_rest() -> None:
    tts = tiny.model("v1")
    whole, job, states = finish(tts, None, True)
    assert len(states) >= 3 and job.heard is None
    for heard, samples in states:
        assert heard.samples == samples
        for keep in (True, False):
            rest, again, _ = finish(tts, heard, keep)
            assert rest.tobytes() == whole[samples:].tobytes()
            assert again.samples == len(whole)
            assert again.speech.sentences == job.speech.sentences
            assert (again.speech.frames, again.speech.finish_reason, again.speech.check) == (
                job.speech.frames, job.speech.finish_reason, job.speech.check,
            )  # fmt: skip
            assert len(again.speech.wav) == (len(rest) if keep else 0)


@on_kernels
def test_behind_the_last_sentence_only_the_pause_is_left() -> None:
    tts = tiny.model("v1")
    whole, job, _ = finish(tts, None, True)
    last = job.speech.sentences[-1]
    said = round(last.end * tts.sample_rate)
    everything = Heard(job.speech.sentences, said, job.speech.frames, 1.0)
    rest, again, _ = finish(tts, everything, True)
    assert len(rest) == len(whole) - said > 0 and not rest.any() and again.speech.sentences == job.speech.sentences


class Killed(Exception):
    """What ends a process in these tests."""


def outputs(folder: Path) -> Outputs:
    return Outputs(folder, FORMATS["wav"], tiny.model("v1").sample_rate, None)


def tasks(text: str) -> list[Task]:
    codes = tiny.voice("v1").codes
    return [Task(1, "long", text, 4, None, codes, "k" * 64), Task(2, "short", "No.", 5, None, codes, "l" * 64)]


def expected(text: str, seed: int, path: Path) -> bytes:
    tts = tiny.model("v1")
    write_wav(path, tts.synthesize(text, tiny.voice("v1"), seed=seed, **OPTIONS), tts.sample_rate)
    return path.read_bytes()


@on_kernels
@given(data=st.data())
@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_ended_anywhere_a_long_text_becomes_what_it_is(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Ended at any write or mark, files torn anywhere behind what was flushed: the same bytes in the end."""
    folder = tmp_path_factory.mktemp("long")
    text = " ".join(f"This is sentence number {n}, of very many." for n in range(LONG // 35))
    assert len(text) >= LONG
    begun = 0
    for _ in range(3):
        left = data.draw(st.integers(1, 15), "writes and marks until it is ended")

        class Ending(Target):
            def _count(self) -> None:
                nonlocal left
                left -= 1
                if not left:
                    raise Killed

            def write(self, wav: bytes) -> None:
                self._count()
                super().write(wav)

            def mark(self, heard: Heard) -> bool:
                self._count()
                return super().mark(heard)

        with outputs(folder) as out:

            def target(task: Task, out: Outputs = out, kind: type[Target] = Ending) -> Target:
                usual = out.open(task)
                return kind(task, out, usual._parts)

            with pytest.raises(Killed):
                speak(tiny.model("v1"), tasks(text)[:1], OPTIONS, 2, target)
        sound, journal = ((folder / PARTS / f"long-{'k' * 16}{ending}") for ending in (".s16", ".sentences"))
        lines = journal.read_bytes().splitlines(keepends=True)
        assert len(lines) >= begun, "what was marked stays"
        begun = len(lines)
        if lines and data.draw(st.booleans(), "the last mark is torn"):
            torn = data.draw(st.integers(0, len(lines[-1]) - 1), "bytes of it")
            journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:torn])
            begun -= 1
        if data.draw(st.booleans(), "something lies behind the samples"):
            with sound.open("ab") as file:
                file.write(b"rubbish")
    with outputs(folder) as out:
        speak(tiny.model("v1"), tasks(text), OPTIONS, 2, out.open)
        spoken = out.samples
        out.finish(["long", "short"])
    assert (folder / AUDIO / "long.wav").read_bytes() == expected(text, 4, folder / "x.wav")
    assert (folder / AUDIO / "short.wav").read_bytes() == expected("No.", 5, folder / "x.wav")
    everything = sum((folder / AUDIO / f"{name}.wav").stat().st_size - 44 for name in ("long", "short")) // 2
    assert spoken < everything if begun else spoken == everything, "what was marked is not spoken again"
    assert not (folder / PARTS).exists()


@given(st.data())
def test_an_edited_journal_counts_up_to_there(data: st.DataObject) -> None:
    """A line that is not what was written, or one before it that is gone: all from there on is spoken again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        folder = Path(_scratch())
        parts, states = Parts(folder / PARTS / "x"), [Heard((), 0, 0, 0.1, ())]
        for number in range(4):
            parts.write(bytes(200))
            sentence = Sentence(f"é{number}", (number, number + 1), 0.1, 0.3, number, 1, "stop", None)
            states.append(Heard((*states[-1].sentences, sentence), 100 * (number + 1), number, 0.7, ()))
            parts.mark(states[-1])
        parts.close()
        journal = folder / PARTS / "x.sentences"
        lines = journal.read_bytes().splitlines(keepends=True)
        which = data.draw(st.integers(0, 3), "line")
        edited = data.draw(
            st.sampled_from([b"", b"{}\n", lines[which][65:]])
            | st.sampled_from(list(re.finditer(rb"[0-9]+(?:\.[0-9]+)?", lines[which]))).flatmap(
                lambda number: st.sampled_from([b'"x"', b"-5", b"null", b"1.25"]).map(
                    lambda other: lines[which][: number.start()] + other + lines[which][number.end() :]
                )
            )
        )
        journal.write_bytes(b"".join([*lines[:which], edited, *lines[which + 1 :]]))
        again = Parts(folder / PARTS / "x")
        assert again.heard == (states[which] if which else None)
        again.close()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=6), st.data())
def test_parts_say_no_more_than_is_there(sizes: list[int], data: st.DataObject) -> None:
    """Either file cut anywhere, as by a lost disk cache: what is read is a prefix that was marked, and it goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        folder = Path(_scratch())
        parts, heard, states = Parts(folder / PARTS / "x"), None, []
        for number, size in enumerate(sizes):
            parts.write(np.full(size, number, "<i2").tobytes())
            sentence = Sentence(f"é{number}", (number, number + 1), 0.1 * number, 1 / 3, number, 1, "stop", None)
            before = heard or Heard((), 0, 0, 0.1, ())
            sentences, check = (*before.sentences, sentence), (*before.check, *["odd"] * (number % 2))
            heard = Heard(sentences, before.samples + size, number, 2 / 3, check)
            parts.mark(heard)
            states.append(heard)
        parts.close()
        for ending in (".s16", ".sentences"):
            path = folder / PARTS / f"x{ending}"
            raw = path.read_bytes()
            path.write_bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])
        again = Parts(folder / PARTS / "x")
        assert again.heard is None or again.heard in states
        samples = again.heard.samples if again.heard else 0
        again.write(b"\x07\x00")
        found = np.concatenate([np.zeros(0, "<i2"), *again.pieces()])
        whole = np.repeat(np.arange(len(sizes)), sizes)
        assert np.array_equal(found[:samples], whole[:samples]) and found[samples:].tolist() == [7]
        again.remove()
        assert not list((folder / PARTS).iterdir())


_folders = itertools.count()


def _scratch() -> str:
    path = tiny.checkpoint("v1").parent / f"parts-{next(_folders)}"
    path.mkdir()
    return str(path)


def test_parts_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BulkError, match="cannot be written"):
        Parts(tmp_path / "file" / "x")
    (tmp_path / PARTS / "x.s16").mkdir(parents=True)
    with pytest.raises(BulkError, match="cannot be written"):
        Parts(tmp_path / PARTS / "x")


@on_kernels
@pytest.mark.parametrize("arch", ARCHS)
def test_slices_of_a_worker_are_the_whole(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sopro_np.bulk.cluster.SLICE", 2)
    tts = tiny.model(arch)
    task = Task(1, "x", TEXT, 4, None, tiny.voice(arch).codes, "")
    data, after, answers = b"", None, 0
    while True:
        sink = Collected(after)
        speak(tts, [task], OPTIONS, 1, lambda _, sink=sink: sink)  # type: ignore[misc]
        answer = sink.answer()
        data, after, answers = data + answer.data, answer.heard, answers + 1
        if answer.said is not None:
            break
    assert data == pcm16(tts.synthesize(TEXT, tiny.voice(arch), seed=4, **OPTIONS)) and answers >= 2
    assert answer.said.samples == len(data) // 2
