"""One utterance from text ids to finished codes: the only generation loop in the project.

    AR: one code per frame -> block of frames -> NAR: the other codebooks -> finished code rows

A causal model finishes a block as soon as it is there. A non-causal one waits for `lookahead` more frames, on
a fixed grid of blocks, and what it has given out it never changes; with `lookahead` None it waits for the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np

from sopro_np.errors import ModelError, UsageError
from sopro_np.model.build import Model
from sopro_np.model.nar import NarState
from sopro_np.ops.context import computing
from sopro_np.options import Options
from sopro_np.sampler import Sampler
from sopro_np.voice import Voice

BLOCK_FRAMES = 4  # grid of a finite lookahead
ROW_FRAMES = 16  # conditioning is computed for this many frames at a time, on a fixed grid


class Session:
    """Text ids + voice + options -> code rows. Iterate `blocks` once; `finish_reason` is then set.

    `sampler`: logits (V,) -> code; by default the one the options describe. It is called under the model's ops.
    """

    def __init__(
        self,
        model: Model,
        voice: Voice,
        ids: np.ndarray,
        options: Options,
        sampler: Callable[[np.ndarray], int] | None = None,
        threads: int | None = None,
    ) -> None:
        o, config = options, model.config
        self.finish_reason: str | None = None
        self._started = False
        self.model, self._voice, self._threads = model, voice, threads
        self._sampler = sampler or Sampler(o.temperature, o.top_p, o.top_k, o.seed)
        self._stop = model.stop.fresh(o.min_gen_frames, o.stop_threshold, o.stop_patience)
        self._steps = self._stop.steps(o.max_frames)
        if self._steps > len(model.condition.positions):
            most = len(model.condition.positions) - self._stop.steps(0)
            raise UsageError(f"max_frames = {o.max_frames}: this model has positions for {most} frames at most")
        self._style = config.style_strength if o.style_strength is None else o.style_strength
        # A causal model finishes what is there, so its blocks may be the caller's chunks; the other kind keeps to a
        # grid of its own, and waits for the frames behind a block (None: for all of them).
        waits = model.nar.looks_ahead
        self._lookahead = o.lookahead if waits else 0
        self._block = BLOCK_FRAMES if waits else o.chunk_frames
        with computing(model.ops, threads):
            sequence, self._pooled = model.text(ids)
            self.text = model.ar.memories(sequence)
        self.state = model.ar.fresh(voice.codes[: config.prefix_frames, 0])
        self._codes: list[int] = []  # of codebook 0, one per frame
        self._rows = np.zeros((0, config.width), np.float32)

    def blocks(self) -> Iterator[np.ndarray]:
        """Finished code rows (n, Q) int64, in order."""
        if self._started:
            raise UsageError("this utterance was spoken already: make a new session")
        self._started = True
        codes, done = self._codes, 0
        state = self.model.nar.fresh()
        while self.finish_reason is None:
            self.advance()
            if self._lookahead is not None and len(codes) == done + self._block + self._lookahead:
                yield self._refine(codes, done, self._block, state)
                done += self._block
        while done < len(codes):
            count = len(codes) - done if self._lookahead is None else min(self._block, len(codes) - done)
            yield self._refine(codes, done, count, state)
            done += count

    def advance(self) -> None:
        """One step: the next frame's first code, or the end."""
        row = self.next_row()
        with self.computing():
            self.take(row, self.model.ar.step(row, self.state, self.text))

    def next_row(self) -> np.ndarray:
        """The conditioning of the next frame (D,)."""
        t = len(self._codes)
        return self._conditioning(t, t + 1)[0]

    def computing(self) -> AbstractContextManager[None]:
        """Under what a step computes."""
        return computing(self.model.ops, self._threads, one_row=True)

    def take(self, row: np.ndarray, logits: np.ndarray) -> None:
        """Choose the code of the next frame, whose conditioning is `row` (D,), and see whether it was the last."""
        t, stop = len(self._codes), self._stop
        if not np.isfinite(logits).all():
            raise ModelError("the model computed NaN or infinity: its weights are broken")
        code = self._sampler(stop.allow(logits, t))
        if stop.is_end(code):
            self.finish_reason = "stop"
            return
        self.state.push(code)
        self._codes.append(code)
        if stop.after(t, code, row):
            self.finish_reason = "stop"
        elif t + 1 == self._steps:
            self.finish_reason = "length"

    def _refine(self, codes: list[int], first: int, count: int, state: NarState) -> np.ndarray:
        """The other codebooks of frames first..first+count-1; what follows them serves as look ahead."""
        ahead = 0 if self._lookahead is None else self._lookahead
        last = min(len(codes), first + count + ahead)
        window = self._conditioning(first, last)
        with computing(self.model.ops, self._threads):
            return self.model.nar(window, np.array(codes[first:last]), state, count)

    def _conditioning(self, first: int, last: int) -> np.ndarray:
        """Rows first..last-1 (n, D), computed when first needed."""
        while len(self._rows) < last:
            a = len(self._rows)
            b = min(a + ROW_FRAMES, self._steps)
            with computing(self.model.ops, self._threads):
                rows = self.model.condition.rows(
                    self._pooled, self._voice.speaker, self._voice.memories, self._style, a, b
                )
            self._rows = np.concatenate([self._rows, rows])
        return self._rows[first:last]
