"""An evaluation as one HTML file that needs nothing else: tables, definitions, spectrograms, players."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np

from sopro_np.evaluate import fidelity
from sopro_np.evaluate.failures import GuardCount
from sopro_np.evaluate.picture import audio_uri, picture_uri
from sopro_np.evaluate.quality import Utterance

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
small, .soft { opacity: .7; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: .6rem; background: var(--soft); border-radius: .4rem; }
figure img { width: 100%; height: 8rem; display: block; image-rendering: auto; }
audio { width: 100%; margin-top: .4rem; }
.bad { color: #c33; }
"""


def page(result: dict[str, Any], examples: Sequence[tuple[str, list[tuple[str, Utterance]]]], rate: int) -> str:
    """`result`: what --json has. `examples`: title -> (system, utterance) to hear side by side."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>Evaluation of {_text(result['model']['file'])}</title><style>{STYLE}</style>",
        f"<h1>Evaluation of {_text(result['model']['file'])}</h1>",
        _facts(result),
        _missing(result["missing"]),
    ]
    if "fidelity" in result:
        parts += ["<h2>Fidelity: is it the same model?</h2>", _fidelity(result["fidelity"])]
    if "quality" in result:
        parts += ["<h2>Quality: does it speak well?</h2>", _quality(result["quality"])]
        parts += ["<h2>Examples</h2>", *(_example(title, row, rate) for title, row in examples)]
        parts += ["<h2>All utterances</h2>", _utterances(result["quality"])]
    parts += ["<h2>Definitions</h2><ul>", *(f"<li>{_text(d)}" for d in result["definitions"]), "</ul></html>"]
    return "\n".join(parts)


def _facts(result: dict[str, Any]) -> str:
    rows = [("model", result["model"])] + ([("against", result["against"])] if "against" in result else [])
    cells = ((name, m["file"], m["recipe"], f"{m['bytes'] / 1e6:.1f} MB", m["generation"]) for name, m in rows)
    return table(("", "file", "recipe", "size", "generation"), cells)


def _missing(missing: dict[str, str]) -> str:
    lines = "".join(f"<li class='bad'>{_text(name)}: {_text(why)}" for name, why in missing.items())
    return f"<p class='bad'>Not measured:</p><ul>{lines}</ul>" if lines else ""


def _fidelity(result: dict[str, Any]) -> str:
    rows = []
    for name, meaning in fidelity.DEFINITIONS.items():
        if name in result["measures"]:
            m = result["measures"][name]
            unit = "dB" if name.endswith(("_db", "_lsd", "_mcd")) else "%"
            rows.append((name, number(m["mean"], unit), number(m["worst"], unit), meaning))
    text = f"<p>{result['texts']} texts, {result['frames']} frames, teacher-forced with the codes of the model "
    return text + "named <em>against</em>.</p>" + table(("measure", "mean", "worst", "meaning"), rows, (1, 2))


def _quality(result: dict[str, Any]) -> str:
    systems = list(result["systems"])
    rows = []
    for name, measure in result["measures"].items():
        unit, meaning = measure["unit"], measure["meaning"]
        cells = [_interval(result["systems"][s]["summary"].get(name), unit) for s in systems]
        delta = _interval(result.get("difference", {}).get(name), unit)
        if any(cells):
            rows.append((name, *cells, *([delta] if "difference" in result else []), meaning))
    head = ("measure", *systems, *(["difference"] if "difference" in result else []), "meaning")
    text = f"{result['texts']} texts x {result['seeds']} seeds, voices: {', '.join(result['voices'])}. "
    text += f"Mean and, in brackets, its 95 % interval. MCD and F0 against {result['mcd_and_f0_against']}."
    guarded = [(s, *found["guard"].values()) for s, found in result["systems"].items() if "guard" in found]
    guard = table(("guard", *asdict(GuardCount())), guarded, range(1, 5))
    return f"<p>{_text(text)}</p>" + table(head, rows, range(1, len(head) - 1)) + guard


def _interval(found: dict[str, Any] | None, unit: str) -> str:
    if not found or found["mean"] is None:
        return ""
    digits = 3 if unit == "" else 1
    low, high = (f"{found[k]:.{digits}f}" if found[k] is not None else "?" for k in ("low", "high"))
    return f"{found['mean']:.{digits}f}{' ' if unit else ''}{unit} [{low}, {high}]"


def _example(title: str, systems: list[tuple[str, Utterance]], rate: int) -> str:
    figures = []
    for name, u in systems:
        wav = u.wav if len(u.wav) else np.zeros(rate // 10, np.float32)
        facts = [f"seed {u.seed}", f"{u.seconds:.2f} s", *(f"{k} {v:.2f}" for k, v in u.measures.items() if k == "mcd")]
        heard = "".join(f"<br>{_text(judge)} heard: {_text(text)}" for judge, text in u.heard.items())
        failed = f" <span class='bad'>{_text(', '.join(u.failed))}</span>" if u.failed else ""
        figures.append(
            f"<figure><img alt='spectrogram' src='{picture_uri(wav, rate)}'>"
            f"<audio controls preload='none' src='{audio_uri(wav, rate)}'></audio>"
            f"<figcaption><b>{_text(name)}</b> <small>{_text(', '.join(facts))}{failed}{heard}</small></figcaption>"
            "</figure>"
        )
    return f"<h3>{_text(title)}</h3><div class='pair'>{''.join(figures)}</div>"


def _utterances(result: dict[str, Any]) -> str:
    rows = []
    for name, system in result["systems"].items():
        for u in system["utterances"]:
            similarity = u.get("similarity")
            rows.append(
                (name, u["text"], u["voice"], u["seed"], f"{u['seconds']:.2f}", _heard(u["heard"]),
                 "" if similarity is None else f"{similarity:.3f}", ", ".join(u["failed"]))
            )  # fmt: skip
    return table(("system", "text", "voice", "seed", "s", "heard", "similarity", "failed"), rows, (3, 4, 6))


def _heard(heard: dict[str, str]) -> str:
    """In one cell; recognisers are named where there are several."""
    if len(heard) < 2:
        return "".join(heard.values())
    return " | ".join(f"{judge}: {text}" for judge, text in heard.items())


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Iterable[int] = ()) -> str:
    """Cells are escaped; columns in `numbers` are aligned to the right."""
    right = dict.fromkeys(numbers, " class='n'")
    top = "".join(f"<th{right.get(i, '')}>{_text(cell)}" for i, cell in enumerate(head))
    body = ("".join(f"<td{right.get(i, '')}>{_text(cell)}" for i, cell in enumerate(row)) for row in rows)
    return f"<table><tr>{top}" + "".join(f"<tr>{row}" for row in body) + "</table>"


def number(value: float | None, unit: str) -> str:
    """null in the JSON is an SNR without any error."""
    return "no error" if value is None else f"{value:.2f} {unit}"


def _text(value: Any) -> str:
    return escape(str(value))
