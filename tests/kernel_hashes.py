"""What the native kernels of this process compute, as hashes: the same on every CPU, or something is wrong.

    SOPRO_NP_TARGET=avx2 python tests/kernel_hashes.py FOLDER [--few] > avx2.json
    python tests/kernel_hashes.py --compare avx2.json neon.json         # 1: they differ, or disagree within

FOLDER: models `v1-int8.safetensors`, ... and voices `v1.voice.safetensors`, `v1.5.voice.safetensors`, as
tests/kernel_models.py makes them. Prints JSON: {"target": name, "hashes": {what: {how: sha256}}}; all ways of one
"what" must agree, too. --few: what an emulated CPU can do in half a minute. Needs neither pytest nor torch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np import ops
from sopro_np.engine import Sopro, open_model
from sopro_np.ops import native
from sopro_np.ops.native import arguments
from sopro_np.ops.native.threads import on_threads
from sopro_np.ops.quant import FORMATS, GROUP, quantize
from sopro_np.precision import MODES, precise

TEXT, FRAMES = "Hello there.", 12
FEW = ("v1-int8", "v1.5-int4")
PIECE = {1: arguments.PIECE, 2: 500}  # with two threads, also the smallest product is shared out


def sha(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()[:16]


def numbers(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Uniform in -scale..scale, from integers: NumPy's own distributions may differ between machines."""
    whole = np.random.default_rng(seed).integers(-(2**20), 2**20, shape)
    return (whole * (scale / 2**20)).astype(np.float32)


