"""Stage `taught-embed`: the taught model as one file, and its voices (../embed.py for the teacher's speakers)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from sopro_np.engine import open_model
from sopro_np.locate import EMBEDDED, VOICE_SUFFIX
from tools.train.codebooks import Codebooks
from tools.train.embed import REFERENCE, make_model
from tools.train.taught import hibari
from tools.train.taught.features import parameters, vectors
from tools.train.taught.speakers import said_by, speakers
from tools.train.taught.teach import taught
from tools.train.taught.texts import written


def make_voices(cfg: SimpleNamespace, work: Path, path: Path) -> None:
    """cfg.embed.people, a name and the number of a speaker each, beside the model file that they are for."""
    tts, books, people = open_model(path), Codebooks.load(work), speakers(cfg)
    lesson = taught(hibari.Hibari(), written(REFERENCE))
    assert lesson is not None
    for name, who in cfg.embed.people.items():
        x = books.components(torch.from_numpy(vectors(parameters(said_by(lesson, people[who])))))
        tts.voice_from_codes(books.codes(x).numpy()).save(path.with_name(f"{name}{VOICE_SUFFIX}"))


def embed(cfg: SimpleNamespace, work: Path) -> None:
    """Both, into cfg.embed.folder, or work/embed: the package's own model stays until somebody replaces it."""
    path = Path(cfg.embed.folder or work / "embed") / EMBEDDED.name
    path.parent.mkdir(parents=True, exist_ok=True)
    make_model(cfg, work, path)
    make_voices(cfg, work, path)
    for file in sorted(path.parent.glob("*.safetensors")):
        print(f"taught-embed: {file} {file.stat().st_size / 1e6:.3f} MB", flush=True)
