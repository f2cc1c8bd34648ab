"""A Sopro over many utterances at once, with modules that know no padding (oracle.py).

What is padded must be zero wherever a convolution looks: every block's gated unit, which its convolution reads, is
multiplied by the mask of the moment. Causal stacks need none, since padding comes last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train.oracle import Reference, Sopro, SoproV1, SoproV15, SSMLiteBlock, run_stack

AFTER = 8  # frames behind the end in which the end is still wanted


class Batch(NamedTuple):
    """ids (B, L) and lengths (B,); codes (B, T, Q), what they stand for (B, T, D) and frames (B,); ref (B, R, Q) of one
    length; places (B, T), NaN = unknown."""

    ids: Tensor
    lengths: Tensor
    codes: Tensor
    components: Tensor
    frames: Tensor
    ref: Tensor
    places: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device) for tensor in self))

    @property
    def inside(self) -> Tensor:
        """(B, T) bool."""
        return torch.arange(self.codes.shape[1]) < self.frames[:, None]

    @property
    def spoken(self) -> Tensor:
        """(B, L) bool."""
        return torch.arange(self.ids.shape[1]) < self.lengths[:, None]


class FirstCodes(NamedTuple):
    """What the AR part says to a batch: its loss, the end's included; the share of codes it finds; each attention
    layer's weights on the text (B, heads, T, L)."""

    loss: Tensor
    hits: Tensor
    attention: list[Tensor]


Model = TypeVar("Model", bound=Sopro)


class Batched(ABC, Generic[Model]):
    """The passes over a Batch that both generations share."""

    mask: Tensor | None

    def __init__(self, model: Model, dropout: float, end: float = 1.0, after: float = 0.0) -> None:
        """Of a fresh model; gates open a little, since behind a closed one nothing is learnt.

        An utterance's end counts as much as `end` codes, and every frame behind it, up to AFTER, as `after` codes.
        """
        self.model, self.mask, self.end, self.after = model, None, end, after
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                nn.init.constant_(parameter, 0.7)
            elif name.endswith(("emb.weight", "stage_emb.weight")) or "head_id_emb" in name:
                nn.init.normal_(parameter, std=0.3)
        for module in model.modules():
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

    def condition(self, pool: Tensor, ref: Tensor, frames: int) -> Tensor:
        """Pooled text (B, D) and reference codes (B, R, Q) -> conditioning (B, rows, D), for so many frames."""
        m = self.model
        seq = m.ref_enc_norm(run_stack(m.ref_enc_blocks, m.mix_reference(ref)))
        x = pool[:, None] + m.frame_positions(m.condition_rows(frames))
        x = m.spk_film(x, m.token2sv(ref), m.cfg.style_strength)
        return m.cond_norm(m.attend_reference(x, Reference(seq, m.reference_kv(seq))))

    @abstractmethod
    def first_codes(self, batch: Batch, cond: Tensor, given: Tensor, text: Tensor) -> FirstCodes:
        """Conditioning (B, rows, D), first codes as they are given (B, T), encoded text (B, L, D)."""

    @abstractmethod
    def first_logits(self, batch: Batch, cond: Tensor, given: Tensor, text: Tensor) -> Tensor:
        """Of the same, each row's logits for the next first code (B, rows, V), and for the end where it is a code."""

    def stop_logits(self, cond: Tensor, codes: Tensor) -> Tensor | None:
        """Conditioning (B, T, D), first codes (B, T) -> how sure the model is of the end (B, T), if a head says so."""
        return None

    @abstractmethod
    def nar(self, cond: Tensor, known: Tensor, groups: dict[str, slice], inside: Tensor) -> dict[str, list[Tensor]]:
        """For each item one stage at most, that of its group: conditioning (B, T, D), codes (B, T, Q) -> each head's
        logits."""

    def stages(self) -> Iterator[tuple[str, list[int]]]:
        """Every stage, and the codebooks that are known before it."""
        before = [0]
        for stage, books in self.model.stage_books.items():
            yield stage, before
            before = before + books


