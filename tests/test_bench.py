"""`sopro-np bench`: its figures are there and mean what they say. How large they are is nobody's promise."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import normal, on_kernels
from hypothesis import given
from hypothesis import strategies as st

from sopro_np import ops
from sopro_np.bench import processes, roofline, stages
from sopro_np.bench.run import bench
from sopro_np.cli.main import main
from sopro_np.engine import open_model
from sopro_np.errors import OpsError, SoproError
from sopro_np.ops.abi import FIELDS
from sopro_np.ops.native.capture import Graphs, capturing
from sopro_np.ops.native.commands import Call, profiled
from sopro_np.ops.quant import FORMATS, quantize
from sopro_np.precision import precise

FRAMES = 8
Capture = pytest.CaptureFixture[str]
SIZES, ROWS, SEEDS = st.integers(1, 70), st.integers(1, 40), st.integers(0, 2**32 - 1)


def arguments(arch: str, *more: str) -> list[str]:
    return ["bench", "--model", str(tiny.model_file(arch)), "--frames", str(FRAMES), "--runs", "1", *more]


@pytest.fixture(scope="module")
def figures() -> Callable[[str, str], dict[str, Any]]:
    """(arch, ops) -> what `bench` says about a tiny model."""
    return tiny.cached(lambda arch, name: bench(tiny.model_file(arch), FRAMES, 1, 1, name))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a `perf` in front of the path: it writes those lines where it is told to, and runs the command."""

    def make(lines: str) -> None:
        script = f'#!/bin/sh\nlog=$4; echo >>"{tmp_path}/runs"; n=$(wc -l <"{tmp_path}/runs")\n'
        script += f'cat >"$log" <<E\n{lines}\nE\nshift 6; [ "$1" = -- ] && shift; exec "$@"\n'
        (tmp_path / "perf").write_text(script)
        (tmp_path / "perf").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_figures(arch: str, implementation: str, figures: Callable[[str, str], dict[str, Any]]) -> None:
    facts, native = figures(arch, implementation), implementation == "native"
    json.dumps(facts, allow_nan=False)
    for key in ("load_s", "voice_s", "ar_s", "nar_s", "mimi_decode_s", "rtf", "ar_frames_per_s", "peak_rss_mb"):
        assert 0 < facts[key] < math.inf, key
    assert facts["cold_start_s"] > 0
    assert list(facts["stream_rss_mb"]) == ["1", "8", "16", "32"]
    assert all(1 < mb < 1 << 20 for mb in facts["stream_rss_mb"].values())
    assert facts["first_audio_s"] and min(facts["first_audio_s"].values()) > 0
    assert facts["ops"] == implementation
    loaded = ops.native.kernels() if native else None
    assert (facts["source"], facts["target"]) == ((loaded.source, loaded.target) if loaded else (None, None))
    assert (facts["arena_bytes"] > 0) == ("roofline" in facts) == native
    assert "perf" not in facts


@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_weights_that_speaking_reads(arch: str) -> None:
    """Counted anew from the file: every weight of these parts has a size there, once."""
    tensors = tiny.header(tiny.model_file(arch, "fp32"))[0]
    size = {name: b - a for name, entry in tensors.items() for a, b in [entry["data_offsets"]]}

    def of(*prefixes: str) -> int:
        return sum(n for name, n in size.items() if name.startswith(prefixes))

    unread = re.compile(r"sopro\.ar\.attention\.\d+\.(key|value|norm_memory|gate)\b")  # once per text, or a number
    ar = of("sopro.ar.") - sum(n for name, n in size.items() if unread.match(name))
    nar = of("sopro.nar.")
    mimi = of("mimi.decoder.", "mimi.upsample.", "mimi.decoder_transformer.")
    mimi += sum(size.get(f"mimi.quantizer.{part}.output.weight", 0) for part in ("semantic", "acoustic"))
    with ops.using("numpy"):
        found = stages.weights_bytes(open_model(tiny.model_file(arch, "fp32")))
    assert found["ar"] == ar
    assert found["nar"] == nar
    # a transposed convolution's bias is kept once per output phase
    assert mimi <= found["mimi_decode"] <= 1.1 * mimi


def test_a_cold_start_loads_no_compiler(tmp_path: Path) -> None:
    tiny.voice("v1.5").save(tmp_path / "voice")
    seconds, modules = processes.cold_start(tiny.model("v1.5"), tmp_path / "voice", 1)
    assert seconds > 0
    assert "sopro_np.engine" in modules
    unwanted = {"torch", "transformers", "sopro_np.convert", "sopro_np.bench"}
    if ops.current() == "numpy" or ops.native.kernels().source == "pack":
        unwanted |= {"numba", "llvmlite"}
    assert not unwanted & set(modules)


def test_a_failing_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SoproError, match="no-such"):
        processes.cold_start(tiny.model("v1.5"), tmp_path / "no-such", 1)


