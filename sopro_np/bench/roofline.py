"""How close every kernel comes to what this machine can do: work and bytes of its calls against measured peaks.

A call's work is read off its argument block (ops/abi.py): multiply-accumulates that the result needs (padding does
not count), and bytes that must move at least once (inputs, weights, results). The roof of a call is the later one of
"all its MACs at peak" and "all its bytes at streaming speed"; a kernel whose data lie in a cache can be above it.
Williams, Waterman, Patterson 2009, https://doi.org/10.1145/1498765.1498785
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import numpy as np

from sopro_np import ops
from sopro_np.ops.abi import ACTS
from sopro_np.ops.native.commands import Call, profiled
from sopro_np.ops.native.threads import on_threads
from sopro_np.ops.quant import GROUP, QTensor

Fields = dict[str, int]
Work = tuple[int, int]  # multiply-accumulates, bytes
STREAMED = 4096, 8192  # a weight of 32 MB as int8: more than small machines have cache
IN_CACHE = {"int8": (512, 512), "fp32": (256, 256)}  # weights of 256 KB
CACHE_ROWS, REPEATS = 128, 20
SHOWN = 12  # shapes in the table for people


INTEGERS = ("gemm_int8", "gemm_int4")


def inputs_of(kernel: str, f: Fields) -> int:
    """Inputs of one tap, with what fills up the last step."""
    per_step = {"gemm_int8": 4, "gemm_int4": GROUP * f["group"]}
    return f["steps"] * per_step.get(kernel, 1)


def _gemm(kernel: str, f: Fields) -> Work:
    outputs = f["width"] * (2 if f["act"] == ACTS.index("glu") else 1)
    macs = f["rows"] * outputs * f["taps"] * inputs_of(kernel, f)
    x = f["rows"] * f["x_stride"] + (f["taps"] - 1) * f["tap_stride"]
    y = 4 * f["rows"] * f["width"] * (2 if f["residual"] else 1)
    return macs, x + f["panels"] * f["panel_bytes"] + y


def _attention(_: str, f: Fields) -> Work:
    width, seen = f["pieces"] // f["row_blocks"] * f["d"], f["rows"] * f["keys"]
    if f["first"] >= 0:
        seen = sum(min(f["keys"], f["first"] + i + 1) for i in range(f["rows"]))
    return 2 * width * seen, 8 * width * (f["rows"] + f["keys"])


def _depthwise(_: str, f: Fields) -> Work:
    rows = f["past_rows"] + f["x_rows"] + f["rows"] * (2 if f["residual"] else 1)
    return f["rows"] * f["width"] * f["taps"], 4 * f["width"] * (rows + f["taps"] * f["phases"])


def _embed(_: str, f: Fields) -> Work:
    terms, y = f["rows"] * f["terms"], f["rows"] * f["width"]
    return terms * f["width"], terms * f["row_bytes"] + 4 * y * (2 if f["residual"] else 1)


def _quantise(_: str, f: Fields) -> Work:
    return 0, f["rows"] * (4 * f["width"] + f["q_stride"] + 4 + 4 * max(f["groups"], 1))


def _per_number(size: int) -> Callable[[str, Fields], Work]:
    """Kernels that go over rows and move so many bytes for every number of them."""
    return lambda _, f: (0, size * f["rows"] * f["width"])


WORK: dict[str, Callable[[str, Fields], Work]] = {
    "gemm": _gemm,
    "attention": _attention,
    "depthwise": _depthwise,
    "embed": _embed,
    "argmax": lambda _, f: (0, 4 * f["rows"] * f["heads"] * f["width"]),
    "quantise": _quantise,
    "pack": lambda _, f: (0, 2 * f["pieces"] * f["panel_bytes"]),
    "concat_rows": _per_number(8),
    "norm": _per_number(8),
    "rows": _per_number(8),
    "match_rms": _per_number(12),
    "rope": lambda _, f: (0, 8 * f["rows"] * f["half"] * (2 * f["heads"] + 1)),
    "push_history": lambda _, f: (0, 8 * f["past_rows"] * f["width"]),
    "sample": lambda _, f: (0, 4 * f["width"]),
}


def work(call: Call) -> Work:
    """(multiply-accumulates, bytes) of one call."""
    return WORK[call.block](call.kernel, call.fields)


def shape(call: Call) -> str:
    """What calls of one row of the table have in common: rows up to a power of four, and what the kernel is about."""
    f = call.fields
    rows = "rows" if "rows" in f else "x_rows"
    head = f"{_up_to(f[rows])} x " if rows in f else ""
    if call.block == "gemm":
        inputs = inputs_of(call.kernel, f)
        outputs = f["width"] * (2 if f["act"] == ACTS.index("glu") else 1)
        return f"{head}{outputs} x {inputs}" + (f" x {f['taps']} taps" if f["taps"] > 1 else "")
    if call.block == "attention":
        return f"{head}{f['pieces'] // f['row_blocks']} heads of {f['d']}, {_up_to(f['keys'])} keys"
    width = f.get("width", 2 * f.get("half", 0) * f.get("heads", 0))
    return f"{head}{width}" + (f" x {f['taps']} taps" if "taps" in f else "")


def _up_to(n: int) -> str:
    top = 1
    while top < n:
        top *= 4
    return str(n) if n == top or n < 2 else f"{top // 4 + 1}-{top}"


def summarise(
    calls: Iterable[Call], peaks: dict[str, float], kind: Callable[[Call], str] = shape
) -> list[dict[str, Any]]:
    """One row per kernel and kind of call, the most expensive first."""
    sums: dict[tuple[str, str], list[Any]] = {}
    for call in calls:
        macs, moved = work(call)
        peak = peaks["int8_gmacs" if call.kernel in INTEGERS else "fp32_gmacs"]
        roof = max(macs / peak, moved / peaks["stream_gbs"]) / 1e9
        row = sums.setdefault((call.kernel, kind(call)), [0, 0.0, 0, 0, 0.0])
        for i, value in enumerate((1, call.seconds, macs, moved, roof)):
            row[i] += value
    rows = []
    for (kernel, what), (count, seconds, macs, moved, roof) in sorted(sums.items(), key=lambda item: -item[1][1]):
        rows.append({
            "kernel": kernel, "shape": what, "calls": count, "seconds": seconds, "macs": macs, "bytes": moved,
            "gmacs": macs / seconds / 1e9, "gbs": moved / seconds / 1e9, "of_roof": roof / seconds,
        })  # fmt: skip
    return rows


def split_shares(calls: Iterable[Call]) -> dict[str, float]:
    """How many of the rows that integers multiply had 16 bits, and of the multiplications how many were with these."""
    rows = split = macs = twice = share = 0.0
    for call in calls:
        if call.kernel == "quantise":
            share = call.split / max(1, call.fields["rows"])
            rows, split = rows + call.fields["rows"], split + call.split
        elif call.kernel in INTEGERS:
            own = work(call)[0]
            macs, twice = macs + own, twice + share * own
    return {"rows": split / max(1.0, rows), "macs": twice / max(1.0, macs)}


def _best(scheme: str, rows: int, outputs: int, inputs: int, repeats: int) -> Work:
    """MACs and bytes per second of the best of some products; only the product itself is timed."""
    data = np.zeros((outputs, inputs), np.int8 if scheme == "int8" else np.float32)
    scale = np.ones((outputs, 1), np.float32) if scheme == "int8" else None
    w = ops.pack(QTensor(scheme, (outputs, inputs), data, scale))
    x = np.ones((rows, inputs), np.float32)
    with profiled() as calls:
        for _ in range(repeats):
            ops.linear(x, w)
    best = min((c for c in calls if c.block == "gemm"), key=lambda c: c.seconds)
    macs, moved = work(best)
    return round(macs / best.seconds), round(moved / best.seconds)


def measure_peaks() -> dict[str, float]:
    """Products whose data lie in a cache, and one row through a weight that does not."""
    return {
        "int8_gmacs": _best("int8", CACHE_ROWS, *IN_CACHE["int8"], REPEATS)[0] / 1e9,
        "fp32_gmacs": _best("fp32", CACHE_ROWS, *IN_CACHE["fp32"], REPEATS)[0] / 1e9,
        "stream_gbs": _best("int8", 1, *STREAMED, REPEATS)[1] / 1e9,
    }


def roofline(utterance: Callable[[], object], threads: int | None, runs: int = 1) -> dict[str, Any]:
    """Peaks of this machine, and tables of all kernel calls of one utterance, on native kernels.

    The same utterance `runs` times, every call at its quickest. Calls run one by one here, each with about a
    microsecond of Python around it that is counted as its own; `utterance_s` has all of the profile's cost in it.
    """
    best, profiles, found = float("inf"), [], []
    for _ in range(runs):
        with ops.using("native"), on_threads(threads):
            found.append(measure_peaks())
        with profiled() as noted:
            start = perf_counter()
            utterance()
            best = min(best, perf_counter() - start)
        profiles.append(noted)
    # Both at their best: other processes only ever make them slower.
    peaks = {name: max(each[name] for each in found) for name in found[0]}
    calls = [min(same, key=lambda call: call.seconds) for same in zip(*profiles, strict=True)]
    return {
        "peaks": peaks,
        "utterance_s": best,
        "kernels_s": sum(call.seconds for call in calls),
        "sixteen_bits": split_shares(calls),
        "kernels": summarise(calls, peaks, lambda call: "all"),
        "rows": summarise(calls, peaks),
    }


def table(result: dict[str, Any]) -> list[str]:
    """The same for people: a line per kernel, and per shape for those that cost the most."""
    p, total = result["peaks"], result["kernels_s"]
    lines = [
        f"peaks: int8 {p['int8_gmacs']:.0f} GMAC/s, fp32 {p['fp32_gmacs']:.0f} GMAC/s, "
        f"memory {p['stream_gbs']:.1f} GB/s; {total:.3f} s in kernels",
        f"{'kernel':12} {'shape':34} {'calls':>6} {'ms':>8} {'share':>6} {'GMAC/s':>8} {'GB/s':>6} {'of roof':>8}",
    ]
    shares = result["sixteen_bits"]
    if shares["rows"]:
        lines.append(f"16 bits for {shares['rows']:.1%} of the rows, in {shares['macs']:.1%} of the multiplications")
    for r in (*result["kernels"], *result["rows"][:SHOWN]):
        lines.append(
            f"{r['kernel']:12} {r['shape']:34} {r['calls']:6} {1000 * r['seconds']:8.1f} {r['seconds'] / total:6.1%} "
            f"{r['gmacs']:8.1f} {r['gbs']:6.1f} {r['of_roof']:8.0%}"
        )
    return lines
