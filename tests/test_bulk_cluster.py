"""Lines spoken by the workers of a Dask cluster, which are lost and started anew: the files that one process makes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import tiny
from conftest import ROOT, on_kernels
from test_bulk import LINES, Batch, batch, records, rows, surroundings, tree, write  # noqa: F401
from test_bulk_kill import KILLS, LONG_TEXT

from sopro_np.bulk.cluster import Dispatch, Model, Parcel, speak_group
from sopro_np.bulk.key import file_digest
from sopro_np.bulk.plan import Task
from sopro_np.engine import Sopro
from sopro_np.errors import BulkError

distributed: Any = pytest.importorskip("distributed")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A scheduler and two worker processes, each with somebody who starts it anew when it is lost."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in surroundings(tmp_path).items():
        monkeypatch.setenv(name, value)
    import dask

    # Busy machines start slowly; and these workers are lost more often than any in the world.
    with dask.config.set({"distributed.scheduler.allowed-failures": 5, "distributed.comm.timeouts.connect": "60s"}):
        own = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        with own:
            yield own


@on_kernels
def test_lines_on_a_cluster_that_loses_workers(cluster: Any, batch: Batch, tmp_path: Path) -> None:  # noqa: F811
    """Also two lines that are bad, one of them in the workers' eyes only, and a long text in slices."""
    bad = [{"id": "bad", "text": "\u4e2d"}, {"id": "../x", "text": "x"}]
    given = [{"id": "long", "text": LONG_TEXT}, *rows(LINES), *bad]
    lines = write(tmp_path / "lines.jsonl", given)
    assert batch(lines, "-o", "whole") == 1
    done, killed, seen = threading.Event(), 0, set[str]()

    def harm() -> None:
        """Kill a worker at work; once it was started anew, the next one. (One killed while it starts stays away.)"""
        nonlocal killed
        chance = random.Random(2)
        while killed < KILLS and not done.wait(chance.uniform(0.2, 1.5) if killed else 0.01):
            seen.update(there := set(cluster.scheduler.workers))
            alive = [w.process.pid for w in cluster.workers.values() if w.worker_address in there and w.process]
            if len(alive) == 2 and any((tmp_path / "out" / "wavs").glob("*.wav")):
                os.kill(chance.choice(alive), signal.SIGKILL)
                killed += 1
                while set(cluster.scheduler.workers) == there and not done.wait(0.05):
                    pass

    thread = threading.Thread(target=harm)
    thread.start()
    try:
        code = batch(lines, "-o", "out", "--scheduler", cluster.scheduler_address, "--width", 4)
    finally:
        done.set()
        thread.join()
    assert code == 1 and killed > 0 and len(seen) >= min(killed, 2) + 1
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    found = records(tmp_path / "out" / "manifest.jsonl")
    assert [r["id"] for r in found] == [line["id"] for line in given[:-2]]
    assert [r["id"] for r in records(tmp_path / "out" / "errors.jsonl")] == ["bad", None]


@on_kernels
def test_a_cluster_that_goes_away(cluster: Any, batch: Batch, tmp_path: Path, capfd: Any) -> None:  # noqa: F811
    """What was written stays, and the next call, wherever, does the rest."""
    lines = write(tmp_path / "lines.jsonl", rows(40))
    done = threading.Event()

    def leave() -> None:
        while not list((tmp_path / "out").glob("wavs/*.wav")) and not done.wait(0.01):
            pass
        cluster.close()

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        code = batch(lines, "-o", "out", "--scheduler", cluster.scheduler_address, "--width", 2)
    finally:
        done.set()
        thread.join()
    told = capfd.readouterr().err
    assert code == 1 and "the scheduler has gone away; call again" in told and "Traceback" not in told, told
    kept = {path: path.stat().st_ino for path in (tmp_path / "out" / "wavs").iterdir()}
    assert kept and batch(lines, "-o", "out") == 0 and batch(lines, "-o", "whole") == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    again = [path for path, inode in kept.items() if path.stat().st_ino != inode]
    assert len(again) <= 1


@pytest.mark.parametrize("moment", ["answer", "workers"])
def test_a_scheduler_that_goes_away_between_two_looks(moment: str) -> None:
    """The future is done, its result is asked for, and the scheduler is gone; or it is asked for its workers."""
    future, client = Mock(status="finished"), Mock()
    lost = distributed.client.FutureCancelledError("speak_group-1", "scheduler-connection-lost")
    future.result.side_effect = future.exception.side_effect = lost
    client.nthreads.side_effect = distributed.comm.core.CommClosedError("closed")
    dispatch = Dispatch(client, "tcp://there:8786", Model("m", "0", 1, "numpy", 1), {}, Mock())
    with pytest.raises(BulkError, match="tcp://there:8786: the scheduler has gone away; call again"):
        dispatch._take(future, []) if moment == "answer" else dispatch._send(iter([]), Mock())


def test_a_worker_must_have_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By path or by hash; another file of that name is none, nor is another version of this program."""
    monkeypatch.setenv("SOPRO_NP_CACHE", str(tmp_path))
    monkeypatch.delenv("SOPRO_NP_MODEL", raising=False)
    path, codes = tiny.model_file("v1"), tiny.voice("v1").codes
    digest, size = file_digest(path), path.stat().st_size
    parcel = Parcel(Task(1, "x", "No.", 1, None, codes, ""), None)
    warm_up, warmed = Sopro.warm_up, list[Sopro]()
    monkeypatch.setattr(Sopro, "warm_up", lambda tts: (warmed.append(tts), warm_up(tts))[1])
    (answer,) = speak_group(Model(str(path), digest, size, "numpy", 1), [parcel], {"max_frames": 2})
    assert answer.said is not None and len(answer.data) == 2 * answer.said.samples > 0
    assert speak_group(Model(str(path), digest, size, "numpy", 1), [parcel], {"max_frames": 2}) == [answer]
    assert len(warmed) == 1, "once in a process"
    for model, words in (
        (Model("elsewhere.safetensors", digest, size, "numpy", 1), "has no model with the SHA-256"),
        (Model(str(tiny.model_file("v1.5")), digest, size, "numpy", 1), "has no model with the SHA-256"),
        (Model(str(path), digest, size, "numpy", 1, "0.0.0"), "not 0.0.0"),
    ):
        with pytest.raises(BulkError, match=words):
            speak_group(model, [parcel], {})
    shutil.copy(path, tmp_path / "any-name.safetensors")
    (again,) = speak_group(Model("elsewhere.safetensors", digest, size, "numpy", 1), [parcel], {"max_frames": 2})
    assert again == answer


def test_what_is_said_of_a_cluster_that_is_none(batch: Batch, tmp_path: Path, capfd: Any) -> None:  # noqa: F811
    lines = write(tmp_path / "lines.jsonl", rows(2)[1:])
    for address, code, words in (
        ("tcp://127.0.0.1:1", 1, "no Dask scheduler answers there"),
        *((bad, 2, "an address is needed") for bad in
          ("", "localhost", "localhost:x", "localhost:0", "localhost:70000", "tcp://", "http://localhost:1", "a b:1")),
    ):  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sopro_np.bulk.cluster.PATIENCE", 1)
            assert batch(lines, "-o", "out", "--scheduler", address) == code, address
        told = capfd.readouterr().err
        assert words in told and "Traceback" not in told, told
