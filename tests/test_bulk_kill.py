"""kill -9 at any moment: what is done stays, and in the end there are the same files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, on_kernels
from test_bulk import FULL, Batch, batch, rows, surroundings, tree, write  # noqa: F401

from sopro_np.bulk.outputs import LONG

LONG_TEXT = " ".join(f"This is sentence number {n}, of very many." for n in range(LONG // 40 + 5))
KILLS = 12 if FULL else 2


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
    loud = [word for word in command(lines, out) if word != "--quiet"]
    process = subprocess.Popen(loud, env=environment(tmp_path), stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not list(out.glob(".parts/*.sentences")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number and b"Traceback" not in told
    assert number != signal.SIGINT or b"1 of 1 lines left; the same call does them" in told
    assert {path.name for path in (out / "wavs").iterdir()} == set()
    assert len(list(out.glob(".parts/*"))) == 2