def products() -> Iterator[np.ndarray]:
    """Every format, one and many rows, tails everywhere, all that may surround a product."""
    for scheme, mode in itertools.product(FORMATS, MODES):
        for frames, c, n in ((1, 33, 70), (5, 64, 16), (19, 100, 40), (33, 7, 130)):
            group = FORMATS[scheme].group
            c = c if group == GROUP else -(-c // group) * group
            x, bias, residual = numbers(1, frames, c, scale=3), numbers(2, 2 * n), numbers(3, frames, n)
            x[::2, 0] *= 20  # rows of both kinds
            w, past = quantize(numbers(4, 2 * n, c), scheme), numbers(5, 6, c)
            kernel = quantize(numbers(6, n, 3 * c), scheme, 3)
            with precise(mode):
                found = (
                    ops.linear(x, ops.pack(w), bias, "tanh"),
                    ops.linear(x, ops.pack(w), bias, "gelu", np.float32(0.3)),
                    ops.linear(x, ops.pack(w, "glu"), bias, "glu", bias[:n], residual),
                    ops.conv(x, ops.pack(kernel), bias[:n], 1, 3, past, "elu", residual),
                    ops.conv(x, ops.pack(kernel), None, 2, 1, past),
                )
            yield from found


def others() -> Iterator[np.ndarray]:
    """All other operations that kernels compute."""
    for frames, c in ((1, 5), (3, 64), (18, 97)):
        x, y, w, b = (numbers(i, frames, c, scale=4) for i in range(4))
        yield ops.rms_norm(x, w[0], 1e-6, b[0])
        yield ops.layer_norm(x, w[0], b[0])
        yield ops.match_rms(x, y, 2.0)
        yield from (ops.sigmoid(8 * x), ops.gelu(x), ops.softmax(8 * x))
        yield ops.depthwise_conv(x, numbers(5, 7, c), b[0], 2, numbers(6, 12, c), 0, y)
    for frames, keys, d, heads, first in ((1, 40, 17, 2, None), (9, 50, 32, 2, 41), (20, 20, 64, 1, 0)):
        q, k, v = numbers(1, frames, d * heads, scale=3), numbers(2, keys, d * heads), numbers(3, keys, d * heads)
        yield ops.attention(q, k, v, heads, first)
    x, cos, sin = numbers(1, 9, 72), numbers(2, 9, 18), numbers(3, 9, 18)
    yield ops.rope(x, cos, sin, 2)
    options = ((0.7, 50, 0.9), (1.05, 0, 0.5), (1.0, 3, None))
    yield np.array([ops.sample(numbers(i, 77, scale=5), [i], *options[i % 3], 1.1, i / 30) for i in range(30)])
    ids = np.random.default_rng(1).integers(0, 50, (7, 3))
    for scheme in FORMATS:
        width = 45 if FORMATS[scheme].group == GROUP else 128
        yield ops.embed_sum(ids, quantize(numbers(4, 50, width), scheme), numbers(5, 3), numbers(6, 7, width))


def utterance(tts: Sopro, voice: Any, causal: bool) -> dict[str, str]:
    """Spoken whole, then as a stream (by a model that looks ahead: not far), in one piece, in single frames, and twice
    in a batch, in threes."""
    options: dict[str, Any] = {"seed": 3, "max_frames": FRAMES, "min_gen_frames": FRAMES}
    whole = tts.synthesize(TEXT, voice, chunk_frames=400, **options)
    if not causal:
        options["lookahead"] = 3

    def stream(chunk_frames: int) -> np.ndarray:
        return np.concatenate(list(tts.stream(TEXT, voice, chunk_frames=chunk_frames, **options)))

    def beside_itself() -> Iterator[np.ndarray]:
        batch = tts.batch(2)
        jobs = [batch.add(TEXT, voice, chunk_frames=3, **options) for _ in range(2)]
        while len(batch):
            batch.step()
        for job in jobs:
            assert job.speech is not None
            yield job.speech.wav

    ways = {"whole": stream(400), "by 1": stream(1)}
    ways |= {f"beside itself, {i}": wav for i, wav in enumerate(beside_itself())}
    return {how: sha(whole, wav) for how, wav in ways.items()}


def decoding(tts: Sopro) -> dict[str, str]:
    """Fixed codes -> waveform."""
    mimi = tts.mimi
    codes = np.random.default_rng(7).integers(0, mimi.config.code_values, (FRAMES, mimi.config.codebooks))
    state = mimi.new_state(len(codes))
    with tts.runtime():
        pieces = [mimi.decode(codes[t : t + 1], state) for t in range(len(codes))]
    return {"whole": sha(tts.decode(codes)), "by 1": sha(np.concatenate(pieces))}


def hashes(folder: Path, few: bool) -> dict[str, dict[str, str]]:
    """What -> how -> hash."""
    results: dict[str, dict[str, str]] = {}

    def note(what: str, threads: int, found: dict[str, str]) -> None:
        results.setdefault(what, {}).update({f"{how}, threads {threads}": value for how, value in found.items()})

    tables: dict[str, Callable[[], Iterator[np.ndarray]]] = {"products": products, "others": others}
    paths = [path for path in sorted(folder.glob("v*-*.safetensors")) if not few or path.stem in FEW]
    for threads in (2,) if few else (1, 2):
        arguments.PIECE = PIECE[threads]
        with ops.using("native"), on_threads(threads):
            for name, table in tables.items():
                note(name, threads, {"all": sha(*table())})
        for path in paths:
            arch, _, _ = path.stem.partition("-")
            tts = open_model(path, threads, "native")
            voice = tts.load_voice(folder / f"{arch}.voice.safetensors")
            note(f"{path.stem} speaks", threads, utterance(tts, voice, arch == "v1"))
            if arch == "v1" or not few:
                note(f"{path.stem} decodes", threads, decoding(tts))
    return results


def differences(reports: list[dict[str, Any]]) -> list[str]:
    """Whatever does not have one hash in all reports that have it at all."""
    found: dict[str, dict[str, list[str]]] = {}
    for report in reports:
        for what, ways in report["hashes"].items():
            for how, value in ways.items():
                found.setdefault(what, {}).setdefault(value, []).append(f"{report['target']}, {how}")
    return [
        f"{what}: " + "; ".join(f"{value} by {', '.join(ways)}" for value, ways in values.items())
        for what, values in found.items()
        if len(values) > 1
    ]


def main(arguments: list[str]) -> int:
    if arguments[0] == "--compare":
        reports = [json.loads(Path(path).read_text()) for path in arguments[1:]]
        wrong = differences(reports)
        print(*wrong, f"{' = '.join(r['target'] for r in reports)}: {len(wrong)} differences", sep="\n")
        return int(bool(wrong))
    found = hashes(Path(arguments[0]), "--few" in arguments)
    print(json.dumps({"target": native.kernels().target, "hashes": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
