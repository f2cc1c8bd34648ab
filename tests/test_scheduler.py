"""Scheduler: who goes first, who is refused, who is dropped; and whatever happens beside it, a text says the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import numpy as np
import pytest
import tiny as models
from conftest import Tiny, on_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sopro_np.errors import ModelError, NothingToSay, UsageError
from sopro_np.options import Options
from sopro_np.serve.estimate import need, total_bytes
from sopro_np.serve.order import AGEING, RANKS, places, rank, turn
from sopro_np.serve.scheduler import Scheduler
from sopro_np.serve.ticket import Busy, Draining, Expired, Loading, Ticket

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]
TEXT = "Hello there."
SHORT: dict[str, Any] = {"max_frames": 6, "chunk_frames": 2, "guard": False}  # a tiny model never ends by itself

OPTIONS = Options.of(SHORT)

# ---------------------------------------------------------------- order

waits = st.floats(0, 5 * AGEING)
queues = st.lists(st.tuples(st.sampled_from(sorted(RANKS)), waits), max_size=12)


@given(queues, st.integers(0, 16), st.integers(1, 16))
def test_the_next_one_has_the_best_rank_that_has_a_place_and_waits_longest(
    queue: list[tuple[str, float]], running: int, width: int
) -> None:
    chosen = turn(queue, running, width)
    able = [i for i, (priority, waited) in enumerate(queue) if running < places(rank(priority, waited), width)]
    if chosen is None:
        assert not able
        return
    assert chosen in able
    best = min(rank(*queue[i]) for i in able)
    assert rank(*queue[chosen]) == best
    assert queue[chosen][1] == max(queue[i][1] for i in able if rank(*queue[i]) == best)


@given(queues, st.integers(1, 16))
def test_a_free_place_is_not_left_free_for_ever(queue: list[tuple[str, float]], width: int) -> None:
    """All places but those reserved go to anybody; whoever has waited long enough gets any, before all younger ones."""
    assert (turn(queue, 0, width) is None) == (not queue)
    old = [(priority, waited + 2 * AGEING) for priority, waited in queue]
    chosen = turn(old, width - 1, width)
    assert (chosen is None) == (not old)
    assert chosen is None or old[chosen][1] == max(waited for _, waited in old)


@given(st.sampled_from(sorted(RANKS)), st.integers(1, 4), st.integers(1, 8))
def test_nothing_starves_under_a_flood_of_the_first_rank(priority: str, width: int, took: int) -> None:
    """Every second another interactive request for every place; each holds its place for `took` seconds."""
    mine = (priority, 0)
    waiting, ends = [mine], [0] * width
    for now in range(1000):
        waiting += [("interactive", now)] * width
        for place in range(width):
            if ends[place] > now:
                continue
            running = sum(end > now for end in ends)
            chosen = turn([(name, now - since) for name, since in waiting], running, width)
            if chosen is None:
                continue
            if waiting.pop(chosen) is mine:
                # before all that came after it had aged, but for those of its last rank that were there earlier
                assert now <= (RANKS[priority] * AGEING + took) * (1 + took)
                return
            ends[place] = now + took
    pytest.fail("it starved")


# ---------------------------------------------------------------- any order of events


class Events(RuleBasedStateMachine):
    """Requests come, go, wait and are spoken in any order; the steps are taken here and not on the thread."""

    subject: Tiny

    def __init__(self) -> None:
        super().__init__()
        self.need = need(self.subject.tts, len(TEXT), OPTIONS)
        self.s = Scheduler(self.subject.tts, queue=3, width=2, memory=total_bytes([self.need] * 4, 2))
        self.s.ready = True
        self.tickets: list[Ticket] = []
        self.refused = 0

    @rule(priority=st.sampled_from(sorted(RANKS)), seed=st.integers(0, 2))
    def submit(self, priority: str, seed: int) -> None:
        full = len(self.s._waiting) + len(self.s._running) >= 5 or self.held(self.need) > self.s.memory
        try:
            self.tickets.append(self.s.submit(TEXT, self.subject.voice, priority=priority, seed=seed, **SHORT))
            assert not full
        except Busy as busy:
            assert full and 1 <= busy.retry_after <= 60
            self.refused += 1
        except Draining:
            assert self.s.draining

    def held(self, *more: Any) -> int:
        return total_bytes([*(ticket.need for ticket in self.tickets if ticket.need is not None), *more], 2)

    @rule(count=st.integers(1, 12))
    def step(self, count: int) -> None:
        for _ in range(count):
            if self.s._waiting or self.s._running:
                self.s._turn()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.tickets:
            ticket = data.draw(st.sampled_from(self.tickets))
            ticket.cancel()
            if self.s._running or self.s._waiting:
                self.s._turn()
            assert ticket not in self.s._running.values() and ticket not in self.s._waiting

    @rule()
    def stop_taking(self) -> None:
        self.s.stop_taking()
        assert not self.s._waiting

    @invariant()
    def the_bounds_hold(self) -> None:
        stats = self.s.stats()
        assert stats["running"] == len(self.s._batch) <= 2
        assert stats["waiting"] + stats["running"] <= 5
        assert stats["memory_estimate_bytes"] == self.held() <= self.s.memory
        over = sum(stats[kind] for kind in ("finished", "failed", "cancelled", "expired"))
        assert over == sum(ticket.ended is not None for ticket in self.tickets)
        assert stats["refused"] == self.refused

    def teardown(self) -> None:
        while self.s._waiting or self.s._running:
            self.s._turn()
        assert all(ticket.ended is not None for ticket in self.tickets)
        for ticket in self.tickets:
            if ticket.speech is not None and ticket.need is not None:
                alone = self.subject.tts.synthesize(TEXT, self.subject.voice, seed=ticket.seed, **SHORT)
                assert np.array_equal(np.concatenate(ticket._audio), alone)


@pytest.mark.parametrize("arch", models.ARCHS)
def test_any_order_of_events(tiny: Callable[..., Tiny], arch: str) -> None:
    Events.subject = tiny(arch, "int8")
    run_state_machine_as_test(Events, settings=settings(max_examples=12, stateful_step_count=25))


# ---------------------------------------------------------------- on its thread


@contextmanager
def running(tts: Any, **bounds: Any) -> Iterator[Scheduler]:
    """A scheduler that is ready, and drained at the end."""
    scheduler = Scheduler(tts, **bounds)
    scheduler.start()
    try:
        while not scheduler.ready:
            assert scheduler.failure is None
            threading.Event().wait(0.01)
        yield scheduler
    finally:
        scheduler.drain(0.0)


async def heard(ticket: Ticket) -> np.ndarray:
    return np.concatenate([wav async for wav in ticket.chunks()])


def test_beside_fifteen_others_a_text_says_what_it_says_alone(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1.5", "int8")
    texts = [f"{'No. ' * (i % 3)}Hello number {i}." for i in range(16)]

    async def all_of_them(scheduler: Scheduler) -> list[np.ndarray]:
        tickets = [
            scheduler.submit(text, it.voice, seed=i, priority=sorted(RANKS)[i % 3], **SHORT)
            for i, text in enumerate(texts)
        ]
        assert [ticket.seed for ticket in tickets] == list(range(16))
        waves = await asyncio.gather(*map(heard, tickets))
        assert all(ticket.speech is not None and ticket.speech.wav.size == 0 for ticket in tickets)
        return list(waves)

    with running(it.tts) as scheduler:
        waves = asyncio.run(all_of_them(scheduler))
        assert scheduler.stats()["finished"] == 16
    for i, text in enumerate(texts):
        assert np.array_equal(waves[i], it.tts.synthesize(text, it.voice, seed=i, **SHORT))


def test_a_listener_who_leaves_frees_the_place_for_the_next(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1", "int8")

    async def scene(scheduler: Scheduler) -> None:
        long = scheduler.submit(TEXT * 40, it.voice, **{**SHORT, "max_frames": 100})
        async with aclosing(long.chunks()) as chunks:
            await anext(chunks)
            after = scheduler.submit(TEXT, it.voice, seed=3, **SHORT)
        assert np.array_equal(await heard(after), it.tts.synthesize(TEXT, it.voice, seed=3, **SHORT))
        assert long.need is None and long.error is None and long.speech is None
        assert scheduler.stats()["cancelled"] == 1

    with running(it.tts, width=1) as scheduler:
        asyncio.run(scene(scheduler))


def test_a_deadline_ends_what_has_no_audio_yet_and_nothing_else(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1", "int8")

    async def scene(scheduler: Scheduler) -> None:
        first = scheduler.submit(TEXT * 40, it.voice, deadline=60, **{**SHORT, "max_frames": 200})
        late = scheduler.submit(TEXT, it.voice, deadline=1e-6, **SHORT)
        with pytest.raises(Expired):
            await heard(late)
        assert first.error is None and first.ended is None
        first.cancel()

    with running(it.tts, width=1) as scheduler:
        asyncio.run(scene(scheduler))
        assert scheduler.stats()["expired"] == 1
    for bad in (0, -1, float("nan"), float("inf"), "1"):
        with pytest.raises(UsageError, match="deadline"):
            scheduler.submit(TEXT, it.voice, deadline=bad)


def test_draining_lets_running_ones_finish_and_sends_the_others_away(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1", "int8")

    async def scene(scheduler: Scheduler) -> None:
        ticket = scheduler.submit(TEXT, it.voice, seed=1, **SHORT)
        chunks = ticket.chunks()
        parts = [await anext(chunks)]
        waiting = scheduler.submit(TEXT, it.voice, **SHORT)
        ended = asyncio.to_thread(scheduler.drain, 30)
        scheduler.stop_taking()
        with pytest.raises(Draining):
            await heard(waiting)
        with pytest.raises(Draining):
            scheduler.submit(TEXT, it.voice)
        parts += [wav async for wav in chunks]
        assert np.array_equal(np.concatenate(parts), it.tts.synthesize(TEXT, it.voice, seed=1, **SHORT))
        assert await ended

    with running(it.tts, width=1) as scheduler:
        asyncio.run(scene(scheduler))
        assert not scheduler.ready and scheduler.drain(1)


def test_draining_has_an_end(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1", "int8")
    with running(it.tts, width=1) as scheduler:
        ticket = scheduler.submit(TEXT * 200, it.voice, **{**SHORT, "max_frames": 200})
        while ticket.first_audio is None:
            threading.Event().wait(0.01)
        assert not scheduler.drain(0.0)
        assert isinstance(ticket.error, Draining) and not scheduler._thread.is_alive()


def test_it_takes_nothing_before_it_is_warm(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1", "int8")
    with pytest.raises(Loading) as loading:
        Scheduler(it.tts).submit(TEXT, it.voice)
    assert loading.value.retry_after >= 1


def test_a_model_that_cannot_be_warmed_up_says_so(tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch) -> None:
    it = tiny("v1", "int8")
    monkeypatch.setattr(type(it.tts), "warm_up", lambda self: 1 / 0)
    scheduler = Scheduler(it.tts)
    scheduler.start()
    scheduler._thread.join(30)
    assert not scheduler.ready
    with pytest.raises(ModelError, match="warmed up"):
        scheduler.submit(TEXT, it.voice)


def test_a_step_that_fails_ends_those_that_speak_and_not_the_server(
    tiny: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = tiny("v1", "int8")

    async def scene(scheduler: Scheduler) -> None:
        failing = scheduler.submit(TEXT * 40, it.voice, **SHORT)
        with monkeypatch.context() as broken:
            broken.setattr(scheduler._batch, "step", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await heard(failing)
        again = scheduler.submit(TEXT, it.voice, seed=2, **SHORT)
        assert np.array_equal(await heard(again), it.tts.synthesize(TEXT, it.voice, seed=2, **SHORT))

    with running(it.tts) as scheduler:
        asyncio.run(scene(scheduler))
        assert scheduler.stats()["failed"] == 1


# ---------------------------------------------------------------- refused


def test_what_can_never_be_said_is_told_at_once_or_ends_its_ticket(tiny: Callable[..., Tiny]) -> None:
    it = tiny("v1", "int8")
    with running(it.tts) as scheduler:
        with pytest.raises(NothingToSay):
            scheduler.submit(" ", it.voice)
        with pytest.raises(UsageError, match="sead"):
            scheduler.submit(TEXT, it.voice, sead=1)  # type: ignore[call-arg]
        with pytest.raises(UsageError, match="priority"):
            scheduler.submit(TEXT, it.voice, priority="urgent")
        with pytest.raises(UsageError, match="max_frames"):
            asyncio.run(heard(scheduler.submit(TEXT, it.voice, max_frames=832)))
        scheduler.memory = total_bytes([need(it.tts, len(TEXT), OPTIONS)], 16)
        assert asyncio.run(heard(scheduler.submit(TEXT, it.voice, **SHORT))).size
        with pytest.raises(UsageError, match="MiB"):
            scheduler.submit(TEXT * 1000, it.voice, **SHORT)
    for bounds in ({"queue": -1}, {"memory": 0}, {"width": 0}):
        with pytest.raises(UsageError, match="too small"):
            Scheduler(it.tts, **bounds)


texts = st.lists(st.integers(1, 5000), max_size=30)


@given(texts, st.integers(1, 5000), st.integers(1, 16))
def test_more_and_longer_texts_need_no_less_memory(characters: list[int], more: int, width: int) -> None:
    tts = models.model("v1", "int8", seed=5)
    needs = [need(tts, count, OPTIONS) for count in characters]
    longer = [need(tts, count + more, OPTIONS) for count in characters]
    assert 0 <= total_bytes(needs, width) <= total_bytes(longer, width)
    assert total_bytes(needs, width) < total_bytes([*needs, need(tts, more, OPTIONS)], width)


@given(st.integers(20, 200))
def test_texts_that_wait_need_no_more_than_their_audio(count: int) -> None:
    """What does not speak holds no state: a board may have a queue."""
    tts = models.model("v1", "int8", seed=5)
    one = need(tts, 5000, OPTIONS)
    assert total_bytes([one] * (count + 1), 4) - total_bytes([one] * count, 4) == one.audio
