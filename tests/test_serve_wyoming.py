"""`sopro-np serve` speaks Wyoming beside HTTP, or alone; who may reach it; and it ends when all is said."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, on_kernels
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.tts import SynthesizeChunk, SynthesizeStart, SynthesizeStop

import sopro_np
from sopro_np.cli import wyoming
from sopro_np.cli.main import main
from sopro_np.wav import pcm16

TEXT = "Good morning to you all. The bridge was closed all day long. We went home by another road. It was late by then."


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], dict[str, tuple[str, int]]]]:
    """The process, ready, and the addresses it told."""
    command = [sys.executable, "-m", "sopro_np", "serve", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stderr is not None
    try:
        told = ""
        for line in process.stderr:
            told += line
            if "ready" in line:
                break
        found = re.findall(r"(http|wyoming)://([\d.]+):(\d+)/", told)
        assert found, told
        yield process, {kind: (host, int(port)) for kind, host, port in found}
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def stream_and_end(address: tuple[str, int], process: subprocess.Popen[str], more: str) -> bytes:
    """A text in pieces, whose server is told to end when its first audio is there -> all audio of it."""
    heard = b""
    async with asyncio.timeout(120), AsyncTcpClient(*address) as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        assert Info.from_event(event).tts[0].voices[0].name == "ross"
        await client.write_event(SynthesizeStart().event())
        for word in (TEXT + more).split(" "):
            await client.write_event(SynthesizeChunk(f"{word} ").event())
        await client.write_event(SynthesizeStop().event())
        while (event := await client.read_event()) is not None and event.type != "synthesize-stopped":
            assert event.type != "error", event.data
            if event.payload and not heard:
                process.send_signal(signal.SIGTERM)
            heard += event.payload or b""
    return heard


@on_kernels
@pytest.mark.parametrize("alone", [False, True])
def test_it_says_what_synthesize_says_and_ends_when_all_is_said(alone: bool, tmp_path: Path) -> None:
    """Also of a text of which some cannot be said, and words with a reading of their own."""
    (tmp_path / "words").write_text("road\troute\n")
    options: dict[str, Any] = {"lenient": True, "lexicon": {"road": "route"}} if alone else {}
    foreign = " \u4f60\u597d" if alone else ""
    expected = pcm16(sopro_np.synthesize(f"{TEXT}{foreign} ", seed=3, **options))
    given = ["--lenient", "--lexicon", tmp_path / "words"] if alone else []
    arguments = ["--no-http"] if alone else ["--port", 0]
    with serving("--wyoming-port", 0, "--seed", 3, *arguments, *given) as (process, addresses):
        assert sorted(addresses) == (["wyoming"] if alone else ["http", "wyoming"])
        assert asyncio.run(stream_and_end(addresses["wyoming"], process, foreign)) == expected
        assert process.wait(60) == 0
        with pytest.raises(OSError):
            socket.create_connection(addresses["wyoming"], 5)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--wyoming-port {taken}", "--wyoming-port"),
        ("--wyoming-port 65536", "--wyoming-port 65536 must be a number"),
        ("--host 0.0.0.0 --api-key-file {keys} --wyoming-port 0", "Wyoming knows no keys"),
        ("--host 0.0.0.0 --api-key-file {keys} --no-http", "Wyoming knows no keys"),
        ("--announce", "nobody else reaches"),
        ("--no-wyoming --announce", "leave one out"),
        ("--no-wyoming --wyoming-port 1", "leave one out"),
    ],
)
def test_what_does_not_go(
    arguments: str, said: str, taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("a-key-of-mine\n")
    assert main(["serve", "--port", "0", *arguments.format(taken=taken, keys=keys).split()]) == 2
    assert said in capsys.readouterr().err


def test_one_of_both_has_to_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--no-http", "--no-wyoming"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_usual_port_that_is_taken_is_told(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    """Nobody asked for Wyoming: a second server on a machine still serves HTTP."""
    told: list[str] = []
    args = Namespace(host="127.0.0.1", wyoming_port=None, no_wyoming=False, no_http=False, announce=False, i_know=False)
    monkeypatch.setattr(wyoming, "PORT", taken)
    assert wyoming.listen(args, told.append) is None
    assert len(told) == 1 and "without Wyoming" in told[0] and str(taken) in told[0]
