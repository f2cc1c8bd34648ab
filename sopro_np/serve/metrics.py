"""Prometheus exposition: histograms of seconds, and the lines of /metrics."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds


class Histogram:
    """How many observations (seconds) lie below each of BUCKETS; written by one thread, read by any."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))] += 1
        self.total += seconds

    def lines(self, name: str, help: str) -> Iterator[str]:
        """As Prometheus reads it."""
        below = list(itertools.accumulate(self.counts))  # one reading, so that the lines agree
        yield f"# HELP {name} {help}"
        yield f"# TYPE {name} histogram"
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), below, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f"{name}_sum {self.total}"
        yield f"{name}_count {below[-1]}"
