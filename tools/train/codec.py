"""Stage `codec`: encoder, codebooks and decoder become one Mimi, in transformers' format."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import MimiModel

from tools.train.codebooks import Codebooks
from tools.train.mimi import decoder_parts, encoder_parts, new_model, quantiser_halves


@torch.no_grad()
def assembled(settings: dict[str, Any], books: Codebooks, encoder: dict | None, decoder: dict) -> MimiModel:
    """A MimiModel with these codebooks and the stages' weights; None: an encoder that has learnt nothing."""
    model = new_model(settings, 0)
    head = nn.Linear(model.config.hidden_size, model.config.codebook_dim, bias=False)
    if encoder is not None:
        encoder_parts(model, head).load_state_dict(encoder)
    decoder_parts(model).load_state_dict(decoder)
    semantic, acoustic = quantiser_halves(model)
    semantic.input_proj.weight[..., 0] = books.semantic.T @ head.weight
    acoustic.input_proj.weight[..., 0] = head.weight
    layers = [layer for half in (semantic, acoustic) for layer in half.layers]
    for layer, rows in zip(layers, books.books, strict=True):
        layer.codebook.embed_sum.copy_(rows)
        layer.codebook.cluster_usage.fill_(1)
        layer.codebook.initialized.fill_(1)
    return model


def assemble(cfg: SimpleNamespace, work: Path) -> None:
    """work/codebooks.npz, work/encoder, work/decoder -> work/codec/mimi; without an encoder it cannot clone."""
    encoder = work / "encoder" / "weights.pt"
    heard = torch.load(encoder, weights_only=True) if encoder.exists() else None
    decoder = torch.load(work / cfg.decoder.folder / "weights.pt", weights_only=True)
    assembled(cfg.codec.mimi, Codebooks.load(work), heard, decoder).save_pretrained(work / "codec" / "mimi")
    print(f"codec: {work / 'codec' / 'mimi'}", flush=True)
