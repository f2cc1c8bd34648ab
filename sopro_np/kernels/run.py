"""A command list, worked off by one thread or by several (a job board without locks).

Every call of the list is cut into independent pieces. A thread claims the next piece of the current call by a
compare-and-swap, does it, and counts it as done; when all pieces are claimed and done, all go on to the next call.
One half of the threads takes the first piece that is left, the other half the last one: so a thread finds in its own
cache what it wrote in the call before, for pieces of neighbouring calls are about the same rows.
Calls of one piece that follow each other are one claim: in a step of one row that is most of them, and two threads
need not meet after each.
Nobody waits for a thread that is late: whoever is there does the work. Which thread did a piece never matters for
its result.

The job board (memory of the pool, never freed): generation, program, count, then per call one line of claim, one of
done and pieces. A claim counts the pieces that were taken from either end, and carries the generation above them, so a
late thread of an earlier list can neither take a piece of a newer one nor touch memory that is gone.
"""

from __future__ import annotations

from sopro_np.kernels.functions import inline
from sopro_np.kernels.simd.atomic import add_atomic, call_kernel, load_atomic, pause, store_atomic, swap_atomic
from sopro_np.kernels.simd.vector import load_i64, store_i64

GENERATION, PROGRAM, COUNT, LINES = 0, 64, 72, 128  # byte offsets in the board
CLAIM, DONE, PIECES, LINE = 0, 64, 72, 128
ENTRY = 24  # of a program: kernel, fields, pieces
# Bits of a claim: pieces taken from the end, from the beginning, the generation.
HALF, UPPER = 20, 40
MASK = (1 << HALF) - 1


@inline
def work(board, program, count, generation, back):
    """Do what is left of a list; returns when it is done, or was over before. back: begin with the last piece?"""
    i = 0
    while i < count:
        line = board + LINES + LINE * i
        pieces = load_atomic(line + PIECES)
        following = i + 1
        if pieces == 1:
            while following < count and load_atomic(board + LINES + LINE * following + PIECES) == 1:
                following += 1
        while True:
            claim = load_atomic(line + CLAIM)
            if claim >> UPPER != generation:
                return
            first, last = (claim >> HALF) & MASK, pieces - 1 - (claim & MASK)
            if first > last:
                break
            piece = last if back else first
            if swap_atomic(line + CLAIM, claim, claim + (1 if back else 1 << HALF)):
                for j in range(i, following):
                    call_kernel(load_i64(program + ENTRY * j), load_i64(program + ENTRY * j + 8), piece)
                add_atomic(line + DONE, 1)
        while load_atomic(line + DONE) < pieces:
            if load_atomic(line + CLAIM) >> UPPER != generation:
                return
            pause()
        i = following


def run(program, count, board):
    """Work off `count` calls. board 0: alone; otherwise whoever is in `worker` on this board takes part."""
    if board == 0:
        for i in range(count):
            for piece in range(load_i64(program + ENTRY * i + 16)):
                call_kernel(load_i64(program + ENTRY * i), load_i64(program + ENTRY * i + 8), piece)
        return
    generation = (load_atomic(board + GENERATION) + 1) & 0x3FFFFF
    for i in range(count):
        line = board + LINES + LINE * i
        # The claim first: a late worker that sees anything of the new list also sees that it is not its own.
        store_atomic(line + CLAIM, generation << UPPER)
        store_atomic(line + DONE, 0)
        store_atomic(line + PIECES, load_i64(program + ENTRY * i + 16))
    store_i64(board + PROGRAM, program)
    store_i64(board + COUNT, count)
    store_atomic(board + GENERATION, generation)
    work(board, program, count, generation, False)


def worker(board, patience, back):
    """A second thread's life: take part in every list, the present one first, leave after `patience` idle looks.
    back: 1, to begin with the last piece of every call."""
    seen, idle = -1, 0
    while idle < patience:
        generation = load_atomic(board + GENERATION)
        if generation == seen:
            idle += 1
            pause()
            continue
        program, count = load_i64(board + PROGRAM), load_i64(board + COUNT)
        work(board, program, count, generation, back != 0)
        seen, idle = generation, 0