def test_share_is_a_row_of_the_table(capsys: Capture) -> None:
    assert main(arguments("v1", "--share", "--threads", "1")) == 0
    out = capsys.readouterr().out
    page = (tiny.ROOT / "docs" / "SPEED.md").read_text("utf-8")
    (head,) = (line for line in page.splitlines() if line.startswith("| machine |"))
    assert out.count("\n") == 1
    assert out.count("|") == head.count("|")


# ---------------------------------------------------------------- --perf


def test_beside_an_earlier_result(capsys: Capture, tmp_path: Path) -> None:
    """Every figure of both, as a ratio; and what makes the two incomparable."""
    old = tmp_path / "old.json"
    assert main(arguments("v1", "--ops", "numpy", "--json")) == 0
    before = json.loads(capsys.readouterr().out)
    before |= {"rtf": 1000 * before["rtf"], "threads": 77, "first_audio_s": {"none": 1e9}}
    old.write_text(json.dumps(before))
    assert main(arguments("v1", "--ops", "numpy", "--compare", str(old))) == 0
    said = capsys.readouterr().err
    assert "not of the same: threads 77, now" in said and "recipe" not in said.partition("not of the same")[2][:60]
    assert re.search(r"^rtf +\S+ +\S+ +0\.00$", said, re.M) and re.search(r"^first_audio_s none +1e\+09 ", said, re.M)
    (tmp_path / "other.json").write_text("[1]")
    for wrong in ("absent.json", "other.json"):
        assert main(arguments("v1", "--compare", str(tmp_path / wrong))) == 2
        assert f"{wrong}: " in capsys.readouterr().err
    assert main(arguments("v1", "--compare", str(old), "--batch", "1")) == 2


