"""Stage `predict`: for every rendered utterance the codes that Sopro's NAR part finds, given the first codebook's.

The decoder is tuned on them (decoder.predicted), so that it is used to the mistakes it will have to say.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tools.train.codebooks import Codebooks
from tools.train.growing import Column, Growing
from tools.train.oracle import read_sopro
from tools.train.render import Renderings
from tools.train.tokenizer import character_tokenizer, encode


def make(cfg: SimpleNamespace, work: Path) -> None:
    """work/predicted (growing.py): codes.u16 (frames, codebooks), row by row for work/render's frames."""
    torch.set_num_threads(cfg.codec.threads)
    held, books = Renderings(work, cfg.data.validation_every), Codebooks.load(work)
    file = work / "sopro" / "model.safetensors"
    model, tokenizer = read_sopro(cfg.sopro.architecture, file), character_tokenizer()
    source = hashlib.sha256(file.read_bytes() + (work / "codebooks.npz").read_bytes()).hexdigest()
    columns = Column("codes.u16", np.uint16, len(books.books))
    with Growing(work / "predicted", "frames", columns, source=source) as files:
        for entry in held.entries[files.count :]:
            rows = held.vectors[entry.start : entry.start + entry.frames].astype(np.float32)
            codes = books.codes(books.components(torch.from_numpy(rows)))
            ids = torch.tensor(encode(tokenizer, held.corpus.entries[entry.number].text))
            cond, _ = model.prepare(ids, codes, len(codes))
            files.add({"frames": len(codes)}, model.nar_refine(cond, codes[:, 0]).numpy())
