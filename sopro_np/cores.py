"""How many cores this process may use: its CPU affinity, and the CPU quota of its control groups (v1 and v2)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from sopro_np.errors import SoproWarning, UsageError


def usable() -> int:
    """Threads that can compute at the same time; a quota is rounded down: whoever exceeds it is halted."""
    most = quota()
    return allowed() if most is None else max(1, min(allowed(), int(most)))


def allowed() -> int:
    """Cores that the affinity leaves (taskset, a container's cpuset)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def why() -> str:
    """The cores in words: how many of how many, and what limits them."""
    limits = []
    if allowed() < (os.cpu_count() or 1):
        limits.append(f"affinity leaves {allowed()}")
    if (most := quota()) is not None:
        limits.append(f"control group has a quota of {most:g}")
    return f"{usable()} of {os.cpu_count() or 1}" + (f" ({', '.join(limits)})" if limits else "")


def capped(threads: int | None) -> int | None:
    """The number of threads to use; UsageError if it is none, a SoproWarning if there are fewer cores."""
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads = {threads!r} must be a whole number, at least 1")
    if threads <= usable():
        return threads
    warnings.warn(
        f"threads = {threads}: this process may use {why()} cores, so many compute", SoproWarning, stacklevel=4
    )
    return usable()


@cache
def quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the control groups grant, the smallest of all levels; None: no limit."""
    found: list[float] = []
    for folder, version in _folders(root):
        try:
            if version == 2:
                most, period = (folder / "cpu.max").read_text().split()
            else:
                most, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if most != "max" and int(most) > 0 and int(period) > 0:
                found.append(int(most) / int(period))
        except (OSError, ValueError):  # no limit at this level, or nothing that this program understands
            continue
    return min(found, default=None)


def _folders(root: Path) -> Iterator[tuple[Path, int]]:
    """(folder, version) of this process's groups and of all above them that can be seen."""
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    own: dict[int, PurePosixPath] = {}  # version -> path of the group
    for line in groups:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            own[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            own[1] = PurePosixPath(path)
    for line in mounts:
        left, _, right = line.partition(" - ")
        parts, kind = left.split(" "), right.split(" ")
        if len(parts) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        if version not in own or (version == 1 and "cpu" not in kind[2].split(",")):
            continue
        shown, place = PurePosixPath(parts[3]), root / parts[4].lstrip("/")
        group = own[version]
        below = group.relative_to(shown) if group.is_relative_to(shown) else PurePosixPath(".")
        if ".." in below.parts:
            below = PurePosixPath(".")
        for part in (below, *below.parents):
            yield place / part, version
