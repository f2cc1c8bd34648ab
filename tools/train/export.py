"""Stage `export`: what has been trained so far as half-precision files under work/export, to go on from elsewhere.

They are in upstream's own formats, so the ordinary converter takes them, too. How fast the lessons were spoken goes
into Sopro's metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from tools.train import pace, tokenizer
from tools.train.mimi import load_model


@torch.no_grad()
def export(cfg: SimpleNamespace, work: Path) -> None:
    """work/codec and work/sopro -> work/export/codec, work/export/sopro; what does not exist yet is left out."""
    target = work / "export"
    if (work / "codec" / "mimi").exists():
        model = load_model(work / "codec" / "mimi")
        model.config.max_position_embeddings = cfg.codec.mimi["max_position_embeddings"]
        model.half().save_pretrained(target / "codec")
    source = work / "sopro" / "model.safetensors"
    if source.exists():
        (target / "sopro").mkdir(parents=True, exist_ok=True)
        with safe_open(source, "numpy") as file:
            tensors = {name: file.get_tensor(name).astype(np.float16) for name in file.keys()}  # noqa: SIM118
            save_file(tensors, target / "sopro" / "model.safetensors", file.metadata())
        pace.write(target / "sopro" / "model.safetensors", pace.of_lessons(work))
        tokenizer.save(target / "sopro" / "tokenizer")
    if (work / "evaluation.json").exists():
        figures = json.loads((work / "evaluation.json").read_text())
        (target / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n")
