"""kill -9 at any moment, and workers of a cluster that are lost and started anew: in the end the same files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, on_kernels
from test_bulk import FULL, LINES, Batch, batch, records, rows, surroundings, tree, write  # noqa: F401

from sopro_np.bulk.outputs import LONG

LONG_TEXT = " ".join(f"This is sentence number {n}, of very many." for n in range(LONG // 40 + 5))
KILLS = 20 if FULL else 3


def command(lines: Path, out: Path, *more: object) -> list[str]:
    voice = out.parent / "me.voice.safetensors"
    words = ["batch", lines, "-o", out, "--voice", voice, "--max-frames", 3, "--quiet", *more]
    return [sys.executable, "-m", "sopro_np", *map(str, words)]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, **surroundings(folder), "PYTHONPATH": str(ROOT)}


@on_kernels
def test_killed_again_and_again(batch: Batch, tmp_path: Path) -> None:  # noqa: F811
    lines = write(tmp_path / "lines.jsonl", [{"id": "long", "text": LONG_TEXT}, *rows(60)])
    assert batch(lines, "-o", "whole") == 0
    whole = tree(tmp_path / "whole")
    chance, out, seen = random.Random(1), tmp_path / "out", set[str]()
    for kill in range(KILLS):
        process = subprocess.Popen(command(lines, out, "--width", 4), env=environment(tmp_path))
        until = time.monotonic() + 60
        while not out.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.6))
        process.kill()
        process.wait()
        now = {name: data for name, data in tree(out).items() if name.startswith("wavs/") and "/." not in name}
        assert all(data == whole[name] for name, data in now.items()), "no file is seen before it is whole"
        assert seen <= set(now), f"kill {kill}: what was done stays"
        seen = set(now)
    ages = {name: (out / name).stat().st_ino for name in seen}
    assert subprocess.run(command(lines, out), env=environment(tmp_path), check=False).returncode == 0
    assert tree(out) == whole
    again = [name for name, age in ages.items() if (out / name).stat().st_ino != age]
    assert len(again) <= KILLS, "a kill costs one finished line at most: the one without a record"


@on_kernels
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_politely_it_leaves_no_unfinished_file(number: int, tmp_path: Path) -> None:
    lines = write(tmp_path / "lines.jsonl", [{"id": "long", "text": LONG_TEXT * 20}])
    out = tmp_path / "out"
    process = subprocess.Popen(command(lines, out), env=environment(tmp_path), stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not list(out.glob(".parts/*.sentences")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number and b"Traceback" not in told
    assert {path.name for path in (out / "wavs").iterdir()} == set()
    assert len(list(out.glob(".parts/*"))) == 2


# ---------------------------------------------------------------- a cluster

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
    done, killed = threading.Event(), 0

    def harm() -> None:
        nonlocal killed
        chance = random.Random(2)
        while killed < KILLS and not done.wait(chance.uniform(0.5, 2)):
            workers = [w.process.pid for w in cluster.workers.values() if w.process is not None and w.process.pid]
            if workers and any((tmp_path / "out" / "wavs").glob("*.wav")):
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1

    thread = threading.Thread(target=harm)
    thread.start()
    try:
        code = batch(lines, "-o", "out", "--scheduler", cluster.scheduler_address, "--width", 4)
    finally:
        done.set()
        thread.join()
    assert code == 1 and killed > 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    found = records(tmp_path / "out" / "manifest.jsonl")
    assert [r["id"] for r in found] == [line["id"] for line in given[:-2]]
    assert [r["id"] for r in records(tmp_path / "out" / "errors.jsonl")] == ["bad", None]


def test_what_is_said_of_a_cluster_that_is_none(batch: Batch, tmp_path: Path, capfd: Any) -> None:  # noqa: F811
    lines = write(tmp_path / "lines.jsonl", rows(2)[1:])
    for address in ("nonsense", "tcp://127.0.0.1:1", "foo://127.0.0.1:1", ""):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sopro_np.bulk.cluster.PATIENCE", 1)
            assert batch(lines, "-o", "out", "--scheduler", address) == 1, address
        told = capfd.readouterr().err
        assert "no Dask scheduler answers there" in told and "Traceback" not in told, told