def test_without_perf(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(arguments("v1.5", "--perf", "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["perf"] is None
    assert err.count("\n") == 1
    assert "perf is not installed" in err


def test_perf_that_cannot_count(fake: Callable[[str], None]) -> None:
    fake("<not supported>,,cache-misses,0,100.00,,")
    counts, reason = processes.count_events(tiny.model_file("v1.5"), FRAMES, 1, "numpy")
    assert counts is None
    assert "cache-misses" in reason
    assert "\n" not in reason


def test_perf_counts_the_utterance_alone(fake: Callable[[str], None], tmp_path: Path) -> None:
    """The second process, which speaks, less the first, which does not; two kinds of cores are added up."""
    fake("# started on\n$((n * 1000)),,cycles:u,1,100.00,2.1,GHz\n<not counted>,,instructions:u,0,0.00,,\n"
         "$((n * 10)),,cpu_core/cache-misses/,1,100.00,,\n$((n * 7)),,cpu_atom/cache-misses/u,1,100.00,,")  # fmt: skip
    counts, reason = processes.count_events(tiny.model_file("v1.5"), FRAMES, 1, "numpy")
    assert not reason
    assert counts == {"cycles": 1000, "instructions": None, "cache-references": None, "cache-misses": 17}
    assert (tmp_path / "runs").read_text().count("\n") == 3


# ---------------------------------------------------------------- roofline


def profile(operation: Callable[[], Any]) -> tuple[Any, list[Call]]:
    with ops.using("native"), profiled() as calls:
        result = operation()
    return result, calls


@on_kernels
@pytest.mark.parametrize("name", FORMATS)
@given(rows=ROWS, outputs=SIZES, inputs=SIZES, glu=st.booleans(), seed=SEEDS)
def test_macs_of_a_product(name: str, rows: int, outputs: int, inputs: int, glu: bool, seed: int) -> None:
    act, n = ("glu", 2 * outputs) if glu else (None, outputs)
    form = FORMATS[name]
    inputs = inputs if form.group == 32 else -(-inputs // form.group) * form.group
    with ops.using("native"):
        w = ops.pack(quantize(normal(seed, n, inputs), name), act=act)
    x = normal(seed + 1, rows, inputs)
    y, calls = profile(lambda: ops.linear(x, w, act=act))
    (call,) = (c for c in calls if c.block == "gemm")
    macs, moved = roofline.work(call)
    step = {"int8": 4, "int4": form.group}.get(form.scheme, 1)
    assert call.kernel == f"gemm_{form.scheme}"
    assert macs == rows * n * -(-inputs // step) * step
    assert moved >= n * inputs // 2 + y.nbytes
    assert all(c.seconds > 0 for c in calls)
    with ops.using("native"):
        assert np.array_equal(y, ops.linear(x, w, act=act)), "calls one by one compute the same"


@on_kernels
@given(rows=ROWS, outputs=SIZES, inputs=SIZES, taps=st.integers(1, 4), dilation=st.integers(1, 3), seed=SEEDS)
def test_macs_of_convolutions(rows: int, outputs: int, inputs: int, taps: int, dilation: int, seed: int) -> None:
    past = normal(seed, (taps - 1) * dilation, inputs)
    with ops.using("native"):
        w = ops.pack(quantize(normal(seed, outputs, taps * inputs), "fp32", taps))
    y, calls = profile(lambda: ops.conv(normal(seed, rows, inputs), w, dilation=dilation, past=past))
    assert [roofline.work(c)[0] for c in calls if c.block == "gemm"] == [rows * outputs * taps * inputs]
    assert y.shape == (rows, outputs)
    filters = normal(seed, taps, inputs)
    _, calls = profile(lambda: ops.depthwise_conv(normal(seed, rows, inputs), filters, dilation=dilation, past=past))
    assert [roofline.work(c)[0] for c in calls] == [rows * inputs * taps]


@on_kernels
@given(rows=ROWS, before=st.integers(0, 30), heads=st.integers(1, 4), d=st.integers(1, 20), causal=st.booleans())
def test_macs_of_attention(rows: int, before: int, heads: int, d: int, causal: bool) -> None:
    q, k = normal(1, rows, heads * d), normal(2, before + rows, heads * d)
    _, calls = profile(lambda: ops.attention(q, k, k, heads, first=before if causal else None))
    pairs = sum(before + i + 1 if causal else before + rows for i in range(rows))
    assert [roofline.work(c)[0] for c in calls] == [2 * heads * d * pairs]


def test_every_kernel_has_its_work() -> None:
    assert set(roofline.WORK) == set(FIELDS)


@on_kernels
@pytest.mark.parametrize("arch", tiny.ARCHS)
def test_roofline_of_an_utterance(arch: str, figures: Callable[[str, str], dict[str, Any]]) -> None:
    found = figures(arch, "native")["roofline"]
    assert set(found["peaks"]) == {"int8_gmacs", "fp32_gmacs", "stream_gbs"}
    assert all(0 < peak < 1e6 for peak in found["peaks"].values())
    rows = found["rows"]
    assert {"gemm_int8", "quantise", "attention", "depthwise", "rms_norm"} <= {r["kernel"] for r in rows}
    for r in rows:
        assert r["calls"] >= 1 and r["seconds"] > 0 and r["bytes"] > 0 and r["macs"] >= 0, r
        assert r["gmacs"] == pytest.approx(r["macs"] / r["seconds"] / 1e9)
        assert 0 < r["of_roof"] < 100
    assert len({(r["kernel"], r["shape"]) for r in rows}) == len(rows)
    assert sum(r["seconds"] for r in rows) == pytest.approx(found["kernels_s"])
    assert sum(r["macs"] for r in found["kernels"]) == sum(r["macs"] for r in rows)
    assert found["kernels_s"] <= found["utterance_s"]
    lines = roofline.table(found)
    assert len(lines) <= 2 + len(found["kernels"]) + roofline.SHOWN
    assert max(map(len, lines)) <= 120


@on_kernels
def test_a_profile_sees_replayed_steps_and_only_while_it_lasts() -> None:
    with ops.using("native"), capturing(Graphs()):
        weight = np.ones(16, np.float32)

        def step(x: np.ndarray) -> np.ndarray:
            return ops.replay(weight, "two", lambda x: ops.rms_norm(ops.rms_norm(x, weight), weight), (x,))

        x = normal(1, 3, 16)
        expected = step(x)
        step(x)
        with profiled() as calls:
            with pytest.raises(OpsError, match="inside a profile"), profiled():
                pass
            assert np.array_equal(step(x), expected)
        assert [c.kernel for c in calls] == ["rms_norm"] * 2
        assert calls[0].fields["rows"] == 3
        step(x)
        assert len(calls) == 2
        ops.replay(weight, "other", lambda x: ops.softmax(ops.rms_norm(x, weight)), (x,))
        with profiled() as calls:  # a step that is captured meanwhile: each of its calls once
            ops.replay(weight, "other", lambda x: ops.softmax(ops.rms_norm(x, weight)), (x,))
        assert [c.kernel for c in calls] == ["rms_norm", "softmax"]


@on_kernels
@given(rows=ROWS, inputs=st.integers(8, 70), peaks=st.integers(0, 40), seed=SEEDS)
def test_share_of_sixteen_bits(rows: int, inputs: int, peaks: int, seed: int) -> None:
    """Rows with a peak far above the others are counted, and only when they are asked for."""
    peaks = min(peaks, rows)
    x = np.sign(normal(seed, rows, inputs)) * np.float32(1)
    x[:peaks, 0] = 1000
    with ops.using("native"):
        w = ops.pack(quantize(normal(seed + 1, 20, inputs), "int8"))
        for mode, expected in (("fast", 0), ("adaptive", peaks if inputs > 16 else None), ("fine", rows)):
            with precise(mode):
                _, calls = profile(lambda: ops.linear(x, w))
            shares = roofline.split_shares(calls)
            assert shares["rows"] == shares["macs"]
            if expected is not None:
                assert shares["rows"] == expected / rows
