"""Which precision where? Every layer alone at every scheme, everything else fp32; and what else decides a recipe.

    python -m tools.precision MODEL --ref ref.wav -o study.json --docs docs

MODEL is converted with `--recipe fp32`. Nothing is sampled once the fp32 model has spoken its scripts: all others are
teacher-forced on them (sopro_np/evaluate/fidelity.py defines the measures). The JSON file is written after every step
and read at the start, so a study that was interrupted goes on where it was. `--docs` renews the tables and figures of
docs/QUANT.md. Needs the extra `eval`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sopro_np.audio import read_reference
from sopro_np.convert.recipe import BUILT_IN, Recipe, load_recipe
from sopro_np.convert.source import sha256_of
from sopro_np.errors import SoproError
from sopro_np.evaluate import fidelity
from sopro_np.evaluate.texts import built_in, read_texts
from sopro_np.files import replacing
from sopro_np.requantise.watch import watched
from sopro_np.requantise.weights import load_as, matrices
from tools.precision import growth, pages
from tools.precision.choose import choose
from tools.precision.layers import by_layer, stored_bytes
from tools.precision.measure import Bench, prepare, write_scripts
from tools.precision.observe import CORRECTED, EXPLAINED, Watch

FP32 = BUILT_IN["fp32"]
ALONE = ("int4", "int8", "fp16")
WATCHED = 4  # scripts of the parts that NumPy's operations compute
# Recipes of interest beside the built-in ones: what if ...?
ATTENTION = ("sopro.*.attention.*", "fp16")
EXTRA = {
    name: Recipe(name, rules)
    for name, rules in {
        "int8 everywhere": (("*", "int8"),),
        "int4 everywhere": (("*", "int4"),),
        "int8, attention fp16": (ATTENTION, *BUILT_IN["int8"].rules),
        "int4, attention fp16": (ATTENTION, *BUILT_IN["int4"].rules),
        "int8, near 24 kHz fp16": (("mimi.decoder.1[0-9]", "fp16"), *BUILT_IN["int8"].rules),
    }.items()
}


class Results:
    """The JSON file: results by key, each computed once."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.data: dict[str, Any] = {"about": about}
        if path.is_file():
            before = json.loads(path.read_text("utf-8"))
            if before.get("about") != about:
                raise SoproError(f"{path}: of another model, other texts or recordings; name another file with -o")
            self.data = before

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of `key`, computed and saved unless it is there."""
        if key not in self.data:
            self.data[key] = _finite(compute())
            with replacing(self.path, SoproError) as f:
                f.write(json.dumps(self.data, indent=1).encode())
            print(key, file=sys.stderr, flush=True)
        return self.data[key]


def _finite(value: Any) -> Any:
    """JSON has no infinity: an SNR without any error becomes null, and so does what cannot be measured."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def study(args: argparse.Namespace) -> dict[str, Any]:
    """All results, by key."""
    path = args.model
    texts = [t.text for t in (read_texts(args.texts) if args.texts else built_in())][: args.count]
    about = {
        "model": sha256_of(path), "refs": [sha256_of(Path(r)) for r in args.ref], "texts": texts,
        "wer": not args.no_wer, "max_frames": args.max_frames,
        "recipes": {name: [list(rule) for rule in r.rules] for name, r in (BUILT_IN | EXTRA).items()},
    }  # fmt: skip
    results = Results(args.output, about)
    shapes = matrices(path)
    layers = by_layer(shapes)
    tts = load_as(path, FP32, threads=args.threads)
    config = tts.model.config
    limit = min(config.reference_seconds, 12.0)
    wavs = [read_reference(r, tts.sample_rate, limit, config.frame_rate) for r in args.ref]
    bench = prepare(tts, write_scripts(tts, texts, wavs, args.max_frames), not args.no_wer)
    results.once("layers", lambda: {name: {m: list(shapes[m]) for m in inside} for name, inside in layers.items()})
    results.once("size", lambda: {"frames": bench.frames, "codebooks": config.codebooks, "scripts": len(texts)})
    results.once("dilations", lambda: {"ar": config.ar_dilations, "nar": config.nar_dilations})

    def under(recipe: Recipe) -> dict[str, float]:
        return bench.measure(load_as(path, recipe, threads=args.threads))

    results.once("watched", lambda: {"scripts": len(texts[:WATCHED]), "frames": bench.part(slice(WATCHED)).frames})
    results.once("base", lambda: bench.compare(bench.answers))
    for name, inside in layers.items():
        for scheme in ALONE:
            recipe = Recipe(name, (*((m.removesuffix(".weight"), scheme) for m in inside), ("*", "fp32")))
            results.once(f"alone/{scheme}/{name}", lambda recipe=recipe: under(recipe))
    recipes = {**{n: BUILT_IN[n] for n in BUILT_IN if n != "fp32"}, **EXTRA}
    recipes |= {recipe.name: recipe for recipe in map(load_recipe, args.recipe)}
    recipes |= {r.name: r for r in choose(results.data)}
    for name, recipe in recipes.items():
        results.once(f"recipe/{name}", lambda recipe=recipe: under(recipe) | {"bytes": _size(shapes, recipe)})
        results.once(f"rules/{name}", lambda recipe=recipe: [list(rule) for rule in recipe.rules])
    results.once("recipe/fp32", lambda: results.data["base"] | {"bytes": _size(shapes, FP32)})
    _activations(path, bench, results)
    results.once("depth", lambda: growth.depth(path, bench.scripts[:WATCHED], FP32, BUILT_IN["int8"]))
    long_text = " ".join(texts[:4])
    results.once("drift", lambda: growth.drift(path, wavs[0], long_text, args.drift, FP32, BUILT_IN["int8"]))
    return results.data


