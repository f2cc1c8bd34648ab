"""Stage `predict`: for every rendered utterance the codes that Sopro's NAR part finds, given the first codebook's.

The decoder is tuned on them (decoder.predicted), so that it is used to the mistakes it will have to say.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tools.train.codebooks import Codebooks
from tools.train.oracle import SoproV15
from tools.train.render import Renderings
from tools.train.tokenizer import character_tokenizer, encode


def make(cfg: SimpleNamespace, work: Path) -> None:
    """work/predicted.u16: (frames, codebooks), frame by frame as work/render has them; goes on where it stopped."""
    torch.set_num_threads(cfg.codec.threads)
    held, books = Renderings(work, cfg.data.validation_every), Codebooks.load(work)
    model, tokenizer = SoproV15.from_checkpoint(work / "sopro" / "model.safetensors"), character_tokenizer()
    path, row = work / "predicted.u16", 2 * len(books.books)
    done = path.stat().st_size // row if path.exists() else 0
    began, count = time.time(), 0
    with open(path, "ab") as out:
        for position, entry in enumerate(held.entries):
            if entry.start + entry.frames <= done:
                continue
            out.truncate(row * entry.start)
            rows = held.vectors[entry.start : entry.start + entry.frames].astype(np.float32)
            codes = books.codes(books.components(torch.from_numpy(rows)))
            ids = torch.tensor(encode(tokenizer, held.corpus.entries[entry.number].text))
            cond, _ = model.prepare(ids, codes, len(codes))
            model.nar_refine(cond, codes[:, 0]).numpy().astype(np.uint16).tofile(out)
            out.flush()
            count += 1
            if count % 1000 == 0:
                pace = count / (time.time() - began)
                print(f"predict: {position + 1}/{len(held.entries)}, {pace:.1f} utterances a second", flush=True)
