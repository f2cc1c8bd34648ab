"""How far is it? One line on stderr with percent and the time that is left, for whoever watches."""

from __future__ import annotations

import sys
import time

EVERY = 0.1  # seconds between two lines
WIDTH = 40


class Progress:
    """`update` says how much of what is to be done is done, in any unit; the line is drawn if `shown`."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._started, self._drawn = shown, time.monotonic(), 0.0
        self._width = WIDTH  # of the widest line so far

    def update(self, done: float, total: float, more: str = "") -> None:
        """Draw the line, now and then; the first time at once. `more`: what else there is to tell, behind it."""
        now = time.monotonic()
        if self._shown and (not self._drawn or now - self._drawn >= EVERY):
            self._drawn = now
            text = line(done, total, now - self._started) + more
            self._width = max(self._width, len(text))
            self._write("\r" + text.ljust(self._width))

    def restart(self) -> None:
        """What is measured from now on is something else."""
        self.clear()
        self._started = time.monotonic()

    def clear(self) -> None:
        """Make room for what else is to be said."""
        if self._shown and self._drawn:
            self._drawn = 0.0
            self._write("\r" + " " * self._width + "\r")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody watches any more
            self._shown = False


def watched() -> bool:
    """Does stderr end at a terminal?"""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def line(done: float, total: float, elapsed: float) -> str:
    """`done` of `total` after so many seconds: percent, and the seconds that are left at this pace."""
    share = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
    left = f"{clock(elapsed * (1 - share) / share)} left" if share > 0 else ""
    return f"{100 * share:3.0f} %  {left}"


def clock(seconds: float) -> str:
    """65 -> 1:05, 3600 -> 1:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
