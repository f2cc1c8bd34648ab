"""Stage `taught-predict`: the codes that Sopro's NAR part finds for what was rendered (../predict.py for lessons).

A part that is taught the least expected distance says the mean of what it cannot know, so what it finds deviates less
than the lessons do. By how much is printed: what a decoder that learns from these codes has to make up for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tools.train.codebooks import Codebooks
from tools.train.growing import Column, Growing, read_index
from tools.train.oracle import read_sopro
from tools.train.taught.coded import CodedLessons
from tools.train.tokenizer import character_tokenizer, encode

JUDGED = 200  # utterances


def make(cfg: SimpleNamespace, work: Path) -> None:
    """work/predicted (growing.py): codes.u16 (frames, codebooks), row by row for work/render's frames."""
    torch.set_num_threads(cfg.codec.threads)
    books, file = Codebooks.load(work), work / "sopro" / "model.safetensors"
    longest = cfg.sopro.models[cfg.sopro.architecture]["max_text_len"]
    lessons, rendered = CodedLessons(work, cfg.data.validation_every, longest), read_index(work / "render")
    model, tokenizer = read_sopro(cfg.sopro.architecture, file), character_tokenizer()
    source = hashlib.sha256(file.read_bytes() + (work / "codebooks.npz").read_bytes()).hexdigest()
    with Growing(
        work / "predicted", "frames", Column("codes.u16", np.uint16, len(books.books)), source=source
    ) as files:
        for entry in rendered[files.count :]:
            codes = lessons.codes(entry["number"])
            if len(codes):
                ids = torch.tensor(encode(tokenizer, lessons.text(entry["number"])[: longest - 2]))
                cond, _ = model.prepare(ids, codes, len(codes))
                codes = model.nar_refine(cond, codes[:, 0])
            files.add({"frames": len(codes)}, codes.numpy())
    found = np.memmap(work / "predicted" / "codes.u16", np.uint16, "r").reshape(-1, len(books.books))
    print(f"taught-predict: {deviations(books, lessons, rendered, found)}", flush=True)


def deviations(
    books: Codebooks, lessons: CodedLessons, rendered: list[dict], found: np.ndarray, most: int = 200
) -> str:
    """How far predicted codes (N, Q) are from components, and by how much less they deviate, in the first lessons."""
    said = [entry for entry in rendered if entry["frames"]][:JUDGED]
    wanted = torch.cat([lessons.components(entry["number"]) for entry in said])
    rows = np.concatenate([found[e["start"] : e["start"] + e["frames"]] for e in said]).astype(np.int64)
    guessed = books.rows(torch.from_numpy(rows)[None])[1][0]
    left = (guessed - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
    return f"{left:.3f} of the variance left, deviations {(guessed.std(0) / wanted.std(0)).mean():.3f} of the lessons'"
