"""Several utterances at once: whatever joins, leaves, steps or is cancelled, each says what it says alone."""

from __future__ import annotations

import functools
import gc
import itertools
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny as models
from conftest import ARCHS, Tiny, by_each, on_kernels
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tiny import inside

import sopro_np
from sopro_np import ops
from sopro_np.batch import MOST_HELD
from sopro_np.engine import TOGETHER, Sopro, open_model
from sopro_np.errors import Full, ModelError, UsageError, VoiceError
from sopro_np.job import SentenceJob
from sopro_np.longform import Job
from sopro_np.ops.native.commands import profiled
from sopro_np.ops.native.launcher import LAUNCHER
from sopro_np.voice import Voice

MODELS = pytest.mark.parametrize(("arch", "recipe"), list(itertools.product(ARCHS, ("fp32", "int8"))))
TEXTS = ("Hello there.", "A longer text, which goes on for a while before it is over.", "No.")
# Under these the first of the three ends early, at a step that depends on what was said.
EARLY = {
    "v1": {"seed": 1, "stop_threshold": 0.3, "stop_patience": 1, "min_gen_frames": 3},
    "v1.5": {"seed": 6, "temperature": 2.0, "top_k": 0, "top_p": None},
}
FOREVER = {"min_gen_frames": 10**6, "stop_threshold": 2.0}  # max_frames end it
SHORT = (1, 3)  # frames of reference: less than the AR looks back, so that the first steps are taken alone


@functools.cache
def loaded(arch: str, recipe: str, name: str = "native", threads: int = 1) -> Sopro:
    return open_model(models.model_file(arch, recipe, seed=5), threads, name)


@functools.cache
def voices(arch: str, recipe: str) -> tuple[Voice, ...]:
    """The usual one, and the SHORT ones. A voice belongs to a checkpoint, not to an implementation."""
    tts = models.model(arch, recipe, seed=5)
    shape = (max(SHORT), tts.model.config.codebooks)
    codes = np.random.default_rng(3).integers(0, tts.model.config.code_values, shape)
    return models.voice(arch, recipe, seed=5), *(tts.voice_from_codes(codes[:frames]) for frames in SHORT)


@functools.cache
def alone(arch: str, recipe: str, name: str, text: str, who: int, options: tuple[tuple[str, Any], ...]) -> Any:
    """What an utterance is when nothing else is said (on one thread, at the default chunks)."""
    return loaded(arch, recipe, name).speak(text, voices(arch, recipe)[who], **dict(options))


def finish(batch: Any, *jobs: Job) -> list[np.ndarray]:
    """Step until all is said -> the audio of each job."""
    parts: dict[Job, list[np.ndarray]] = {job: [np.zeros(0, np.float32)] for job in jobs}
    while len(batch):
        for job, wav in batch.step():
            parts.setdefault(job, []).append(wav)
    return [np.concatenate(parts[job]) for job in jobs]


# ---------------------------------------------------------------- any interleaving


