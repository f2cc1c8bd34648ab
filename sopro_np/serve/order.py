"""Queue discipline: priorities with ageing, and places that stay free for those who are listening."""

from __future__ import annotations

from collections.abc import Sequence

RANKS = {"interactive": 0, "normal": 1, "bulk": 2}  # smaller goes first
AGEING = 10.0  # seconds of waiting that lift a request by one rank: nothing waits for ever
SHARES = (1.0, 7 / 8, 3 / 4)  # of the places that may be taken when a request of this rank takes one


def rank(priority: str, waited: float) -> int:
    """Of a request that has waited so many seconds."""
    return max(0, RANKS[priority] - int(waited / AGEING))


def places(rank: int, width: int) -> int:
    """How many of `width` places may be taken, a new one of this rank included; always one."""
    return max(1, int(width * SHARES[rank]))


def turn(waiting: Sequence[tuple[str, float]], running: int, width: int) -> int | None:
    """(priority, seconds waited) of all who wait -> index of the one to take a place, beside `running` others, or None.

    The best rank for which there is a place, of it the one that has waited longest, of equals the first.
    """
    ranked = [(rank(priority, waited), -waited, i) for i, (priority, waited) in enumerate(waiting)]
    return min(((r, w, i) for r, w, i in ranked if running < places(r, width)), default=(0, 0, None))[2]
