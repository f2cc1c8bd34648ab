"""Load on a server: closed loops of clients, an interactive one beside bulk work, and memory after many requests.

    python tools/load_serve.py                                # the embedded voice: 1, 4 and 16 clients, 60 s each
    python tools/load_serve.py --model published.safetensors --ref voice.wav
    python tools/load_serve.py --url http://pi:8000           # a server that runs already, another one's too
    python tools/load_serve.py --requests 10000               # resident memory
    python tools/load_serve.py --requests 10000 --allocators  # the same under each allocator

Each client sends its next request when the last one is answered to its end. The server is `sopro-np serve`, a process
of its own on this machine, as the clients are; tables are Markdown. The batch's bound is what the same texts give when
a batch of that many is stepped with nothing around it (Python API, no clients). With --url there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes.util
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import sopro_np  # noqa: E402

TEXTS = (
    "The quick brown fox jumps over the lazy dog near the river.",
    "Could you tell me where the nearest station is, please?",
    "It was raining when we left, but by noon the sky had cleared.",
    "The meeting is at half past three, in the room on the second floor.",
)
SHORT = ("No.", "Yes.", "Good.", "Maybe so.")
FORMATS = ("pcm", "mp3", "wav", "flac", "opus")
BULK = 8  # clients of bulk work beside the interactive one
RATE = 24000  # of the audio, unless the server says another one
WARM = 1000  # requests before memory is first read


class Nothing(Exception):
    """The model said nothing of a text, as one with random weights sometimes does: no fault of the server's."""


@dataclass(frozen=True)
class Heard:
    """Seconds until the first audio, until all of it, and of audio."""

    first: float
    took: float
    audio: float


async def ask(client: httpx.AsyncClient, text: str, seed: int, form: str = "pcm", priority: str = "normal") -> Heard:
    """One request, read as it comes; audio is counted in pcm alone."""
    body = {
        "model": "any",
        "voice": "alloy",
        "input": text,
        "response_format": form,
        "seed": seed,
        "priority": priority,
    }
    started, first, size = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        if answer.status_code != 200:
            told = (await answer.aread()).decode()
            raise Nothing if '"no_audio"' in told else SystemExit(f"{answer.status_code}: {told}")
        rate = int(answer.headers.get("x-sopro-sample-rate", RATE))
        async for part in answer.aiter_raw():
            first = first or time.perf_counter() - started
            size += len(part)
    return Heard(first, time.perf_counter() - started, size / 2 / rate if form == "pcm" else 0.0)


def quantile(values: Sequence[float], share: float) -> float:
    """Of the sorted values the one at that share."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def closed_loop(url: str, clients: int, seconds: float) -> tuple[list[Heard], float]:
    """What so many clients heard, and how long that took in all."""
    heard: list[Heard] = []
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=httpx.Limits(max_connections=None)) as client:
        started = time.perf_counter()

        async def loop(i: int) -> None:
            seed = i
            while time.perf_counter() < started + seconds:
                with contextlib.suppress(Nothing):
                    heard.append(await ask(client, TEXTS[seed % len(TEXTS)], seed))
                seed += clients

        await asyncio.gather(*(loop(i) for i in range(clients)))
        return heard, time.perf_counter() - started


async def beside_bulk(url: str, seconds: float) -> tuple[list[float], list[float]]:
    """First audio (s) of an interactive client, one request after the other: alone, and beside BULK bulk ones."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:

        async def listen() -> list[float]:
            firsts, until, seed = [], time.perf_counter() + seconds, 0
            while time.perf_counter() < until:
                with contextlib.suppress(Nothing):
                    firsts.append((await ask(client, TEXTS[seed % 4], seed, priority="interactive")).first)
                await asyncio.sleep(0.1)
                seed += 1
            return firsts

        async def work(i: int) -> None:
            for seed in itertools.count(i, BULK):
                with contextlib.suppress(Nothing):
                    await ask(client, " ".join(TEXTS), seed, priority="bulk")

        alone = await listen()
        others = [asyncio.create_task(work(i)) for i in range(BULK)]
        await asyncio.sleep(2)
        beside = await listen()
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        return alone, beside


def bound(model: str | None, voice: Path | None, clients: int, seconds: float) -> float:
    """Seconds of audio per second of a batch that is always full, with nothing around it."""
    with sopro_np.load(model) as tts:
        speaker = None if voice is None else tts.load_voice(voice) if "safetensors" in voice.name else tts.voice(voice)
        tts.warm_up()
        batch, seed, samples = tts.batch(clients), 0, 0
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            while len(batch) < clients:
                batch.add(TEXTS[seed % len(TEXTS)], speaker, seed=seed, keep=False)
                seed += 1
            samples += sum(len(wav) for _, wav in batch.step())
        return samples / tts.sample_rate / (now - started)


# ---------------------------------------------------------------- servers


@contextlib.contextmanager
def server(model: str | None, voice: Path | None, **environment: str) -> Iterator[tuple[str, int]]:
    """`sopro-np serve` on a free port -> its address and process id. voice: a file, the default one."""
    command = [sys.executable, "-m", "sopro_np", "serve", "--port", "0", "--no-wyoming"]
    command += ["--model", model] if model else []
    command += ["--voices", str(voice.parent), "--voice", voice.name.partition(".")[0]] if voice else []
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=settings) as process:
        assert process.stderr is not None
        said = ""
        try:
            while "ready" not in said:
                if not (line := process.stderr.readline()):
                    raise SystemExit(said)
                said += line
            yield re.findall(r"(http://\S+)/ ", said)[0], process.pid
        finally:
            process.terminate()
            process.communicate(timeout=60)