class Interleaving(RuleBasedStateMachine):
    """Jobs of any kind are added, stepped, removed and cancelled in any order."""

    arch, recipe, implementation, threads, size = "v1", "fp32", "native", 1, 5

    def __init__(self) -> None:
        super().__init__()
        self.tts = loaded(self.arch, self.recipe, self.implementation, self.threads)
        self.batch = self.tts.batch(self.size)
        self.running: dict[Job, tuple[Any, list[np.ndarray]]] = {}
        self.finished = 0

    @rule(
        text=st.sampled_from(TEXTS), who=st.integers(0, len(SHORT)), seed=st.integers(0, 3), frames=st.integers(1, 14),
        lookahead=st.sampled_from([None, 0, 5]), chunk=st.sampled_from([1, 3, 16]), priority=st.integers(-1, 1),
        ends=st.booleans(),
    )  # fmt: skip
    def add(
        self, text: str, who: int, seed: int, frames: int, lookahead: int | None, chunk: int, priority: int, ends: bool
    ) -> None:
        options: dict[str, Any] = {"seed": seed, "max_frames": frames, "lookahead": lookahead}
        options |= {} if ends else FOREVER
        who_speaks = voices(self.arch, self.recipe)[who]
        if len(self.batch) == self.size:
            with pytest.raises(sopro_np.Full):
                self.batch.add(text, who_speaks, chunk_frames=chunk, priority=priority, **options)
            return
        job = self.batch.add(text, who_speaks, chunk_frames=chunk, priority=priority, **options)
        expected = alone(self.arch, self.recipe, self.implementation, text, who, tuple(options.items()))
        self.running[job] = expected, []

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            for job, wav in self.batch.step():
                assert len(wav)
                self.running[job][1].append(wav)  # KeyError: of one that has left
            for job in [job for job in self.running if job.done]:
                self.compare(job)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cancels=st.booleans())
    def remove(self, data: st.DataObject, cancels: bool) -> None:
        job = data.draw(st.sampled_from(list(self.running)))
        expected, parts = self.running.pop(job)
        if cancels:
            job.cancel()
            self.step(1)
        else:
            self.batch.remove(job)
        assert job.done and job.speech is None and job.error is None
        self.same(np.concatenate([np.zeros(0, np.float32), *parts]), expected.wav)  # what was heard was right

    @invariant()
    def all_are_counted(self) -> None:
        assert len(self.batch) == len(self.running)

    def compare(self, job: Job) -> None:
        expected, parts = self.running.pop(job)
        assert job.error is None and job.speech is not None
        assert (job.speech.finish_reason, job.speech.seed) == (expected.finish_reason, expected.seed)
        assert np.array_equal(job.speech.codes, expected.codes)
        wav = np.concatenate([np.zeros(0, np.float32), *parts])
        assert wav.tobytes() == job.speech.wav.tobytes()
        assert len(wav) == len(expected.wav)
        self.same(wav, expected.wav)
        self.finished += 1

    def same(self, wav: np.ndarray, expected: np.ndarray) -> None:
        """On kernels every bit; NumPy's products depend on their number of rows."""
        if self.implementation == "native":
            assert wav.tobytes() == expected[: len(wav)].tobytes()

    def teardown(self) -> None:
        while len(self.batch):
            self.step(1)
        assert not self.running


@MODELS
@pytest.mark.parametrize("threads", [1, 2])
def test_any_interleaving(implementation: str, arch: str, recipe: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    if implementation == "numpy" and threads > 1:
        pytest.skip("threads of NumPy's products are BLAS's business")
    monkeypatch.setattr("sopro_np.ops.native.arguments.PIECE", 300)
    what = {"arch": arch, "recipe": recipe, "implementation": implementation, "threads": threads}
    machine = type("Machine", (Interleaving,), what)
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=25))


@on_kernels
@pytest.mark.parametrize("threads", [1, 2])
@MODELS
def test_bit_for_bit_as_one_by_one(arch: str, recipe: str, threads: int):
    tts, of = loaded(arch, recipe, "native", threads), voices(arch, recipe)
    seed = 20 if (arch, recipe) == ("v1.5", "fp32") else EARLY[arch]["seed"]
    options = {**EARLY[arch], "seed": seed, "max_frames": 40, "guard": False}
    alone = [tts.synthesize(text, of[0], **options) for text in TEXTS]
    assert len(alone[0]) < len(alone[2]), "nobody ended early: choose other options"
    for count in (1, 2, 3):
        together = tts.synthesize_many(TEXTS[:count], of[0], **options)
        assert [wav.tobytes() for wav in together] == [wav.tobytes() for wav in alone[:count]]
    apart = [tts.synthesize(text, voice, **options) for text, voice in zip(TEXTS, of, strict=True)]
    together = tts.synthesize_many(iter(TEXTS), of, **options)
    assert [wav.tobytes() for wav in together] == [wav.tobytes() for wav in apart]


