"""Which commit holds a generation: both were published as `main` of one repository, so headers are looked at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sopro_np.convert.sopro import generation_of
from sopro_np.errors import DownloadError
from sopro_np.hub.client import SOPRO, Snapshot, commits, snapshot, tensor_names

CHECKPOINT = "model.safetensors"
# v1 is looked for around the day on which v1.5 took its place, v1.5 from the head of `main` backwards.
DAY = {"v1": datetime(2026, 2, 4, tzinfo=UTC), "v1.5": None}
MOST = 50  # commits that are looked at, on either side of the day


def published(generation: str, known: dict[str, str], say: Callable[[str], None]) -> Snapshot:
    """The newest commit of this generation. `known`: digest of a checkpoint -> its generation.

    Errors: DownloadError, also where there is none.
    """
    history, day = _History(known), DAY[generation]
    if day is None:
        head = snapshot(SOPRO, "main")
        if history.generation(head) == generation:
            say(f"{SOPRO}: {generation} is at the head of main, commit {head.commit[:12]}")
            return head
    found, time = history.newest(generation, day)
    where = "" if day is None else f" around {day:%Y-%m-%d}"
    say(
        f"{SOPRO}: {generation} is at commit {found.commit[:12]} of {time:%Y-%m-%d}, the newest{where} whose "
        f"checkpoint is of {generation} ({history.looked_at} commits looked at)"
    )
    return found


class _History:
    """Generations by the digest of a checkpoint, so that one file is not looked at twice."""

    def __init__(self, known: dict[str, str]) -> None:
        self._generations: dict[str, str | None] = dict(known)
        self.looked_at, self._unreadable = 0, 0

    def newest(self, generation: str, day: datetime | None) -> tuple[Snapshot, datetime]:
        """From the day backwards to the first commit of this generation, then forwards as long as it goes on.

        Commits without a checkpoint, or with one of no known generation, are passed over.
        """
        listed = commits(SOPRO)
        before = [(commit, time) for commit, time in listed if day is None or time < day]
        after = [commit for commit in reversed(listed) if commit not in before]
        found = None
        for commit, time in before[:MOST]:
            if self.generation(at := self._look(commit)) == generation:
                found = at, time
                break
        for commit, time in after[:MOST]:
            kind = self.generation(at := self._look(commit))
            if kind == generation:
                found = at, time
            elif kind is not None and found is not None:
                break
        if found is None:
            where = "" if day is None else f"before {day:%Y-%m-%d}, nor after it, "
            doubt = f", {self._unreadable} answers were not that of a Hub or damaged: check HF_ENDPOINT and proxies"
            raise DownloadError(
                f"{SOPRO}: no commit {where}holds a checkpoint of {generation} ({self.looked_at} looked at"
                f"{doubt if self._unreadable else ''}): choose a commit with --revision"
            )
        return found

    def generation(self, at: Snapshot) -> str | None:
        """Of the checkpoint at a commit; None: there is none, or it is of no known one."""
        if CHECKPOINT not in at.files:
            return None
        digest = at.files[CHECKPOINT][1] or at.commit
        if digest not in self._generations:
            names = tensor_names(at, CHECKPOINT)
            self._unreadable += names is None
            self._generations[digest] = generation_of(names or ())
        return self._generations[digest]

    def _look(self, commit: str) -> Snapshot:
        self.looked_at += 1
        return snapshot(SOPRO, commit)
