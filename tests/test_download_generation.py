"""Which commit `download` takes for a generation: found by looking at the headers of the repository's checkpoints."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import tiny
from hub_standin import Hub
from hub_worker import Worker, repository
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sopro_np.errors import DownloadError
from sopro_np.hub import MIMI, SOPRO, history
from sopro_np.hub.client import Snapshot
from sopro_np.hub.history import DAY, MOST, published
from sopro_np.tensorfile import TensorFile

pytest.importorskip("huggingface_hub")
README = {"README.md": b"# Sopro"}
HEADER = "bytes=0-100000"


@pytest.fixture
def hub(server: Hub) -> Hub:
    """With the codec only: each test writes its history of the model."""
    server.repos.clear()
    server.commit(MIMI, "2025-01-01T10:00:00.000Z", repository("v1", parts=("mimi",)))
    server.log.clear()
    return server


@pytest.fixture
def worker(hub: Hub, process: Worker) -> Worker:
    for folder in (process.cache, process.hf_home):
        shutil.rmtree(folder, ignore_errors=True)
    return process


def write(hub: Hub, *commits: tuple[str, dict[str, bytes]]) -> list[str]:
    """A history of the model's repository, the oldest first -> commit hashes."""
    return [hub.commit(SOPRO, f"2026-{date}:00:00.000Z", files) for date, files in commits]


def taken(worker: Worker, generation: str) -> tuple[str, str]:
    """Commit that `download` takes, and what it says of the choice."""
    answer = worker.download(generation)
    assert answer["error"] is None, answer
    (said,) = [line for line in answer["said"] if f"{generation} is at" in line]
    commit = TensorFile(answer["path"]).json("sources")["sopro"]["revision"]
    assert commit[:12] in said
    return commit, said


def headers(hub: Hub) -> list[str]:
    """Commits of which a checkpoint's header was asked for, and no more of it."""
    return [path.split("/")[4] for _, path, asked in hub.log if path.startswith("/cdn/") and asked == HEADER]


def test_both_around_the_day(hub: Hub, worker: Worker) -> None:
    """v1 was corrected on the very morning, pages came in between: the newest of each, said with its date."""
    v1, new = repository("v1"), repository("v1.5")
    ids = write(
        hub, ("01-05T10", README), ("01-20T10", repository("v1", 2)), ("02-03T10", v1 | README), ("02-04T09", v1),
        ("02-04T12", README), ("02-04T15", new), ("03-01T10", new | README),
    )  # fmt: skip
    commit, said = taken(worker, "v1")
    assert commit == ids[3]
    assert "2026-02-04, the newest around 2026-02-04" in said
    assert headers(hub) == [ids[2], ids[5]], "equal files are looked at once, and no older commit at all"
    hub.log.clear()
    commit, said = taken(worker, "v1.5")
    assert commit == ids[6]
    assert "head of main" in said
    assert headers(hub) == [ids[6]]
    assert not [path for _, path, _ in hub.log if "/commits/" in path]


def test_a_later_generation_at_the_head(hub: Hub, worker: Worker) -> None:
    """What is no v1.5, no checkpoint, or a placeholder, is passed over; nothing but its header is fetched."""
    other = tiny.Checkpoint({"transformer.weight": np.zeros((400, 100), np.float32)}, {}).write(worker.cache.parent)
    later, new = {"model.safetensors": other.read_bytes()}, repository("v1.5")
    assert len(later["model.safetensors"]) > 100_000
    ids = write(
        hub, ("01-20T10", repository("v1")), ("02-04T15", repository("v1.5", 2)), ("02-05T10", new),
        ("06-01T10", README), ("06-02T10", {"model.safetensors": b"soon"}), ("06-03T10", later),
    )  # fmt: skip
    commit, said = taken(worker, "v1.5")
    assert commit == ids[2]
    assert "of 2026-02-05" in said and "4 commits looked at" in said
    assert [(path, asked) for _, path, asked in hub.log if "/cdn/" in path and ids[5] in path] == [
        (f"/cdn/{SOPRO}/{ids[5]}/model.safetensors", HEADER)
    ]
    assert taken(worker, "v1")[0] == ids[0]


