"""Stage `embed`: what was trained becomes the model inside the package, with its voices.

The ordinary converter makes it, with the recipe demo-recipe.json. Before, the AR head is sharpened: engine and upstream
draw codes at a temperature of 1.05, which suits a large model; a small one is surer of the right code than of how wrong
the others are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import load_recipe
from sopro_np.engine import open_model
from sopro_np.locate import EMBEDDED, VOICE_SUFFIX
from tools.train import pace
from tools.train.codebooks import Codebooks
from tools.train.codes import components_of
from tools.train.data import aligned
from tools.train.flite import speak
from tools.train.oracle import new_sopro, read_sopro, save_checkpoint

HERE = Path(__file__).resolve().parent
REFERENCE = "the rainbow is a division of white light into many beautiful colours."  # in no training text

ORIGIN = {"license": "Apache-2.0", "made_by": "tools/train"}


def sharpened(cfg: SimpleNamespace, source: Path, target: Path, factor: float) -> None:
    """A Sopro checkpoint whose first codes are drawn at 1 / factor of the temperature; tables as the settings say."""
    trained = read_sopro(cfg.architecture, source)
    model = new_sopro(cfg.architecture, cfg.models, len(trained.text_enc.embed.emb.weight))
    model.load(trained.state_dict())
    with torch.no_grad():
        for parameter in model.ar.head.parameters():
            parameter.mul_(factor)
    save_checkpoint(model, target)


def make_model(cfg: SimpleNamespace, work: Path, path: Path) -> None:
    """work/sopro and work/codec -> one file."""
    with tempfile.TemporaryDirectory() as scratch:
        sharp = Path(scratch, "model.safetensors")
        sharpened(cfg.sopro, work / "sopro" / "model.safetensors", sharp, cfg.embed.sharpness)
        pace.write(sharp, pace.of_lessons(work))
        recipe = load_recipe(cfg.embed.recipe or str(HERE / "demo-recipe.json"))
        parts = sharp, work / "codec" / "mimi", work / "sopro" / "tokenizer"
        convert(path, recipe, *parts, origin=dict.fromkeys(("sopro", "mimi", "tokenizer"), ORIGIN))


def make_voices(cfg: SimpleNamespace, work: Path, path: Path) -> None:
    """The configured voices, beside the model file that they are for."""
    tts, books = open_model(path), Codebooks.load(work)
    for name, (voice, shift) in cfg.embed.voices.items():
        speech = aligned(speak(REFERENCE, voice))
        x = components_of(books, speech.samples / 32768, speech.track, shift, cfg.codec.lag)
        tts.voice_from_codes(books.codes(x).numpy()).save(path.with_name(f"{name}{VOICE_SUFFIX}"))


def embed(cfg: SimpleNamespace, work: Path) -> None:
    """Both, into cfg.embed.folder, else into the package."""
    folder = Path(cfg.embed.folder) if cfg.embed.folder else EMBEDDED.parent
    folder.mkdir(parents=True, exist_ok=True)
    make_model(cfg, work, folder / EMBEDDED.name)
    make_voices(cfg, work, folder / EMBEDDED.name)
    for path in sorted(folder.glob("*.safetensors")):
        print(f"embed: {path} {path.stat().st_size / 1e6:.3f} MB", flush=True)