@on_kernels
@pytest.mark.parametrize("arch", ARCHS)
def test_jobs_that_end_in_the_same_step(arch: str):
    tts, voice = loaded(arch, "int8"), voices(arch, "int8")[0]
    batch = tts.batch(3)
    jobs = [batch.add(text, voice, seed=1, max_frames=7, chunk_frames=3, **FOREVER) for text in TEXTS]
    spoken = finish(batch, *jobs)
    for text, job, wav in zip(TEXTS, jobs, spoken, strict=True):
        assert wav.tobytes() == tts.synthesize(text, voice, seed=1, max_frames=7, **FOREVER).tobytes()
        assert job.speech.finish_reason == "length"


# ---------------------------------------------------------------- leaving


def work(arch: str, recipe: str = "int8", **options: Any) -> dict[str, Any]:
    return {"seed": 1, "max_frames": 70, "chunk_frames": 4, **FOREVER, **options}


MOMENTS: dict[str, Callable[[Job], bool]] = {
    "in the AR": lambda job: inside(job).session.finish_reason is None and len(inside(job).session._codes) > 5,
    "while NAR waits": lambda job: inside(job).session.finish_reason is not None and inside(job).session._refined == 0,
    "inside NAR": lambda job: inside(job).session._refining is not None,
    "inside the codec": lambda job: not job.silent and not inside(job).session.due,
}


@on_kernels
@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_no_kernel_runs_for_who_has_left(moment: str, cancels: bool):
    """At every place where a job can be; beside it another one goes on, with as many calls as by itself."""
    tts, voice = loaded("v1.5", "int8"), voices("v1.5", "int8")[0]

    def calls_of(batch: Any) -> int:
        with profiled() as calls:
            batch.step()
        return len(calls)

    batch = tts.batch()
    job = batch.add(TEXTS[0], voice, **work("v1.5"))
    while not MOMENTS[moment](job):
        batch.step()
        assert not job.done, "the moment never came"
    job.cancel() if cancels else batch.remove(job)
    assert calls_of(batch) == 0 and len(batch) == 0 and batch.step() == []
    assert job.done and job.speech is None and job.error is None

    both, single = tts.batch(), tts.batch()
    job = both.add(TEXTS[0], voice, **work("v1.5"))
    while not MOMENTS[moment](job):
        both.step()
    stays, same = (b.add(TEXTS[1], voice, **work("v1.5", max_frames=9)) for b in (both, single))
    job.cancel() if cancels else both.remove(job)
    while not same.done:
        assert calls_of(both) == calls_of(single)
    assert stays.done and stays.speech.wav.tobytes() == same.speech.wav.tobytes()


@on_kernels
@pytest.mark.parametrize("moment", MOMENTS)
def test_memory_returns(moment: str):
    """What was lent by the arena, and the states: after a removal as after the end."""
    tts, voice = open_model(models.model_file("v1.5", "int8", seed=5), 1, "native"), voices("v1.5", "int8")[0]

    own = work("v1.5", normalise=False, guard=False)  # free lists of `re`, and warnings, would be counted

    def used() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] + LAUNCHER.arena.lent

    for _ in range(3):  # whatever is captured once is captured now
        tts.speak(TEXTS[0], voice, **own)
    tracemalloc.start()
    try:
        tts.speak(TEXTS[0], voice, **own)
        before, batch = used(), tts.batch()
        job = batch.add(TEXTS[0], voice, **own)
        while not MOMENTS[moment](job):
            batch.step()
        assert used() > before + 10_000
        batch.remove(job)
        assert abs(used() - before) < 5_000
        del job, batch
        speech = tts.speak(TEXTS[0], voice, **own)
        size = speech.wav.nbytes + speech.codes.nbytes
        assert before + size <= used() < before + size + 5_000
    finally:
        tracemalloc.stop()


