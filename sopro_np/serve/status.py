"""State of a server as numbers: JSON for people's programs, Prometheus text for monitoring."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sopro_np.ops.native.arena import bytes_of_all
from sopro_np.serve.scheduler import Scheduler
from sopro_np.version import __version__


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def status(scheduler: Scheduler, responses: Counter[int]) -> dict[str, Any]:
    """Scheduler.stats, memory, and how many answers of each status there were."""
    memory = {"resident_bytes": resident_bytes(), "arena_bytes": bytes_of_all()}
    return {
        "version": __version__,
        **scheduler.stats(),
        **memory,
        "responses": {str(k): responses[k] for k in sorted(responses)},
    }


GAUGES = {
    "ready": "1 if requests are taken",
    "waiting": "requests that wait for a place",
    "running": "requests that are spoken",
    "memory_estimate_bytes": "estimated memory of the requests taken",
    "resident_bytes": "memory of the process in RAM",
    "arena_bytes": "working memory of the operations",
}
TOTALS = {
    "audio_seconds": "seconds of audio made",
    "busy_seconds": "seconds of work",
}
OUTCOMES = ("finished", "failed", "cancelled", "expired", "refused")


def prometheus(scheduler: Scheduler, responses: Counter[int]) -> str:
    """The same in Prometheus' text format 0.0.4, with histograms of waiting, first audio and duration."""
    return "\n".join((*_lines(scheduler, responses), ""))


def _lines(scheduler: Scheduler, responses: Counter[int]) -> Iterator[str]:
    now = status(scheduler, responses)
    for name, help in GAUGES.items():
        yield from _metric(f"sopro_{name}", "gauge", help, {"": int(now[name])})
    for name, help in TOTALS.items():
        yield from _metric(f"sopro_{name}_total", "counter", help, {"": now[name]})
    yield from _metric("sopro_rtf", "gauge", "seconds of work for a second of audio", {"": now["rtf"] or 0.0})
    outcomes = {f'{{outcome="{name}"}}': now[name] for name in OUTCOMES}
    yield from _metric("sopro_requests_total", "counter", "requests to speak by how they ended", outcomes)
    codes = {f'{{code="{code}"}}': count for code, count in now["responses"].items()}
    yield from _metric("sopro_http_responses_total", "counter", "HTTP answers by status", codes)
    yield from scheduler.waited.lines("sopro_queue_wait_seconds", "time until a request had a place")
    yield from scheduler.first_audio.lines("sopro_first_audio_seconds", "time until its first audio")
    yield from scheduler.took.lines("sopro_request_seconds", "time until its last audio")


def _metric(name: str, kind: str, help: str, values: dict[str, Any]) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{labels} {value}"
