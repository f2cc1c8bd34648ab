"""One utterance as a state machine: text -> codes of codebook 0, one by one -> finished code rows -> audio.

    AR: one code per frame -> block of frames -> NAR: the other codebooks -> code rows -> codec: audio, in chunks

With `lookahead` None codebook 0 is said to its end first: a guard may judge it and have it said again, and a NAR that
looks ahead sees all of it. With a number both take turns: a causal model finishes a block as soon as it is there, a
non-causal one waits for so many more frames, on a fixed grid of blocks, and never changes what it has given out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sopro_np.errors import ModelError, UsageError
from sopro_np.guard import Guard
from sopro_np.mimi.codec import DecoderState, Mimi
from sopro_np.model.build import Model
from sopro_np.model.nar import STEP_FRAMES, NarState
from sopro_np.model.utterance import Utterance
from sopro_np.ops.runtime import Runtime
from sopro_np.options import Options
from sopro_np.sampler import Sampler

BLOCK_FRAMES = 4  # grid of a finite lookahead
ROW_FRAMES = 16  # conditioning is computed for this many frames at a time, on a fixed grid


class Block(NamedTuple):
    """Frames to be refined: condition (T, D), first (T,) codes of codebook 0, the NAR's state, how many are kept."""

    condition: np.ndarray
    first: np.ndarray
    state: NarState
    keep: int


class Session:
    """Utterance + options -> code rows. `advance` takes a step, `ready` refines what can be; `blocks` does both.

    A step in parts, for several utterances at once: `next_condition`, then `Autoregressor.step_together`, then
    `accept`. `finish_reason` is None until the last code: then "stop", or "length" where a limit ended it.
    `sampler`: logits (V,) -> code; by default the one the options describe. It is called under the model's ops.
    """

    def __init__(
        self,
        model: Model,
        utterance: Utterance,
        options: Options,
        runtime: Runtime,
        sampler: Callable[[np.ndarray], int] | None = None,
        guard: Guard | None = None,
    ) -> None:
        o = options
        self.model, self.utterance, self.options, self.runtime = model, utterance, options, runtime
        self.finish_reason: str | None = None
        self.guard = guard
        self._sampler = sampler or self._new_sampler()
        self._stop = model.stop.new_state(o)
        self._steps = self._stop.steps(o.max_frames)
        if self._steps > len(model.condition.positions):
            most = len(model.condition.positions) - self._stop.steps(0)
            raise UsageError(f"max_frames = {o.max_frames}: this model has positions for {most} frames at most")
        # A causal model finishes what is there: its blocks may be the caller's chunks, and need no frames behind them;
        # the other kind keeps to a grid of its own, and waits for them (None: for all, in one block).
        self._causal, self._lookahead = not model.nar.looks_ahead, o.lookahead
        self._block = o.chunk_frames if self._causal else BLOCK_FRAMES
        self.state = model.ar.new_state(utterance.prefix)
        self._nar = model.nar.new_state()
        self._codes: list[int] = []  # of codebook 0, one per frame
        self._refined = 0  # frames whose other codes are there
        self._refining: Iterator[np.ndarray | None] | None = None  # work on a long block that is under way
        self._started = False
        self._rows = np.zeros((0, model.config.width), np.float32)

    def blocks(self) -> Iterator[np.ndarray]:
        """Finished code rows (n, Q) int64, in order; once."""
        if self._started:
            raise UsageError("this utterance was spoken already: make a new session")
        self._started = True
        while self.finish_reason is None or self.due:
            if self.finish_reason is None:
                self.advance()
            while self.due:
                if len(rows := self.ready()):
                    yield rows

    # ------------------------------------------------------------ codebook 0

    @property
    def first_codes(self) -> tuple[int, ...]:
        """Codes of codebook 0 so far, one per frame."""
        return tuple(self._codes)

    def advance(self) -> None:
        """One step: the next frame's first code, or the end."""
        row = self.next_condition()
        with self.runtime(one_row=True):
            self.accept(row, self.model.ar.step(row, self.state, self.utterance))

    def next_condition(self) -> np.ndarray:
        """The conditioning of the next frame (D,)."""
        t = len(self._codes)
        return self._conditioning(t, t + 1)[0]

    def accept(self, row: np.ndarray, logits: np.ndarray) -> None:
        """Choose the code of the next frame, whose conditioning is `row` (D,), and see whether it was the last."""
        t, stop = len(self._codes), self._stop
        if not np.isfinite(logits).all():
            raise ModelError("the model computed NaN or infinity: its weights are broken")
        code = self._sampler(stop.mask_logits(logits, t))
        if stop.is_end(code):
            self.finish_reason = "stop"
        else:
            self.state.push(code)
            self._codes.append(code)
            if stop.ends_after(t, code, row):
                self.finish_reason = "stop"
            elif t + 1 == self._steps:
                self.finish_reason = "length"
        if self.guard is not None and (self.finish_reason or self.guard.stops(self._codes)):
            self._judge(self.guard)

    def _judge(self, guard: Guard) -> None:
        """Codebook 0 is there, or hopeless: once more from the start, if nothing was heard yet, or the best of all."""
        done = guard.judge(self._codes, self.finish_reason)
        if done.problem and self._lookahead is None and len(guard.tries) <= guard.retries:
            self.finish_reason, self._codes = None, []
            self.state, self._stop = (
                self.model.ar.new_state(self.utterance.prefix),
                self.model.stop.new_state(self.options),
            )
            self._sampler = self._new_sampler()
            return
        if self._lookahead is None:
            done = guard.best()
            self._codes = list(done.codes)
        self.finish_reason = done.finish_reason

    def _new_sampler(self) -> Sampler:
        options = self.options
        return Sampler(options if self.guard is None else replace(options, seed=self.guard.next_seed))

    def rebuild(self) -> None:
        """The AR's state anew from the codes so far: a step that failed has left it half advanced."""
        self.state = self.model.ar.new_state(self.utterance.prefix)
        for row, code in zip(self._rows, self._codes):
            with self.runtime(one_row=True):
                self.model.ar.step(row, self.state, self.utterance)
            self.state.push(code)

    def rebuild_nar(self) -> None:
        """The NAR's state anew: the blocks so far once more."""
        refined, self._refined, self._nar = self._refined, 0, self.model.nar.new_state()
        while self._refined < refined:
            b = self._block_due()
            with self.runtime():
                self.model.nar(b.condition, b.first, b.state, b.keep)
            self._refined += b.keep

    # ------------------------------------------------------------ the other codebooks

    @property
    def due(self) -> bool:
        """Is there a block that can be refined now?"""
        waiting = len(self._codes) - self._refined
        if self.finish_reason is not None:
            return waiting > 0
        if self._lookahead is None:
            return False
        return waiting >= self._block + (0 if self._causal else self._lookahead)

    def ready(self) -> np.ndarray:
        """Refine one block, or a bounded piece of a long one -> its code rows (n, Q), none until it is finished."""
        if self._refining is None:
            b = self._block_due()
            self._refining = self.model.nar.refine(b.condition, b.first, b.state, b.keep)
        with self.runtime():
            rows = next(self._refining)
        if rows is None:
            return np.zeros((0, self.model.config.codebooks), np.int64)
        self._refining = None
        return self.refined(rows)

    def block(self) -> Block | None:
        """What is due, if one step does it, for whoever takes it together with others; `refined` takes the result."""
        if not self.due or self._refining is not None:
            return None
        block = self._block_due()
        return block if len(block.first) <= STEP_FRAMES else None

    def refined(self, rows: np.ndarray) -> np.ndarray:
        """These code rows (n, Q) follow those before."""
        self._refined += len(rows)
        return rows

    def _block_due(self) -> Block:
        """The frames of the next block; what follows them serves as look ahead."""
        first, known = self._refined, len(self._codes)
        ahead = 0 if self._causal else self._lookahead
        keep = known - first if ahead is None else min(self._block, known - first)
        last = min(known, first + keep + (ahead or 0))
        return Block(self._conditioning(first, last), np.array(self._codes[first:last]), self._nar, keep)

    def _conditioning(self, first: int, last: int) -> np.ndarray:
        """Rows first..last-1 (n, D), computed when first needed."""
        while len(self._rows) < last:
            a = len(self._rows)
            b = min(a + ROW_FRAMES, len(self.model.condition.positions))
            with self.runtime():
                rows = self.model.condition.rows(self.utterance, a, b)
            self._rows = np.concatenate([self._rows, rows])
        return self._rows[first:last]


