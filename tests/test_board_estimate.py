"""tools/board_estimate.py finds the right loop in a disassembly."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tools.board_estimate import loops, products, reuse


def listing(rows: Sequence[str], branches: dict[int, int]) -> str:
    """Instructions four bytes apart from 0x100 on; `branches`: row -> the row it jumps to."""
    lines = ["code.o:\tfile format elf64-littleaarch64", "", "0000000000000100 <kernel>:"]
    for i, row in enumerate(rows):
        text = f"b.gt\t0x{0x100 + 4 * branches[i]:x} <kernel+0x{4 * branches[i]:x}>" if i in branches else row
        lines.append(f"     {0x100 + 4 * i:x}:      \t{text}")
    return "\n".join(lines)


@given(
    before=st.integers(0, 5),
    body=st.integers(1, 6),
    after=st.integers(0, 5),
    outer=st.booleans(),
    forward=st.booleans(),
)
def test_innermost_loops(before: int, body: int, after: int, outer: bool, forward: bool) -> None:
    """The loop alone is found, whatever surrounds it; a branch forwards makes none."""
    rows = ["mov\tx1, x2"] * before + ["sdot\tv0.4s, v1.16b, v2.16b"] * body + ["-"] + ["nop"] * after + ["-"]
    end = before + body
    branches = {end: before} | ({len(rows) - 1: 0} if outer else {len(rows) - 1: len(rows)} if forward else {})
    rows = ["ret" if row == "-" else row for row in rows]
    (loop,) = loops(listing(rows, branches))
    assert len(loop) == body + 1
    assert products(loop) == 16 * body


def test_the_tile_that_reuses_its_loads_wins() -> None:
    one_row = ["ld1r\t{ v5.4s }, [x17], #4"] + ["ldp\tq6, q7, [x19]", "sdot\tv4.4s, v5.16b, v6.16b"] * 8
    tile = ["ld1r\t{ v5.4s }, [x17], #4"] * 4 + ["ldr\tq6, [x19]"] * 4 + ["sdot\tv4.4s, v5.16b, v6.16b"] * 16
    assert max([one_row, tile], key=reuse) is tile
    assert products(["smull\tv0.8h, v1.8b, v2.8b", "smull2\tv0.8h, v1.16b, v2.16b", "addp\tv0.8h, v0.8h, v1.8h"]) == 16