class BatchedV15(Batched[SoproV15]):
    """Sopro v1.5: the end is a code of its own; one trunk for all stages, which looks both ways."""

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

    def first_codes(self, batch: Batch, cond: Tensor, given: Tensor, text: Tensor) -> FirstCodes:
        """Behind an utterance's end, after its last code, the end is wanted, too: who missed it is to stop at once."""
        last = given.gather(1, batch.frames[:, None] - 1)
        given = torch.where(batch.inside, given, last)
        logits, attention = self.ar(cond, given, text, batch.spoken)
        late = torch.arange(given.shape[1] + 1) - batch.frames[:, None]
        target = torch.where(late < 0, F.pad(batch.codes[..., 0], (0, 1)), self.model.eos)
        weight = torch.where(late == 0, self.end, torch.where(late < 0, 1.0, self.after)) * (late <= AFTER)
        counted = weight > 0
        found, wanted = logits[counted], target[counted]
        errors = F.cross_entropy(found, wanted, reduction="none")
        return FirstCodes(
            (errors * weight[counted]).sum() / weight.sum(),
            (found.argmax(-1) == wanted)[late[counted] < 0].float().mean(),
            [weights[:, :, :-1] for weights in attention],
        )

    def first_logits(self, batch: Batch, cond: Tensor, given: Tensor, text: Tensor) -> Tensor:
        return self.ar(cond, given, text, batch.spoken)[0]

    def nar(self, cond: Tensor, known: Tensor, groups: dict[str, slice], inside: Tensor) -> dict[str, list[Tensor]]:
        m, inputs = self.model, []
        for stage, before in self.stages():
            share, items = m.nar.mix[stage].softmax(0), groups[stage]
            mixed = share[0] * cond[items] + share[1] * m.previous_codes(known[items][..., before], before)
            inputs.append(m.nar.adapter(mixed, m.nar.stage_emb.weight[m.nar.row[stage]]))
        with self.masked(torch.cat([inside[items] for items in groups.values()])):
            z = m.nar.pre(m.nar.norm(run_stack(m.nar.blocks, torch.cat(inputs))))
        parts = z.split([len(x) for x in inputs])
        return {
            stage: [
                (head(part) + F.linear(row, head.weight)).float()  # as in a converted file: a part of the bias
                for head, row in zip(m.nar.heads[stage], m.nar.head_id_emb[stage].weight, strict=True)
            ]
            for stage, part in zip(groups, parts, strict=True)
        }


class BatchedV1(Batched[SoproV1]):
    """Sopro v1: a head of its own tells the end; the reference's last codes come before the first; causal stages."""

    def look_back(self, given: Tensor, ref: Tensor) -> Tensor:
        """The previous codes' term of every frame (B, T, D), for references at least as long as the look-back."""
        m, first = self.model, len(self.model.prefix(ref[0]))
        rows = m.cb_embed.emb(torch.cat((ref[:, :first, 0], given), 1))
        weights = m.ar_hist_w.softmax(0) if m.cfg.ar_lookback else torch.ones(1)
        shifted = (rows[:, first - k : first - k + given.shape[1]] for k in range(1, len(weights) + 1))
        return sum(weight * x for weight, x in zip(weights, shifted, strict=True))

    def ar(self, cond: Tensor, given: Tensor, ref: Tensor, text: Tensor, spoken: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Conditioning (B, T, D), given codes (B, T) -> logits (B, T, V), text attention (B, heads, T, L)."""
        m, weights, x = self.model, [], cond + self.look_back(given, ref)
        for i, block in enumerate(m.ar.blocks):
            x = block(x)
            if str(i) in m.ar.x_attns:
                layer = m.ar.x_attns[str(i)]
                context = layer.nkv(text)
                found, weight = layer.attn(
                    layer.nq(x), context, context, key_padding_mask=~spoken, average_attn_weights=False
                )
                weights.append(weight)
                x = x + layer.gate.tanh() * found
        return m.ar.head(m.ar.norm(x)), weights

    def first_codes(self, batch: Batch, cond: Tensor, given: Tensor, text: Tensor) -> FirstCodes:
        m, inside, wanted = self.model, batch.inside, batch.codes[..., 0]
        logits, attention = self.ar(cond, given, batch.ref, text, batch.spoken)
        loss = F.cross_entropy(logits[inside], wanted[inside])
        if m.cfg.use_stop_head:  # it has to be sure for `stop_patience` frames: the last ones
            last = torch.arange(given.shape[1]) >= batch.frames[:, None] - m.cfg.stop_patience
            sure = self.stop_logits(cond, wanted)
            loss = loss + F.binary_cross_entropy_with_logits(sure[inside], last[inside].float())
        return FirstCodes(loss, (logits.argmax(-1) == wanted)[inside].float().mean(), attention)

    def first_logits(self, batch: Batch, cond: Tensor, given: Tensor, text: Tensor) -> Tensor:
        return self.ar(cond, given, batch.ref, text, batch.spoken)[0]

    def stop_logits(self, cond: Tensor, codes: Tensor) -> Tensor | None:
        m = self.model
        return m.stop_head.proj(cond + m.cb_embed.emb(codes))[..., 0] if m.cfg.use_stop_head else None

    def nar(self, cond: Tensor, known: Tensor, groups: dict[str, slice], inside: Tensor) -> dict[str, list[Tensor]]:
        m, found = self.model, {}
        for stage, before in self.stages():
            items = groups[stage]
            found[stage] = m.nar_logits(stage, cond[items], m.previous_codes(known[items][..., before], before))
        return found


BATCHED: dict[type[Sopro], type[Batched]] = {SoproV1: BatchedV1, SoproV15: BatchedV15}
