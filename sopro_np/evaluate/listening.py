"""A blind listening test as one HTML file (AB, ABX, MOS), and the same stimuli as a webMUSHRA experiment.

The order of the questions, of A and B, and X are drawn in the listener's browser. Sounds have numbers; which system
is behind a number stands only in a Base64 key, and is written out when the results are saved.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from sopro_np.errors import UsageError
from sopro_np.evaluate.picture import audio_uri
from sopro_np.files import replacing
from sopro_np.wav import write_wav

LOUDNESS = 0.05  # root mean square to which all stimuli are brought: louder must not mean better


@dataclass(frozen=True)
class Stimulus:
    """One text as every system says it: system -> samples (n,). `reference`: a recording of it, or None."""

    text: str
    systems: dict[str, np.ndarray]
    reference: np.ndarray | None = None


def levelled(wav: np.ndarray) -> np.ndarray:
    """wav (n,) at a root mean square of LOUDNESS, or as near to it as its peak allows."""
    rms, peak = float(np.sqrt(np.mean(np.square(wav, dtype=np.float64)))), float(np.abs(wav).max())
    return wav * np.float32(min(LOUDNESS / rms, 0.98 / peak)) if rms > 0 else wav


def page(stimuli: Sequence[Stimulus], rate: int, title: str) -> str:
    """The HTML file. With two systems or more: AB and ABX of every pair, and MOS of each; else MOS alone."""
    usable = [s for s in stimuli if all(len(w) for w in s.systems.values())]
    if not usable:
        raise UsageError("there is nothing to listen to: no text was spoken by every system")
    sounds: list[str] = []
    key: list[str] = []
    trials: list[dict[str, object]] = []
    for s in usable:
        numbers = []
        for name, wav in [*s.systems.items(), *([("recording", s.reference)] if s.reference is not None else [])]:
            numbers.append(len(sounds))
            sounds.append(audio_uri(levelled(wav), rate))
            key.append(name)
        trials += [{"kind": "mos", "text": s.text, "sounds": [n]} for n in numbers]
        systems = numbers[: len(s.systems)]
        pairs = [[a, b] for i, a in enumerate(systems) for b in systems[i + 1 :]]
        trials += [{"kind": kind, "text": s.text, "sounds": pair} for pair in pairs for kind in ("ab", "abx")]
    data = {
        "title": title,
        "sounds": sounds,
        "trials": trials,
        "key": base64.b64encode(json.dumps(key).encode()).decode(),
    }
    here = resources.files("sopro_np.evaluate")
    html, script = (here.joinpath(f"listening.{kind}").read_text("utf-8") for kind in ("html", "js"))
    inside = json.dumps(data).replace("<", "\\u003c")  # a text cannot end the script element
    return html.replace("@SCRIPT@", script).replace("@TRIALS@", inside)


def write_webmushra(folder: Path, stimuli: Sequence[Stimulus], rate: int) -> None:
    """`folder`/sopro.yaml and `folder`/resources/sopro/*.wav, to be copied into webMUSHRA's configs/.

    A MUSHRA page (ITU-R BS.1534) for every text that has a recording as the reference, else likert pages.
    """
    wavs = folder / "resources" / "sopro"
    try:
        wavs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    pages: list[dict[str, object]] = []
    for i, s in enumerate(stimuli):
        files = {}
        for j, (name, wav) in enumerate(s.systems.items()):
            if len(wav):
                write_wav(wavs / f"{i:03d}_{j}.wav", levelled(wav), rate)
                files[f"C{j}_{name}"] = f"configs/resources/sopro/{i:03d}_{j}.wav"
        common = {"id": f"text{i:03d}", "name": "How good is it?", "content": s.text}
        if s.reference is not None:
            write_wav(wavs / f"{i:03d}_ref.wav", levelled(s.reference), rate)
            pages.append(
                common
                | {
                    "type": "mushra",
                    "showWaveform": False,
                    "enableLooping": True,
                    "createAnchor35": True,
                    "createAnchor70": False,
                    "randomize": True,
                    "showConditionNames": False,
                    "reference": f"configs/resources/sopro/{i:03d}_ref.wav",
                    "stimuli": files,
                }
            )
            continue
        scale = [{"value": n, "label": t} for n, t in enumerate(("bad", "poor", "fair", "good", "excellent"), 1)]
        pages.append(common | {"type": "likert_single_stimulus", "mustRate": True, "stimuli": files, "response": scale})
    last = {
        "type": "finish",
        "name": "Thank you",
        "content": "Please send the results.",
        "showResults": False,
        "writeResults": True,
    }
    experiment = {
        "testname": "sopro_np",
        "testId": "sopro_np",
        "bufferSize": 2048,
        "stopOnErrors": True,
        "showButtonPreviousPage": True,
        "remoteService": "service/write.php",
        "pages": [["random", *pages], last],
    }
    with replacing(folder / "sopro.yaml", UsageError) as f:
        f.write(yaml(experiment).encode("utf-8"))


def yaml(value: object, indent: str = "") -> str:
    """Dictionaries, lists, strings, numbers and truth values as block YAML; all strings, keys too, in JSON's quotes."""
    if isinstance(value, dict):
        return "".join(f"{indent}{_scalar(k)}:{_below(v, indent)}" for k, v in value.items())
    if isinstance(value, list):
        return "".join(f"{indent}-{_below(v, indent)}" for v in value)
    return f"{indent}{_scalar(value)}\n"


def _scalar(value: object) -> str:
    """JSON, and what YAML does not take as it is, escaped."""
    written = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in written)


def _below(value: object, indent: str) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + yaml(value, indent + "  ")
    return f" {_scalar(value)}\n"