def _activations(path: Path, bench: Bench, results: Results) -> None:
    """Ranges in the fp32 model (on other scripts, if there are any), then the int8 recipe with activations quantised
    in other ways."""
    if "ranges" in results.data and all(f"activations/{name}" in results.data for name in EXPLAINED):
        return
    watch, few, others = Watch(), bench.part(slice(WATCHED)), bench.part(slice(WATCHED, None))
    with watched(path, FP32, watch) as tts:
        for script in others.scripts or few.scripts:
            fidelity.run_forced(tts, script, free=False)
    results.once("ranges", lambda: {name: r.as_dict() for name, r in watch.ranges.items()})

    def quantised(name: str) -> dict[str, float]:
        corrects = name == CORRECTED
        given = Watch(None if corrects else name, corrects=corrects, given=watch.ranges)
        with watched(path, BUILT_IN["int8"], given) as tts:
            return few.measure(tts)

    for name in EXPLAINED:
        results.once(f"activations/{name}", lambda name=name: quantised(name))


def _size(shapes: dict[str, tuple[int, int]], recipe: Recipe) -> int:
    """Bytes of all matrices under a recipe."""
    return round(sum(stored_bytes(shape, recipe.scheme(name)) for name, shape in shapes.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="converted with --recipe fp32")
    parser.add_argument("--ref", action="append", required=True, metavar="FILE", help="recordings of voices, in turns")
    parser.add_argument("--texts", metavar="FILE", help="default: those of sopro-np eval")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="how many of them (8)")
    parser.add_argument("--drift", type=int, default=400, metavar="N", help="frames of the long utterance (400)")
    parser.add_argument("--max-frames", type=int, default=400, metavar="N", help="of a sentence (400)")
    parser.add_argument("--no-wer", action="store_true", help="leave the ASR out: a third of the time")
    parser.add_argument("--recipe", action="append", default=[], metavar="FILE", help="more recipes for the table")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("-o", "--output", type=Path, default=Path("study.json"), metavar="FILE")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="renew QUANT.md and its figures there")
    args = parser.parse_args()
    try:
        results = study(args)
        if args.docs:
            pages.renew(args.docs, results)
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
