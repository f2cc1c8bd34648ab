"""The native kernels as a whole: the same bits from every instruction set, memory that is used again, and threads."""

from __future__ import annotations

import dataclasses
import gc
import json
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kernel_hashes
import kernel_models
import numpy as np
import pytest
import tiny
from conftest import HERE, normal, on_kernels, python

from sopro_np import ops
from sopro_np.engine import open_model
from sopro_np.errors import FormatError, OpsError
from sopro_np.ops import native
from sopro_np.ops.native import commands, cpu, packs
from sopro_np.ops.native.arena import ALIGNMENT, Arena, bytes_of_all
from sopro_np.ops.native.capture import Graphs, capturing
from sopro_np.ops.native.launcher import LAUNCHER, Launcher
from sopro_np.ops.native.threads import MOST_CALLS, ThreadPool, on_threads
from sopro_np.ops.quant import FORMATS, quantize

FOREIGN = sorted({name for names in cpu.NEEDS.values() for name in names} - set(cpu.NEEDS.get(cpu.machine(), ())))
HARMLESS = {"memcpy", "memmove", "memset"}


pytestmark = on_kernels


# ---------------------------------------------------------------- every target


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of every format and a voice for each generation."""
    return kernel_models.make(tmp_path_factory.mktemp("models"))


@pytest.mark.usefixtures("own_packs")
def test_the_same_bits_from_every_target_thread_count_and_cut(models: Path):
    """Slow targets speak fewer models; what they compute must be among what the best one computed."""
    reports, targets = [], cpu.fitting()
    for name in targets:
        few = ["--few"] if name == "portable" else []
        done = python(HERE / "kernel_hashes.py", models, *few, SOPRO_NP_TARGET=name, SOPRO_NP_KERNELS="pack")
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(done.stdout))
    assert [report["target"] for report in reports] == targets
    assert len(reports[0]["hashes"]) == 2 + 2 * len(tiny.ARCHS) * len(kernel_models.RECIPES)
    assert not kernel_hashes.differences(reports)
    speeches = [ways for what, ways in reports[0]["hashes"].items() if "speaks" in what]
    assert len({value for ways in speeches for value in ways.values()}) == len(speeches)  # not all silence


def test_whoever_asks_for_nothing_gets_them():
    done = python("-c", "from sopro_np import ops; print(ops.current())")
    assert done.stdout == "native\n", done.stderr


def test_a_difference_is_seen():
    one = {"target": "a", "hashes": {"x": {"whole": "1", "by 1": "1"}, "y": {"whole": "2"}}}
    other = {"target": "b", "hashes": {"x": {"whole": "3"}}}
    assert kernel_hashes.differences([one]) == []
    assert kernel_hashes.differences([one, other]) == ["x: 1 by a, whole, a, by 1; 3 by b, whole"]


@pytest.mark.parametrize("name", ["sse9", *FOREIGN[:1]])
def test_a_target_of_another_cpu_is_refused(name: str, models: Path):
    model, voice = models / "v1-int8.safetensors", models / "v1.voice.safetensors"
    done = python(
        "-m", "sopro_np", "say", "Hello.", "--model", model, "--voice", voice, "-o", "-", SOPRO_NP_TARGET=name
    )  # fmt: skip
    assert done.returncode == 1 and not done.stdout
    assert f"SOPRO_NP_TARGET={name}" in done.stderr and "Traceback" not in done.stderr


# ---------------------------------------------------------------- packs, also those for other machines


def wanted_symbols(elf: bytes) -> set[str]:
    """Names that a 64-bit little-endian shared object leaves to others."""
    offset, size, count = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + i * size) for i in range(count)]
    names = set()
    for _, kind, _, _, start, length, link, _, _, entry in sections:
        if kind != 11:  # the dynamic symbols
            continue
        strings = sections[link][4]
        for at in range(start + entry, start + length, entry):
            name, _, _, section = struct.unpack_from("<IBBH", elf, at)
            if section == 0:
                names.add(elf[strings + name : elf.index(b"\0", strings + name)].decode())
    return names


def test_packs_need_nobody(own_packs: list[Path]):
    """Also those of other machines, if they were made here."""
    numpy = Path(np._core._multiarray_umath.__file__)
    assert wanted_symbols(numpy.read_bytes()) >= {"PyErr_SetString"}, "the reader sees nothing"
    every = sorted(packs.PACKS.glob(f"*-{packs.source_hash()}.so"))
    assert set(own_packs) <= set(every)
    for path in every:
        elf = path.read_bytes()
        assert len(elf) < 1 << 20
        wanted = wanted_symbols(elf)
        assert wanted <= HARMLESS | ({"fmaf", "floorf"} if "portable" in path.name else set()), path.name


# ---------------------------------------------------------------- memory


def test_blocks_are_used_again_when_the_last_view_is_gone():
    arena = Arena()
    first, place = arena.lend((5, 7))
    assert place % ALIGNMENT == 0 and first.ctypes.data == place
    first[:] = 3
    view = first[1:, ::2].T
    del first
    other, elsewhere = arena.lend((5, 7))
    assert elsewhere != place
    other[:] = 4
    assert (view == 3).all()
    del view
    gc.collect()
    again, back = arena.lend((7, 5))
    assert back == place
    size = arena.nbytes
    for _ in range(100):
        again, _ = arena.lend((7, 5))
    assert arena.nbytes <= size + 256, again.shape


def test_unused_blocks_go_back_to_the_system():
    gc.collect()
    others = bytes_of_all()
    arena = Arena()
    used, place = arena.lend((5, 7))
    used[:] = 3
    for size in (10, 1000, 1 << 20):  # the last one is mapped by itself
        arena.lend((size,))
    assert arena.nbytes >= 4 << 20
    assert bytes_of_all() == others + arena.nbytes
    arena.trim()
    assert arena.nbytes == 256, "what `used` lies in"
    assert bytes_of_all() == others + 256
    assert arena.lend((7, 5))[1] != place and (used == 3).all()
    del used
    assert arena.lend((5, 7))[1] == place, "still known after the trim"


def test_results_are_never_overwritten():
    """Kept arrays stay what they were, whatever is computed after them and in whatever order they go."""
    rng = np.random.default_rng(5)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    with ops.using("native"):
        for _ in range(300):
            x = rng.standard_normal((int(rng.integers(1, 6)), int(rng.integers(1, 40)))).astype(np.float32)
            y = ops.sigmoid(x)[:, :: int(rng.integers(1, 3))]
            kept.append((y, y.copy()))
            if len(kept) > 20:
                del kept[int(rng.integers(20))]
    assert all(np.array_equal(y, copy) for y, copy in kept)


def test_results_outlive_the_thread_that_made_them():
    results: list[np.ndarray] = []

    def work():
        with ops.using("native"):
            results.extend(ops.sigmoid(np.full((3, 50), i, np.float32)) for i in range(20))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    with ops.using("native"):
        more = [ops.sigmoid(np.full((3, 50), -1, np.float32)) for _ in range(40)]
    assert all(np.allclose(y, 1 / (1 + np.exp(-i)), atol=1e-6) for i, y in enumerate(results))
    while results:
        results.pop()  # given back from another thread, to an arena that nobody uses any more
    assert all(np.allclose(y, 1 / (1 + np.e), atol=1e-6) for y in more)


# ---------------------------------------------------------------- threads


def layer(seed: int) -> np.ndarray:
    """Some operations of every kind."""
    outputs = []
    for name in FORMATS:
        x = normal(seed, 21, 128)
        w = quantize(normal(seed + 1, 160, 128), name)
        h = ops.linear(ops.rms_norm(x), ops.pack(w, "glu"), act="glu")
        h = ops.attention(h[:, :32].copy(), h[:, 32:64].copy(), h[:, :32].copy(), 2, 0)
        outputs.append(ops.softmax(h))
    return np.concatenate(outputs)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch):
    """So that even tiny products are shared out."""
    monkeypatch.setattr("sopro_np.ops.native.arguments.PIECE", 300)


@pytest.mark.usefixtures("small_pieces")
def test_any_number_of_threads_gives_the_same_bits():
    with ops.using("native"):
        for seed in range(3):
            results = []
            for threads in (1, 2, 3, 7):
                with on_threads(threads):
                    results.append(layer(seed))
            assert all(np.array_equal(results[0], y) for y in results)


@pytest.mark.usefixtures("small_pieces")
def test_a_model_computes_on_its_own_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    """They are asked to help, and products are cut so that each has something to do."""
    asked, pieces = [], []
    pool, call = commands.pool, Launcher.call

    def noting(launcher: Launcher, kernel: str, count: int, **fields: int) -> None:
        pieces.extend([count] * kernel.startswith("gemm"))
        call(launcher, kernel, count, **fields)

    monkeypatch.setattr(commands, "pool", lambda kernels, n: asked.append(n) or pool(kernels, n))
    monkeypatch.setattr(Launcher, "call", noting)
    monkeypatch.setattr("sopro_np.cores.usable", lambda: 3)
    for threads in (1, 2, 3):
        tts = open_model(tiny.model_file("v1"), threads, "native")
        asked.clear(), pieces.clear()
        tts.decode(np.zeros((9, tts.mimi.config.codebooks), np.int64))
        assert set(asked) == {threads} - {1}
        assert 1 <= max(pieces) <= 4 * threads and (max(pieces) >= threads)


def test_workers_are_woken(monkeypatch: pytest.MonkeyPatch):
    helped = threading.Event()
    spying = dataclasses.replace(native.kernels(), worker=lambda *of: helped.set())
    of_two = ThreadPool(spying, 2)
    monkeypatch.setattr(commands, "pool", lambda kernels, n: of_two)
    with ops.using("native"), on_threads(2):
        assert np.allclose(ops.sigmoid(np.zeros((9, 40), np.float32)), 0.5)
    assert helped.wait(10)


@pytest.mark.usefixtures("small_pieces")
def test_many_python_threads_at_once():
    """They share one pool; whoever finds it taken computes alone."""

    def work(seed: int) -> np.ndarray:
        with ops.using("native"), on_threads(2):
            return layer(seed)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, [0, 1, 2] * 8))
    with ops.using("native"), on_threads(1):
        expected = [layer(seed) for seed in range(3)]
    assert all(np.array_equal(y, expected[i % 3]) for i, y in enumerate(results))


@pytest.mark.usefixtures("small_pieces")
def test_calls_of_one_piece_happen_once_and_in_order():
    """They are taken together, between others that are shared out. A memory pushed twice, or too early, would show."""
    rows, gain = normal(3, 9, 40), normal(1, 40)

    def memory_after(threads: int) -> np.ndarray:
        past = np.zeros((7, 40), np.float32)

        def step(x: np.ndarray) -> np.ndarray:
            for i in range(0, 8, 2):
                x = ops.rms_norm(x, gain)
                ops.push_history(past, x[i : i + 1])
                ops.push_history(past, x[i + 1 : i + 2])
                ops.push_history(past, ops.sigmoid(x[i : i + 1]))
            return x

        with ops.using("native"), on_threads(threads), capturing(Graphs()):
            for _ in range(200):
                ops.replay(gain, "step", step, (rows,), ops.Arrays((past,)))
        return past

    alone = memory_after(1)
    assert len(np.unique(alone, axis=0)) == 7
    for threads in (2, 3):
        assert np.array_equal(memory_after(threads), alone)


@pytest.mark.usefixtures("small_pieces")
def test_long_lists_and_sleeping_workers():
    """A list longer than the job board; and workers that have gone to sleep between two calls."""
    gain = normal(1, 40)

    def step(x: np.ndarray) -> np.ndarray:
        for _ in range(MOST_CALLS + 10):
            x = ops.rms_norm(x, gain)
        return x

    x = normal(2, 9, 40)
    with ops.using("native"):
        with on_threads(1):
            expected = step(x)
        with on_threads(2), capturing(Graphs()):
            for _ in range(4):
                assert np.array_equal(ops.replay(gain, "step", step, (x,)), expected)
                threading.Event().wait(0.05)


def test_a_list_grows(monkeypatch: pytest.MonkeyPatch):
    """Blocks move while it is written; a problem is still noticed by a kernel that was put on it before."""
    before = LAUNCHER.commands
    x, y = np.full((1, 16), np.nan, np.float32), np.zeros((1, 64), np.uint8)
    LAUNCHER.commands = listed = commands.CommandList(512)
    try:
        LAUNCHER.call(
            "quantise", 1, row_block=1, rows=1, past=0, past_rows=0, x=x.ctypes.data, width=16, pre=0, q=y.ctypes.data,
            q_stride=32, groups=0, group=32, scale=y.ctypes.data + 32, start=y.ctypes.data + 36, asymmetric=0, zero=0,
                limit=0, low=0, low_scale=0, low_start=0, status=listed.status_at,
        )  # fmt: skip
        room = len(listed.blocks)
        while len(listed.blocks) < 8 * room:
            LAUNCHER.call("push_history", 1, past=0, past_rows=0, x=0, x_rows=0, width=16)
        with pytest.raises(FormatError, match="NaN"):
            LAUNCHER.flush()
    finally:
        LAUNCHER.commands = before


def test_fields_are_called_by_name():
    for fields in ({"past": 0}, {"past": 0, "past_rows": 0, "x": 0, "x_rows": 0, "width": 16, "height": 3}):
        with pytest.raises((KeyError, OpsError)):
            LAUNCHER.call("push_history", 1, **fields)
        LAUNCHER.commands.clear()
