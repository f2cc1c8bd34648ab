"""Two results of `bench`, figure by figure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sopro_np.errors import UsageError

SAME = ("generation", "recipe", "ops", "precision", "threads", "frames")  # or the figures are of different things


def read(path: str) -> dict[str, Any]:
    """What `bench --json` has written. UsageError for anything else."""
    try:
        result = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise UsageError(f"--compare {path}: cannot be read ({reason}); give a file that bench --json wrote") from None
    if not isinstance(result, dict) or "rtf" not in result:
        raise UsageError(f"--compare {path}: holds no figures; give a file that bench --json wrote")
    return result


def table(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines for people: what is not the same, then every figure of both with its ratio, now to before."""
    before = {"precision": "fast", **before}  # there was no other
    other = [f"{key} {before.get(key)}, now {now.get(key)}" for key in SAME if before.get(key) != now.get(key)]
    lines = [f"not of the same: {'; '.join(other)}"] if other else []
    lines.append(f"{'figure':24} {'before':>12} {'now':>12} {'ratio':>7}")
    old = dict(_figures(before))
    for name, value in _figures(now):
        if (known := old.get(name)) is not None:
            ratio = f"{value / known:.2f}" if known else ""
            lines.append(f"{name:24} {known:12.4g} {value:12.4g} {ratio:>7}")
    return lines


def _figures(result: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a result and of the tables in it, by name."""
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{within}{key} ")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in (*SAME, "runs"):
            yield within + key, float(value)
