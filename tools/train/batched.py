"""A Sopro v1.5 over many utterances at once, with modules that know no padding (oracle.py).

What is padded must be zero wherever a convolution looks: every block's gated unit, which its convolution reads, is
multiplied by the mask of the moment. Causal stacks need none, since padding comes last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train.oracle import ConfigV15, SoproV15, SSMLiteBlock, run_stack


class Batch(NamedTuple):
    """ids (B, L) and lengths (B,); codes (B, T, Q) and frames (B,); ref (B, R, Q) of one length; places (B, T), NaN =
    unknown."""

    ids: Tensor
    lengths: Tensor
    codes: Tensor
    frames: Tensor
    ref: Tensor
    places: Tensor

    @property
    def inside(self) -> Tensor:
        """(B, T) bool."""
        return torch.arange(self.codes.shape[1]) < self.frames[:, None]

    @property
    def spoken(self) -> Tensor:
        """(B, L) bool."""
        return torch.arange(self.ids.shape[1]) < self.lengths[:, None]


class Batched:
    """The model's passes over a Batch."""

    def __init__(self, settings: dict[str, Any], vocabulary: int, seed: int, dropout: float) -> None:
        """A fresh model; gates open a little, since behind a closed one nothing is learnt."""
        torch.manual_seed(seed)
        self.model = SoproV15(ConfigV15.from_dict(settings), vocabulary)
        self.mask: Tensor | None = None
        for name, parameter in self.model.named_parameters():
            if name.endswith("gate"):
                nn.init.constant_(parameter, 0.7)
            elif name.endswith(("emb.weight", "stage_emb.weight")) or "head_id_emb" in name:
                nn.init.normal_(parameter, std=0.3)
        for module in self.model.modules():
            if isinstance(module, SSMLiteBlock):
                for part in (module.glu, module.ff):
                    part.register_forward_hook(lambda m, _, y: F.dropout(y, dropout, m.training))
                module.glu.register_forward_hook(lambda m, _, y: y if self.mask is None else y * self.mask)

    @contextmanager
    def masked(self, inside: Tensor) -> Iterator[None]:
        """Rows where `inside` (B, T) is false are no input of any convolution."""
        self.mask = inside[..., None]
        try:
            yield
        finally:
            self.mask = None

    def text(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encoded text (B, L, D) and its pooled vectors (B, D)."""
        encoder, inside = self.model.text_enc, batch.spoken
        x = encoder.embed.emb(batch.ids) + encoder.embed.positions(batch.ids.shape[1])
        with self.masked(inside):
            sequence = encoder.norm(run_stack(encoder.layers, x))
        return sequence, (sequence * inside[..., None]).sum(1) / (batch.lengths[:, None] + 1e-6)

    def condition(self, pool: Tensor, ref: Tensor, rows: int) -> Tensor:
        """Pooled text (B, D) and reference codes (B, R, Q) -> conditioning (B, rows, D)."""
        m = self.model
        seq = m.ref_enc_norm(run_stack(m.ref_enc_blocks, m.mix_reference(ref)))
        x = m.spk_film(pool[:, None] + m.frame_positions(rows), m.token2sv(ref), m.cfg.style_strength)
        return m.cond_norm(m.ref_xattn(x, m.reference_kv(seq)))

    def ar(self, cond: Tensor, given: Tensor, text: Tensor, spoken: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Conditioning (B, T+1, D), given codes (B, T) -> logits (B, T+1, V+1), text attention (B, heads, T+1, L)."""
        m, weights = self.model, []
        before = torch.cat((given.new_full((len(given), 1), m.cb_embed.bos), given), 1)
        x, kv = cond + m.cb_embed.emb(before), m.ar.text_kv(text)
        for i, block in enumerate(m.ar.blocks):
            x = block(x)
            if i in kv:
                attention = m.ar.x_attns[str(i)]
                query = attention.split(attention.q_proj(attention.nq(x)))
                scores = (query @ kv[i][0].mT / query.shape[-1] ** 0.5).float()
                weights.append(scores.masked_fill(~spoken[:, None, None], -1e9).softmax(-1))
                values = (weights[-1].to(query.dtype) @ kv[i][1]).transpose(1, 2).flatten(2)
                x = x + attention.gate.tanh() * attention.out_proj(values)
        return m.ar.head(m.ar.norm(x)).float(), weights

    def nar(self, cond: Tensor, known: Tensor, groups: dict[str, slice], inside: Tensor) -> dict[str, list[Tensor]]:
        """For each item one stage, that of its group: conditioning (B, T, D), codes (B, T, Q) -> each head's logits."""
        m, inputs, before = self.model, [], [0]
        for stage, books in m.stage_books.items():
            share, items = m.nar.mix[stage].softmax(0), groups[stage]
            prev = m.previous_codes(known[items][..., before], before)
            mixed = share[0] * cond[items] + share[1] * prev
            inputs.append(m.nar.adapter(mixed, m.nar.stage_emb.weight[m.nar.row[stage]]))
            before = before + books
        with self.masked(inside):
            z = m.nar.pre(m.nar.norm(run_stack(m.nar.blocks, torch.cat(inputs))))
        return {
            stage: [
                head(z[items] + row).float()
                for head, row in zip(m.nar.heads[stage], m.nar.head_id_emb[stage].weight, strict=True)
            ]
            for stage, items in groups.items()
        }
