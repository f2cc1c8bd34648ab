"""A command list, worked off by one thread or by several (a job board without locks).

Every call of the list is cut into independent pieces. A thread claims the next piece of the current call by a
compare-and-swap, does it, and counts it as done; when all pieces are claimed and done, all go on to the next call.
Calls of one piece that follow each other are one claim: in a step of one row that is most of them, and two threads
need not meet after each.
Nobody waits for a thread that is late: whoever is there does the work. Which thread did a piece never matters for
its result.

The job board (memory of the pool, never freed): generation, program, count, then per call one line of claim, one of
done and pieces. A claim carries the generation in its upper half, so a late thread of an earlier list can neither
take a piece of a newer one nor touch memory that is gone.
"""

from __future__ import annotations

from sopro_np.kernels.functions import inline
from sopro_np.kernels.simd.atomic import add_atomic, call_kernel, load_atomic, pause, store_atomic, swap_atomic
from sopro_np.kernels.simd.vector import load_i64, store_i64

GENERATION, PROGRAM, COUNT, LINES = 0, 64, 72, 128  # byte offsets in the board
CLAIM, DONE, PIECES, LINE = 0, 64, 72, 128
ENTRY = 24  # of a program: kernel, fields, pieces


@inline
def work(board, program, count, generation):
    """Do what is left of a list; returns when it is done, or was over before."""
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
            if claim >> 32 != generation:
                return
            piece = claim & 0xFFFFFFFF
            if piece >= pieces:
                break
            if swap_atomic(line + CLAIM, claim, claim + 1):
                for j in range(i, following):
                    call_kernel(load_i64(program + ENTRY * j), load_i64(program + ENTRY * j + 8), piece)
                add_atomic(line + DONE, 1)
        while load_atomic(line + DONE) < pieces:
            if load_atomic(line + CLAIM) >> 32 != generation:
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
    generation = (load_atomic(board + GENERATION) + 1) & 0x3FFFFFFF
    for i in range(count):
        line = board + LINES + LINE * i
        # The claim first: a late worker that sees anything of the new list also sees that it is not its own.
        store_atomic(line + CLAIM, generation << 32)
        store_atomic(line + DONE, 0)
        store_atomic(line + PIECES, load_i64(program + ENTRY * i + 16))
    store_i64(board + PROGRAM, program)
    store_i64(board + COUNT, count)
    store_atomic(board + GENERATION, generation)
    work(board, program, count, generation)


def worker(board, patience):
    """A second thread's life: take part in every list, the present one first, leave after `patience` idle looks."""
    seen, idle = -1, 0
    while idle < patience:
        generation = load_atomic(board + GENERATION)
        if generation == seen:
            idle += 1
            pause()
            continue
        program, count = load_i64(board + PROGRAM), load_i64(board + COUNT)
        work(board, program, count, generation)
        seen, idle = generation, 0