def test_whoever_stops_listening_leaves(tiny: Callable[..., Tiny]):
    m = tiny("v1.5")
    batches: list[Any] = []
    stream = m.tts.stream(TEXTS[0], m.voice, **work("v1.5", lookahead=0))
    next(stream)
    batches.append(stream.gi_frame.f_locals["batch"])
    assert len(batches[0]) == 1
    stream.close()
    assert len(batches[0]) == 0


def test_a_cancelled_stream_from_another_thread(tiny: Callable[..., Tiny]):
    """Before the next step; `add` and `remove` from other threads while one steps."""
    m = tiny("v1")
    batch = m.tts.batch(4)
    jobs = [batch.add(TEXTS[0], m.voice, seed=i, max_frames=30, **FOREVER) for i in range(2)]
    batch.step()
    thread = threading.Thread(target=jobs[0].cancel)
    thread.start(), thread.join()
    batch.step()
    assert len(batch) == 1 and jobs[0].done
    added: list[Job] = []
    thread = threading.Thread(target=lambda: added.append(batch.add(TEXTS[2], m.voice, seed=2, max_frames=5)))
    thread.start()
    finish(batch)
    thread.join()
    finish(batch)
    assert added[0].speech.wav.tobytes() == m.tts.synthesize(TEXTS[2], m.voice, seed=2, max_frames=5).tobytes()


# ---------------------------------------------------------------- turns


def test_priority_goes_first_until_it_has_audio(tiny: Callable[..., Tiny]):
    m = tiny("v1")
    batch = m.tts.batch()
    low = batch.add(TEXTS[0], m.voice, seed=1, max_frames=60, chunk_frames=4, lookahead=0, **FOREVER)
    for _ in range(10):
        batch.step()
    before = len(inside(low).session._codes)
    high = batch.add(TEXTS[0], m.voice, seed=1, max_frames=60, chunk_frames=4, priority=3, lookahead=0, **FOREVER)
    steps = 0
    while high.silent:
        assert not [job for job, _ in batch.step() if job is low]
        steps += 1
    assert len(inside(low).session._codes) == before and steps <= 6
    batch.step()
    assert len(inside(low).session._codes) == before + 1


def test_a_silent_job_of_high_priority_does_not_starve_others(tiny: Callable[..., Tiny]):
    m = tiny("v1")
    batch = m.tts.batch()
    low = batch.add(TEXTS[0], m.voice, seed=1, max_frames=20, chunk_frames=4, **FOREVER)
    batch.add(TEXTS[0], m.voice, seed=1, max_frames=400, chunk_frames=400, priority=1, **FOREVER)
    steps = 0
    while len(inside(low).session._codes) < 2:
        batch.step()
        steps += 1
    assert MOST_HELD < steps <= 2 * MOST_HELD + 3