def resident(pid: int) -> float:
    """MB of a process in RAM."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def many(url: str, pid: int, requests: int, warm: int) -> list[float]:
    """Resident MB after `warm` short requests in all formats, and after each tenth of so many more of them."""
    seen: list[float] = []
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        done = 0

        async def loop(i: int) -> None:
            nonlocal done
            for seed in range(i, warm + requests, BULK):
                await ask(client, SHORT[seed % len(SHORT)], seed, FORMATS[seed % len(FORMATS)])
                done += 1
                if done >= warm and (done - warm) % max(1, requests // 10) == 0:
                    seen.append(resident(pid))

        await asyncio.gather(*(loop(i) for i in range(BULK)))
    return seen


def allocators() -> dict[str, dict[str, str]]:
    """Environment of a server by the name of its allocator; of those that are installed here."""
    named = {
        "glibc": {},
        "glibc, MALLOC_ARENA_MAX=2": {"MALLOC_ARENA_MAX": "2"},
        "glibc, MALLOC_ARENA_MAX=1": {"MALLOC_ARENA_MAX": "1"},
    }
    for name, file in (("jemalloc", "jemalloc"), ("tcmalloc", "tcmalloc_minimal")):
        if (path := ctypes.util.find_library(file)) is not None:
            named[name] = {"LD_PRELOAD": path}
        else:
            print(f"no {name} here (Debian: libjemalloc2, libtcmalloc-minimal4)", file=sys.stderr)
    return named


# ---------------------------------------------------------------- tables


def row(*cells: object) -> None:
    """One line of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head(*cells: str) -> None:
    """The first lines of a table."""
    row(*cells)
    row(*("---" for _ in cells))


def ms(seconds: list[float], share: float) -> str:
    """A quantile, in milliseconds."""
    return f"{quantile(seconds, share) * 1000:.0f} ms"


def load_table(url: str, clients: Sequence[int], seconds: float, most: Callable[[int], float] | None) -> None:
    """Closed loops of so many clients; most: the batch's bound."""
    head("clients", "requests", "audio, s/s", "batch's bound", "share of it", "first audio p50", "p95", "p99")
    for count in clients:
        heard, took = asyncio.run(closed_loop(url, count, seconds))
        speed, firsts = sum(its.audio for its in heard) / took, [its.first for its in heard]
        limit = most(count) if most else None
        shares = (f"{limit:.2f}", f"{speed / limit:.0%}") if limit else ("", "")
        row(count, len(heard), f"{speed:.2f}", *shares, *(ms(firsts, share) for share in (0.5, 0.95, 0.99)))


def beside_table(url: str, seconds: float) -> None:
    """An interactive client alone and beside bulk work."""
    alone, beside = asyncio.run(beside_bulk(url, seconds))
    head("interactive", "requests", "first audio p50", "p95", "p95 / alone")
    for name, firsts in (("alone", alone), (f"beside {BULK} bulk", beside)):
        times = quantile(firsts, 0.95) / quantile(alone, 0.95)
        row(name, len(firsts), ms(firsts, 0.5), ms(firsts, 0.95), f"{times:.2f}")


def memory_table(model: str | None, voice: Path | None, requests: int, warm: int, names: Sequence[str] = ()) -> None:
    """Resident memory of a server over so many requests, under each of these allocators (none: all)."""
    head("allocator", "fresh, MB", "warm", "most", "at the end", "growth since warm", "requests/s")
    for name, environment in allocators().items():
        if names and name not in names:
            continue
        with server(model, voice, **environment) as (url, pid):
            fresh, started = resident(pid), time.perf_counter()
            seen = asyncio.run(many(url, pid, requests, warm))
            speed = (warm + requests) / (time.perf_counter() - started)
            growth = f"{seen[-1] / seen[0] - 1:+.1%}"
            row(name, *(f"{mb:.0f}" for mb in (fresh, seen[0], max(seen), seen[-1])), growth, f"{speed:.0f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The tables that were asked for, on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="a server that runs (default: one is started)")
    where.add_argument("--model", metavar="FILE|NAME", help="default: the embedded one")
    parser.add_argument("--ref", type=Path, metavar="FILE", help="a voice for the model: recording or voice file")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of each measurement (default: 60)")
    parser.add_argument("--requests", type=int, metavar="N", help="memory after so many, instead of load")
    parser.add_argument("--warm", type=int, default=WARM, metavar="N", help="requests before (default: %(default)s)")
    parser.add_argument("--allocators", action="store_true", help="with --requests: under each allocator")
    args = parser.parse_args(arguments)
    if args.seconds <= 0 or args.warm < 1 or min(args.clients) < 1 or (args.requests is not None and args.requests < 1):
        parser.error("--seconds, --clients, --requests and --warm must be above 0")
    print(f"{os.cpu_count()} CPUs, load before {os.getloadavg()[0]:.1f}\n", file=sys.stderr)
    if args.requests:
        memory_table(args.model, args.ref, args.requests, args.warm, () if args.allocators else ("glibc",))
        return 0
    with contextlib.ExitStack() as stack:
        most = None if args.url else lambda count: bound(args.model, args.ref, count, args.seconds)
        url = args.url or stack.enter_context(server(args.model, args.ref))[0]
        load_table(url, args.clients, args.seconds, most)
        print()
        beside_table(url, args.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
