"""tools/load_serve.py measures what it says, and a server's memory does not grow with the requests it has answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, on_kernels, python
from serving import Live, serving

from tools import load_serve

pytestmark = [on_kernels, pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning")]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("load") / "voices") as live:
        yield live


def table(text: str) -> list[list[str]]:
    """Cells of the lines of Markdown tables, without heads and lines below them."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for above, row in zip([[], *rows], rows) if row[0] != "---" and row is not rows[0] and above]


def test_loads_are_what_the_server_counted(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    before = live.service.scheduler.stats()
    load_serve.load_table(live.url, [1, 3], 0.5, lambda clients: 10.0 * clients)
    one, three = table(capsys.readouterr().out)
    after = live.service.scheduler.stats()
    assert (one[0], three[0]) == ("1", "3") and int(three[1]) >= 3
    assert after["finished"] - before["finished"] == int(one[1]) + int(three[1])
    for row in (one, three):
        p50, p95, p99 = (int(cell.removesuffix(" ms")) for cell in row[5:])
        assert 0 < p50 <= p95 <= p99
        assert float(row[2]) / float(row[3]) == pytest.approx(float(row[4].rstrip("%")) / 100, abs=0.01)


def test_audio_is_counted_in_seconds(live: Live) -> None:
    heard, took = asyncio.run(load_serve.closed_loop(live.url, 2, 0.2))
    for its in heard:
        assert 0 < its.first <= its.took <= took
    expected = {round(len(live.wav(text, seed=seed)) / 24000, 6) for seed, text in enumerate(load_serve.TEXTS)}
    assert {round(its.audio, 6) for its in heard[:2]} <= expected


def test_an_interactive_client_beside_bulk_work(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    load_serve.beside_table(live.url, 0.5)
    alone, beside = table(capsys.readouterr().out)
    assert int(alone[1]) > 0 and int(beside[1]) > 0 and alone[4] == "1.00"
    live.wait_idle()  # who worked has left


def test_quantiles() -> None:
    assert [load_serve.quantile(range(100), share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [0, 50, 95, 99, 99]


MANY = """
import asyncio, os, sys, warnings
from pathlib import Path
from serving import serving
from tools import load_serve

warnings.simplefilter("ignore")
with serving(Path(sys.argv[1])) as live:
    print(*asyncio.run(load_serve.many(live.url, os.getpid(), 400, 300)))
"""


def test_memory_does_not_grow_with_requests(tmp_path: Path) -> None:
    """In a process of its own, once it is warm: 5 % at most. (10,000 requests: docs/SERVING.md.)"""
    paths = os.pathsep.join((str(ROOT / "tests"), str(ROOT)))
    done = python("-c", MANY, tmp_path / "voices", PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    seen = [float(mb) for mb in done.stdout.split()]
    assert len(seen) == 11 and seen[-1] < 1.05 * seen[0], seen