def test_equals_get_turns_in_order(tiny: Callable[..., Tiny]):
    """Nobody waits for more than one chunk of each of the others."""
    m = tiny("v1.5")
    batch = m.tts.batch()
    jobs = [batch.add(TEXTS[0], m.voice, seed=i, max_frames=40, chunk_frames=2, **FOREVER) for i in range(3)]
    order, chunk = [], 2 * m.tts.mimi.config.hop
    while len(batch):
        order += batch.step()
    samples = dict.fromkeys(jobs, 0)
    for job, wav in order:
        samples[job] += len(wav)
        counts = [-(-n // chunk) for n in samples.values()]  # the end of a chunk is held back
        assert max(counts) - min(counts) <= 1
    assert len(order) > 30


# ---------------------------------------------------------------- errors


def broken_voice(voice: Voice) -> Voice:
    """The same, with a vector that is no number."""
    return Voice(voice.codes, voice.speaker * np.nan, voice.reference_kv, voice.fingerprints)


@by_each
@pytest.mark.parametrize("arch", ARCHS)
def test_a_broken_job_fails_alone(tiny: Callable[..., Tiny], arch: str):
    """From the start of its own conditioning: the others say what they say alone."""
    m = tiny(arch)
    batch = m.tts.batch()
    good = [batch.add(TEXTS[0], m.voice, seed=1, max_frames=9)]
    bad = batch.add(TEXTS[1], broken_voice(m.voice), seed=1, max_frames=9)
    good.append(batch.add(TEXTS[2], m.voice, seed=2, max_frames=9))
    spoken = finish(batch, *good)
    assert isinstance(bad.error, sopro_np.SoproError) and "NaN" in str(bad.error) and bad.done and not bad.speech
    for text, seed, wav in ((TEXTS[0], 1, spoken[0]), (TEXTS[2], 2, spoken[1])):
        assert len(wav) == len(m.tts.synthesize(text, m.voice, seed=seed, max_frames=9))


@on_kernels
@pytest.mark.parametrize("arch", ARCHS)
def test_a_job_that_breaks_in_the_common_step_fails_alone(arch: str):
    """In the middle: what the step has half done is undone for the others, to the last bit."""
    tts, voice = loaded(arch, "int8"), voices(arch, "int8")[0]
    batch = tts.batch()
    jobs = [batch.add(text, voice, seed=1, max_frames=20, chunk_frames=3, **FOREVER) for text in TEXTS]
    for _ in range(8):
        batch.step()
    inside(jobs[1]).session._rows[:] = np.nan  # the conditioning of its next frames
    finish(batch)
    assert "NaN" in str(jobs[1].error)
    for i in (0, 2):
        assert (
            jobs[i].speech.wav.tobytes() == tts.synthesize(TEXTS[i], voice, seed=1, max_frames=20, **FOREVER).tobytes()
        )


def test_broken_weights_are_named(tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch):
    m = tiny("v1")
    monkeypatch.setattr(type(m.tts.model.ar), "logits", lambda self, x, *rest: np.full((len(x), 64), np.nan))
    monkeypatch.setitem(ops.TABLES[m.tts.ops], "replay", ops.TABLES["numpy"]["replay"])
    with pytest.raises(ModelError, match="NaN"):
        m.tts.synthesize_many(TEXTS, m.voice, max_frames=3)


def test_nothing_is_reserved_by_what_is_refused(tiny: Callable[..., Tiny]):
    m, other = tiny("v1"), tiny("v1.5")
    batch = m.tts.batch(1)
    for given, error in (
        (("Hello.", other.voice, {}), VoiceError),
        (("Hello.", "nobody", {}), UsageError),
        (("Hello.", 5, {}), UsageError),
        ((" ", m.voice, {}), UsageError),
        ((None, m.voice, {}), UsageError),
        (("Hello.", m.voice, {"speed": 2}), UsageError),
        (("Hello.", m.voice, {"temperature": -1}), UsageError),
        (("Hello.", m.voice, {"max_frames": 10**6}), UsageError),
        (("Hello.", m.voice, {"priority": "high"}), UsageError),
    ):
        text, voice, options = given
        with pytest.raises(error):
            batch.add(text, voice, **options)
        assert len(batch) == 0 and batch.step() == []
    batch.add("Hello.", m.voice, seed=1, max_frames=3)
    with pytest.raises(Full, match="1 jobs"):
        batch.add("Hello.", m.voice)
    for size in (0, -1, 1.5, "4", True):
        with pytest.raises(UsageError, match="size"):
            m.tts.batch(size)


def test_two_threads_must_not_step_one_batch(tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch):
    m = tiny("v1")
    batch = m.tts.batch()
    job = batch.add("Hello.", m.voice, seed=1, max_frames=3)
    inside, go_on = threading.Event(), threading.Event()
    finish_job = SentenceJob.finish
    monkeypatch.setattr(SentenceJob, "finish", lambda self: (inside.set(), go_on.wait(10)) and finish_job(self))
    thread = threading.Thread(target=lambda: finish(batch))
    thread.start()
    assert inside.wait(10)
    try:
        with pytest.raises(UsageError, match="another thread"):
            batch.step()
    finally:
        go_on.set()
    thread.join()
    assert job.speech is not None


# ---------------------------------------------------------------- sharing


@by_each
@pytest.mark.parametrize("arch", ARCHS)
def test_weights_are_read_once_for_all(tiny: Callable[..., Tiny], arch: str, monkeypatch: pytest.MonkeyPatch):
    """As many products with the AR's head as the longest utterance has steps, of as many rows as still speak."""
    tts, voice = tiny(arch).tts, tiny(arch).voice
    head, rows = tts.model.ar.head.weight, []
    table = ops.TABLES[tts.ops]

    def counting(x, w, *rest, linear=table["linear"], **named):
        if w is head:
            rows.append(len(x))
        return linear(x, w, *rest, **named)

    monkeypatch.setitem(table, "linear", counting)
    monkeypatch.setitem(table, "replay", ops.TABLES["numpy"]["replay"])  # nothing is replayed
    batch = tts.batch()
    for n in (9, 20, 14):
        batch.add(TEXTS[0], voice, max_frames=n, seed=1, **FOREVER)
    finish(batch)
    more = int(arch == "v1.5")  # an end code may come one frame later
    looks_back = more  # without a prefix, so does the first step, and is taken alone
    assert rows == [1, 1, 1] * looks_back + [3] * (9 + more - looks_back) + [2] * 5 + [1] * 6


@on_kernels
def test_texts_of_all_lengths_in_any_order_share_their_captured_step() -> None:
    """The room for a text is part of a captured step; so it is one step for all orders in which these have joined."""
    tts, (voice, *_) = open_model(models.model_file("v1.5", "int8", seed=5), 1, "native"), voices("v1.5", "int8")
    texts, seen = ("No.", "Yes.", "A long text. " * 12), set()
    for order in itertools.permutations(texts):
        batch = tts.batch()
        for text in order:
            batch.add(text, voice, max_frames=6, seed=1, **FOREVER)
        finish(batch)
        seen |= {key for key in tts.runtime._graphs.mine.known if key[1] == "step" and len(key[4]) == len(texts)}
    [step] = seen
    assert len(set(step[4])) == 2  # rooms


def test_long_lists_go_through_one_batch(tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch):
    """As soon as one is done the next one joins."""
    m, most = tiny("v1"), []
    step = type(m.tts.batch()).step

    def noting(batch: Any) -> list[tuple[Job, np.ndarray]]:
        most.append(len(batch))
        return step(batch)

    monkeypatch.setattr(type(m.tts.batch()), "step", noting)
    spoken = m.tts.synthesize_many(TEXTS[:1] * (TOGETHER + 3), m.voice, max_frames=2, seed=1)
    assert max(most) == TOGETHER and len(spoken) == TOGETHER + 3
    assert len({wav.tobytes() for wav in spoken}) == 1


@pytest.mark.parametrize(
    ("texts", "voice", "options", "message"),
    [
        (TEXTS, 2, {}, "3 texts and 2 voices"),
        ([], 1, {}, "0 texts and 1 voices"),
        ("Hello.", None, {}, "not one text"),
        (["Hello.", " "], None, {}, "empty"),
        (["Hello.", 5], None, {}, "must be a str, not int"),
        (["Hello."], "me", {}, "neither a file nor"),
        (["Hello."], ["me"], {}, "neither a file nor"),
        (["Hello."], 5.0, {}, "must be a Voice"),
        (TEXTS, None, {"speed": 2}, "speed"),
    ],
)
def test_wrong_use(tiny: Callable[..., Tiny], texts: Any, voice: Any, options: dict[str, Any], message: str):
    m = tiny("v1")
    given = m.voice if voice is None else [m.voice] * voice if isinstance(voice, int) else voice
    with pytest.raises(UsageError, match=message):
        m.tts.synthesize_many(texts, given, **options)


def test_nothing_to_say(tiny: Callable[..., Tiny]):
    m = tiny("v1")
    assert m.tts.synthesize_many([], m.voice) == m.tts.synthesize_many((), []) == []