class AudioStream:
    """Code rows -> audio in chunks of `chunk_frames` frames (the last one may be shorter); an exact stream.

    To be pulled inside the model's runtime.
    """

    def __init__(self, mimi: Mimi, options: Options) -> None:
        self.mimi, self._chunk, self.precision = mimi, options.chunk_frames, options.precision
        self._frames = options.max_frames + 1  # the end code may come one step later
        self._state: DecoderState | None = None
        self.rows = np.zeros((0, mimi.config.codebooks), np.int64)  # all so far
        self._decoded = 0  # how many of them
        self.last = False  # no more rows will come

    def push(self, rows: np.ndarray) -> None:
        """Code rows (n, Q) that follow those before."""
        self.rows = np.concatenate([self.rows, rows]) if len(self.rows) else rows

    @property
    def due(self) -> bool:
        """Is there a chunk to be decoded?"""
        waiting = len(self.rows) - self._decoded
        return waiting >= self._chunk or (self.last and waiting > 0)

    def pull(self) -> np.ndarray:
        """The next chunk (n,) in [-1, 1]."""
        codes, state = self.next_chunk()
        return self._finished(self.mimi.decode(codes, state))

    def pull_features(self, x: np.ndarray) -> np.ndarray:
        """The same, where somebody has `next_chunk`'s features (T2, H) already."""
        _, state = self.next_chunk()
        return self._finished(self.mimi.samples(x, state))

    def pull_again(self) -> np.ndarray:
        """The same, after a step that failed and left the codec's state half advanced."""
        self._state = self.mimi.new_state(self._frames)
        self.mimi.decode(self.rows[: self._decoded], self._state)
        return self.pull()

    def next_chunk(self) -> tuple[np.ndarray, DecoderState]:
        """Code rows of the next chunk, and the codec's state, for whoever computes its features."""
        if self._state is None:
            self._state = self.mimi.new_state(self._frames)
        return self.rows[self._decoded : self._decoded + self._chunk], self._state

    def _finished(self, wav: np.ndarray) -> np.ndarray:
        """The next chunk is decoded -> its samples in [-1, 1]. ModelError if it is no sound."""
        if not np.isfinite(wav).all():
            raise ModelError("the codec computed NaN or infinity: its weights are broken")
        self._decoded += len(wav) // self.mimi.config.hop
        return np.clip(wav, -1, 1)