def test_a_header_of_more_than_the_first_piece(hub: Hub, worker: Worker) -> None:
    extra = {f"training.ema.{i:04}.weight": np.zeros(1, np.float32) for i in range(1200)}
    path = tiny.source("v1.5").replaced(**extra).write(worker.cache.parent)
    [commit] = write(hub, ("02-05T10", repository("v1.5") | {"model.safetensors": path.read_bytes()}))
    assert taken(worker, "v1.5")[0] == commit
    size = int.from_bytes(path.read_bytes()[:8], "little")
    assert size > 100_000
    assert f"bytes=8-{size + 7}" in [asked for _, path, asked in hub.log if "/cdn/" in path]


def test_none_of_the_generation(hub: Hub, worker: Worker) -> None:
    """Refused with what helps; a commit that is named is taken as before."""
    ids = write(hub, ("01-20T10", repository("v1")), ("03-20T10", README))
    worker.bad(rf"{SOPRO}: no commit holds a checkpoint of v1\.5 \(\d looked at\): .*--revision", "v1.5")
    write(hub, ("04-01T10", {"model.safetensors": b"<html>Log in</html>"}))
    worker.bad("1 answers were not that of a Hub or damaged: check HF_ENDPOINT.*--revision", "v1.5")
    hub.log.clear()
    worker.good("v1", revision=ids[0])
    assert not headers(hub)
    assert not [path for _, path, _ in hub.log if "/commits/" in path]


def test_known_files_are_not_looked_at_again(hub: Hub, worker: Worker) -> None:
    """Another recipe, and later pages: the first download said what the checkpoint is."""
    write(hub, ("02-05T10", repository("v1.5")))
    worker.good()
    write(hub, ("02-06T10", repository("v1.5") | README))
    hub.log.clear()
    worker.good(recipe="fp32")
    assert "already there" in worker.download()["said"][-1]
    assert not headers(hub)


# ---------------------------------------------------------------- any history

KINDS = {"v1": {"stages.B.pre.weight"}, "v1.5": {"nar.pre.weight"}, "other": {"x"}, "junk": None, "none": None}
COMMITS = st.lists(
    st.tuples(st.integers(-90, 90), st.sampled_from(sorted(KINDS)), st.integers(0, 1)), min_size=0, max_size=12
)


class Past:
    """A repository's history in memory, [(days after v1.5 came, kind of checkpoint, which of its kind)]."""

    def __init__(self, commits: list[tuple[int, str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits = {f"{i:040x}": commit for i, commit in enumerate(sorted(commits, key=lambda c: c[0]))}
        self.read: list[str] = []
        monkeypatch.setattr(history, "commits", lambda repo: self.listed())
        monkeypatch.setattr(history, "snapshot", lambda repo, revision: self.snapshot(revision))
        monkeypatch.setattr(history, "tensor_names", self.tensor_names)

    def listed(self) -> list[tuple[str, datetime]]:
        day = datetime(2026, 2, 4, 12, tzinfo=UTC)
        return [(c, day + timedelta(days=days)) for c, (days, _, _) in reversed(self.commits.items())]

    def snapshot(self, revision: str) -> Snapshot:
        commit = list(self.commits)[-1] if revision == "main" else revision
        _, kind, number = self.commits[commit]
        return Snapshot(SOPRO, commit, {} if kind == "none" else {"model.safetensors": (9, f"{kind}{number}")})

    def tensor_names(self, at: Snapshot, name: str) -> set[str] | None:
        self.read.append(at.files[name][1])
        return KINDS[self.commits[at.commit][1]]

    def of(self, kind: str) -> list[str]:
        """Commits with such a checkpoint, the oldest first."""
        return [commit for commit, (_, k, _) in self.commits.items() if k == kind]


@pytest.mark.parametrize("generation", DAY)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=COMMITS)
def test_any_history(generation: str, commits: list[tuple[int, str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the generation if there is any; the newest wherever v1.5 followed v1; no file is looked at twice."""
    past = Past(commits, monkeypatch)
    found = None
    if commits:
        try:
            found = published(generation, {}, lambda line: None).commit
        except DownloadError as error:
            assert "--revision" in str(error)
    assert (found in past.of(generation)) if past.of(generation) else found is None
    in_order = not past.of("v1") or not past.of("v1.5") or past.of("v1")[-1] < past.of("v1.5")[0]
    if found and (generation == "v1.5" or in_order):
        assert found == past.of(generation)[-1]
    assert len(past.read) == len(set(past.read))


def test_a_long_history_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past([(-3 - k, "other", k) for k in range(300)] + [(3 + k, "other", -k) for k in range(300)], monkeypatch)
    with pytest.raises(DownloadError, match=rf"\({2 * MOST} looked at\)"):
        published("v1", {}, lambda line: None)
    assert len(past.read) <= 2 * MOST
