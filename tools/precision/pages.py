"""The results of a study as tables and figures in docs/QUANT.md, between marks that say which: the text around them
is written by people, and stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sopro_np.convert.recipe import Recipe
from sopro_np.errors import SoproError
from tools.precision import plots
from tools.precision.choose import BUDGETS, LADDER, MEASURES, decibels, noise, predicted, scheme_of
from tools.precision.layers import layer_of, part_of, stored_bytes
from tools.precision.observe import EXPLAINED

MARK = re.compile(r"(<!-- study: (\w+) -->\n).*?(<!-- end -->\n)", re.S)
Data = dict[str, Any]
TITLES = {
    "ar_logits_db": "first codebook: SNR of the logits",
    "nar_logits_db": "other codebooks: SNR of the logits",
    "decoder_db": "decoder: SNR of the waveform",
    "voice": "encoder: equal codes of the reference",
}


def renew(docs: Path, data: Data) -> None:
    """Rewrite the marked parts of `docs`/QUANT.md and the figures in `docs`/figures."""
    page = docs / "QUANT.md"
    if not page.is_file():
        raise SoproError(f"{page}: is missing")
    folder = docs / "figures"
    folder.mkdir(exist_ok=True)
    for name, svg in figures(data).items():
        (folder / f"{name}.svg").write_text(svg, "utf-8")
    page.write_text(MARK.sub(lambda m: f"{m[1]}{SECTIONS[m[2]](data)}\n{m[3]}", page.read_text("utf-8")), "utf-8")


def table(head: str, rows: list[list[str]]) -> str:
    """Markdown; `head`: words divided by |."""
    names = head.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)


def db(value: float | None) -> str:
    return "exact" if value is None or value > 110 else f"{value:.1f}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def alone(data: Data, scheme: str, layer: str) -> Mapping[str, float | None]:
    return data[f"alone/{scheme}/{layer}"]


# ---------------------------------------------------------------- tables


def about(data: Data) -> str:
    size = data["size"]
    codes = size["frames"] * (size["codebooks"] - 1)
    return (
        f'{size["scripts"]} sentences, {size["frames"]} frames: 1 % of "AR" is {size["frames"] / 100:.1f} codes, of '
        f'"NAR" {codes / 100:.0f}. WER of the fp32 model itself: {percent(data["base"].get("wer"))} %.'
    )


def recipes(data: Data) -> str:
    names = [key.removeprefix("recipe/") for key in data if key.startswith("recipe/")]
    names.sort(key=lambda n: -data[f"recipe/{n}"]["bytes"])
    rows = []
    for n in names:
        m, told = data[f"recipe/{n}"], _predicted(data, n)
        ar, nar, decoder = (f"{db(m[k])}{f' ({told[k]:.1f})' if told.get(k, 999) < 110 else ''}" for k in MEASURES[1:])
        rows.append([n, f"{m['bytes'] / 1e6:.1f} MB", percent(m["voice"]), percent(m["ar"]), ar, percent(m["nar"]), nar,
                     decoder, f"{m['decoder_lsd']:.2f}", f"{m['decoder_mcd']:.2f}", f"{m['free_running_mcd']:.2f}",
                     percent(m.get("wer"))])  # fmt: skip
    return table("recipe|matrices|voice %|AR %|AR dB|NAR %|NAR dB|decoder dB|LSD dB|MCD dB|free MCD dB|WER %", rows)


def _predicted(data: Data, name: str) -> dict[str, float]:
    """Measure -> dB, by adding up the noise of single layers; {} for a recipe with schemes not measured alone."""
    layers = data["layers"]
    if name not in data["about"]["recipes"] and f"rules/{name}" not in data:
        return {}
    rules = data.get(f"rules/{name}") or data["about"]["recipes"][name]
    schemes = scheme_of(layers, Recipe(name, tuple((pattern, scheme) for pattern, scheme in rules)))
    if not set(schemes.values()) <= set(LADDER):
        return {}
    costs = {x: {s: noise(dict(alone(data, s, x)))} for x, s in schemes.items()}
    return {m: decibels(power) for m, power in predicted(costs, schemes).items()}


def parts(data: Data) -> str:
    """Per part: bytes, its most sensitive layer, and what all its layers together are predicted to cost."""
    groups: dict[str, list[str]] = {}
    for layer in data["layers"]:
        groups.setdefault(part_of(layer), []).append(layer)
    rows = []
    for part, inside in groups.items():
        size = sum(stored_bytes((n, c), "fp32") for x in inside for n, c in data["layers"][x].values())
        cells = [part, str(len(inside)), f"{size / 1e6:.2f}"]
        for scheme in ("int8", "int4"):
            total = {m: sum(noise(dict(alone(data, scheme, x)))[m] for x in inside) for m in MEASURES}
            cells += [percent(100 * total["voice"]) if total["voice"] > 0 else "0"]
            cells += [db(decibels(total[m])) if total[m] > 0 else "exact" for m in MEASURES[1:]]
        rows.append(cells)
    return table(
        "part|layers|fp32 MB|int8: voice, % lost|AR dB|NAR dB|decoder dB|int4: voice, % lost|AR dB|NAR dB|decoder dB",
        rows,
    )


def layers(data: Data) -> str:
    rows = []
    for layer in data["layers"]:
        for scheme in LADDER:
            m = alone(data, scheme, layer)
            rows.append([f"`{layer}`", scheme, percent(m["voice"]), percent(m["ar"]), db(m["ar_logits_db"]),
                         percent(m["nar"]), db(m["nar_logits_db"]), db(m["decoder_db"]), f"{m['decoder_mcd']:.2f}",
                         f"{m['free_running_mcd']:.2f}", percent(m.get("wer"))])  # fmt: skip
    head = "layer|scheme|voice %|AR %|AR dB|NAR %|NAR dB|decoder dB|MCD dB|free MCD dB|WER %"
    return f"<details><summary>All layers, all schemes</summary>\n\n{table(head, rows)}\n\n</details>"


def chosen(data: Data) -> str:
    """What the search made of every budget: schemes per part, as layers/layers."""
    rows = []
    for name in BUDGETS:
        schemes: dict[str, dict[str, int]] = {}
        rules = [tuple(rule) for rule in data[f"rules/{name}"]]
        for layer, inside in data["layers"].items():
            first = next(iter(inside)).removesuffix(".weight")
            scheme = next(s for pattern, s in rules if pattern in (first, "*"))
            counts = schemes.setdefault(part_of(layer), dict.fromkeys(LADDER, 0))
            counts[scheme] += 1
        text = "; ".join(
            f"{part} {'+'.join(f'{n} {s}' for s, n in counts.items() if n)}" for part, counts in schemes.items()
        )
        rows.append([name, f"{data[f'recipe/{name}']['bytes'] / 1e6:.1f} MB", text])
    return table("budget|matrices|layers of each part", rows)


def activations(data: Data) -> str:
    rows = []
    for name, meaning in EXPLAINED.items():
        m = data[f"activations/{name}"]
        rows.append([name, *(db(m[k]) for k in MEASURES[1:]), f"{m['decoder_lsd']:.2f}", f"{m['decoder_mcd']:.2f}",
                     percent(m["voice"]), percent(m.get("wer")), meaning])  # fmt: skip
    few = data["watched"]
    text = f"The first {few['scripts']} of the sentences, {few['frames']} frames, all else as in the recipe int8:\n\n"
    return text + table("activations|AR dB|NAR dB|decoder dB|LSD dB|MCD dB|voice %|WER %|meaning", rows)


def ranges(data: Data) -> str:
    """The matrices whose inputs are hardest for one scale: the largest peak over the root mean square."""
    found = sorted(data["ranges"].items(), key=lambda item: -item[1]["crest"])
    rows = [
        [f"`{name.removesuffix('.weight')}`", f"{r['low']:.2f}", f"{r['high']:.2f}", f"{r['rms']:.3f}",
         f"{r['crest']:.0f}", f"{r['median_row']:.3f}", f"{r['smallest_row']:.4f}"]
        for name, r in found[:16]
    ]  # fmt: skip
    return table("input of|lowest|highest|rms|peak / rms|median frame's peak / peak|smallest frame's", rows)


def dilation(data: Data) -> str:
    """AR and NAR blocks: dilation, own error, error of everything up to here."""
    rows = []
    for part, prefix, measure in (("ar", "sopro.ar.blocks", "ar_logits_db"), ("nar", "sopro.nar.", "nar_logits_db")):
        blocks = [x for x in data["layers"] if x.startswith(prefix) and ".blocks." in x]
        for layer in blocks:
            index = int(layer.rsplit(".", 1)[1])
            own = [db(alone(data, scheme, layer)[measure]) for scheme in ("int8", "int4")]
            after = db(data["depth"].get(f"{layer}.ff_out.weight"))
            rows.append([f"`{layer}`", str(data["dilations"][part][index]), *own, after])
    return table("block|dilation|alone at int8, logits dB|alone at int4|after it, all at int8, dB", rows)


def drift(data: Data) -> str:
    units = {"ar_logits_db": "dB", "ar": "%", "nar": "%", "decoder_db": "dB"}
    rows = []
    for name, (slope, error) in data["drift"]["trend"].items():
        curve = [v for v in data["drift"][name] if v is not None]
        rows.append([name, f"{curve[0]:.1f}", f"{curve[-1]:.1f}", f"{min(curve):.1f}",
                     f"{slope:+.2f} +- {error:.2f} {units[name]}"])  # fmt: skip
    return table(
        "measure|first 20 frames|last 20 frames|worst 20 frames|per 100 frames (slope +- standard error)", rows
    )


SECTIONS: dict[str, Callable[[Data], str]] = {
    f.__name__: f for f in (about, recipes, parts, layers, chosen, activations, ranges, dilation, drift)
}


# ---------------------------------------------------------------- figures


def figures(data: Data) -> dict[str, str]:
    """File name without ending -> SVG."""
    found = {}
    for measure, title in TITLES.items():
        rows = []
        for layer in data["layers"]:
            values = {s: alone(data, s, layer)[measure] for s in LADDER}
            untouched = 100.0 if measure == "voice" else None
            if any(v != untouched and (v or 0) < 110 for v in values.values()):
                rows.append((layer, values))
        unit = "one layer alone, everything else fp32; " + ("%" if measure == "voice" else "dB, hollow: no error")
        known = [v for _, values in rows for v in values.values() if v is not None]
        if rows and known:
            low, high = (min(known) - 1, 100.5) if measure == "voice" else (min(known) - 2, min(max(known), 90) + 2)
            found[f"quant-{measure.removesuffix('_db').replace('_', '-')}"] = plots.dots(title, unit, rows, low, high)
    found["quant-depth"] = _depth(data)
    d = data["drift"]
    curves = {k: d[k] for k in ("ar_logits_db", "decoder_db")}
    values = [v for c in curves.values() for v in c if v is not None] or [0.0]
    found["quant-drift"] = plots.lines(
        "int8 against fp32 along one utterance", "SNR in dB of 20 frames each; across: frame", d["frames"], curves,
        min(values) - 3, max(values) + 3,
    )  # fmt: skip
    return found


def _depth(data: Data) -> str:
    rows = []
    dilations = data["dilations"]
    for name, value in data["depth"].items():
        if not name.startswith(("sopro.ar.", "sopro.nar.", "mimi.decoder")):
            continue
        layer = layer_of(name)
        if layer + ".weight" != name and not name.endswith(("ff_out.weight", "attention.out.weight", "conv.1.weight")):
            continue  # inside a layer
        place = ""
        if ".blocks." in layer:
            place = f" (dilation {dilations['ar' if '.ar.' in layer else 'nar'][int(layer.rsplit('.', 1)[1])]})"
        rows.append((layer.removeprefix("sopro.").removeprefix("mimi.") + place, {"int8 recipe": value}))
    known = [v["int8 recipe"] for _, v in rows if v["int8 recipe"] is not None] or [0.0]
    unit = "what leaves each layer, int8 against fp32, dB"
    return plots.dots("error growth with depth", unit, rows, min(known) - 2, max(known) + 2)
