"""Torch and this engine side by side in one run, both made to produce exactly the same number of frames.

    python tools/bench_vs_torch.py --arch v1.5 --recipe int8 --threads 2 --seconds 32 --json

Torch does the work that upstream does: v1 recomputes the whole AR window for every frame, v1.5 takes cached steps,
the codec is transformers' MimiModel. These torch modules live in tools/oracle and are held to the golden
vectors. Each run is a process of its own (so that peak memory is its own), torch and engine in turn; figures are
medians. Weights are random ones of the published sizes unless --checkpoint names a folder.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FRAME_RATE = 12.5
STAGES = ("rtf", "ar_s", "nar_s", "mimi_decode_s", "peak_rss_mb")


def _as_rows(forward: Any, x: Any) -> Any:
    return forward(x[None])[0] if x.ndim == 1 else forward(x)


def run_torch(folder: Path, arch: str, frames: int, threads: int, int8: bool) -> dict[str, float]:
    """One utterance with the torch modules; loading is not counted."""
    import numpy as np
    import torch
    from transformers import MimiModel

    from sopro_np.bench.stages import REFERENCE_FRAMES, TEXT, peak_rss_mb
    from sopro_np.convert.tokenizer import compile_tokenizer
    from sopro_np.tokenizer import Tokenizer
    from tools.oracle import ARCHITECTURES, NucleusSampler

    torch.set_num_threads(threads)
    ids = torch.from_numpy(Tokenizer(compile_tokenizer(folder / "tokenizer")).encode(TEXT).astype(np.int64))
    name = {"v1": "sopro_v1", "v1.5": "sopro_v15"}[arch]
    model = ARCHITECTURES[name].from_checkpoint(folder / "sopro" / "model.safetensors")
    codec = MimiModel.from_pretrained(folder / "mimi", local_files_only=True).eval()
    if int8:
        quantised = {torch.nn.Linear}
        model = torch.ao.quantization.quantize_dynamic(model, quantised, dtype=torch.qint8)
        codec = torch.ao.quantization.quantize_dynamic(codec, quantised, dtype=torch.qint8)
        for module in model.modules():
            if isinstance(module, torch.ao.nn.quantized.dynamic.Linear):  # which takes no single vectors
                module.forward = functools.partial(_as_rows, module.forward)
    codes = np.random.default_rng(1).integers(0, model.cfg.codebook_size, (REFERENCE_FRAMES, model.cfg.num_codebooks))
    reference = torch.from_numpy(codes)
    sampler = NucleusSampler(generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        codec.encode(torch.randn(1, 1, REFERENCE_FRAMES * 1920) * 0.1)  # the engine's voice was made, too
        start = time.perf_counter()
        extra = 1 if arch == "v1.5" else 0  # v1.5 prepares max_frames + 1 rows
        cond, text = model.prepare(ids, reference, frames - extra)
        if arch == "v1.5":
            end = model.cfg.codebook_size

            def without_end(logits: Any, history: Any) -> int:
                logits = logits.clone()
                logits[end] = -torch.inf
                return sampler(logits, history)

            stream = model.ar_stream(cond, text, sampler=without_end)
        else:
            stream = model.ar_stream(cond, text, model.prefix(reference), sampler=sampler, stop_threshold=2.0)
        first = [token for _, token, _ in stream]
        ar = time.perf_counter()
        tokens = model.nar_refine(cond[: len(first)], torch.tensor(first))
        nar = time.perf_counter()
        wav = codec.decode(tokens.T[None]).audio_values
        done = time.perf_counter()
    assert len(first) == frames, (len(first), frames)
    audio = wav.shape[-1] / codec.config.sampling_rate
    return {
        "ar_s": ar - start, "nar_s": nar - ar, "mimi_decode_s": done - nar, "rtf": (done - start) / audio,
        "audio_s": audio, "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip


def run_engine(model_file: Path, frames: int, threads: int, ops: str) -> dict[str, float]:
    """One utterance with the engine; loading is not counted."""
    import numpy as np

    from sopro_np.bench.stages import REFERENCE_FRAMES, measure_stages, peak_rss_mb, random_voice
    from sopro_np.engine import open_model

    tts = open_model(model_file, threads, ops)
    noise = 0.1 * np.random.default_rng(1).standard_normal(REFERENCE_FRAMES * 1920).astype(np.float32)
    tts.voice(noise)
    return {**measure_stages(tts, random_voice(tts), frames), "peak_rss_mb": peak_rss_mb()}


def _worker(args: argparse.Namespace, who: str, folder: Path, model: Path) -> dict[str, float]:
    """A run in its own process, which also keeps BLAS and OpenMP to the same number of threads."""
    command = [sys.executable, __file__, "--worker", who, "--checkpoint", str(folder), "--model", str(model)]
    command += ["--arch", args.arch, "--threads", str(args.threads), "--seconds", str(args.seconds)]
    command += ["--ops", args.ops] + (["--torch-int8"] if args.torch_int8 else [])
    limits = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **limits}, check=False)
    if done.returncode:
        sys.exit(f"{who} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _prepare(args: argparse.Namespace, scratch: Path) -> tuple[Path, Path]:
    """Checkpoint folder and converted model, made if not given."""
    folder = args.checkpoint
    if folder is None:
        folder = scratch / "checkpoint"
        maker = [sys.executable, str(ROOT / "tools" / "make_random_checkpoint.py")]
        subprocess.run([*maker, "--arch", args.arch, "--size", args.size, "--seed", "1", "-o", folder], check=True)
    if args.model is not None:
        return folder, args.model
    from sopro_np.convert.convert import convert
    from sopro_np.convert.recipe import load_recipe

    model = scratch / "model.safetensors"
    sopro = folder / "sopro" / "model.safetensors"
    convert(model, load_recipe(args.recipe), sopro, folder / "mimi", folder / "tokenizer")
    return folder, model


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", choices=("v1", "v1.5"), required=True)
    parser.add_argument("--recipe", default="int8")
    parser.add_argument("--ops", choices=("native", "numpy"), default="native")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", choices=("tiny", "full", "published"), default="full", help="of the random weights")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="as made by make_random_checkpoint.py")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the same, converted")
    parser.add_argument("--torch-int8", action="store_true", help="torch with dynamically quantised linears")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=("torch", "engine"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    frames = round(args.seconds * FRAME_RATE)
    if args.worker == "torch":
        print(json.dumps(run_torch(args.checkpoint, args.arch, frames, args.threads, args.torch_int8)))
        return 0
    if args.worker == "engine":
        print(json.dumps(run_engine(args.model, frames, args.threads, args.ops)))
        return 0
    for name in ("torch", "transformers"):  # before minutes of work
        if importlib.util.find_spec(name) is None:
            sys.exit(f"there is nothing to compare with: {name} is not installed: pip install '.[test]'")
    runs: dict[str, list[dict[str, float]]] = {"torch": [], "engine": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder, model = _prepare(args, Path(scratch))
        for _ in range(args.runs):
            for who in runs:  # A B A B: a change of the machine's mood meets both
                runs[who].append(_worker(args, who, folder, model))
    medians = {who: {s: statistics.median(r[s] for r in rows) for s in STAGES} for who, rows in runs.items()}
    result = {
        "arch": args.arch, "recipe": args.recipe, "ops": args.ops, "threads": args.threads, "runs": args.runs,
        "torch_int8": args.torch_int8, "audio_s": runs["engine"][0]["audio_s"], **medians,
        "ratio": medians["torch"]["rtf"] / medians["engine"]["rtf"],
    }  # fmt: skip
    if args.json:
        print(json.dumps(result, indent=1))
        return 0
    print(f"{'':8}" + "".join(f"{s:>15}" for s in STAGES))
    for who, row in medians.items():
        print(f"{who:8}" + "".join(f"{row[s]:15.3f}" for s in STAGES))
    print(f"ratio {result['ratio']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
