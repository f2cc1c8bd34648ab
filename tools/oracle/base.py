"""What the two generations share: text, speaker vector, conditioning and the stage-by-stage refinement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from .blocks import (
    CodebookEmbedding,
    PositionTable,
    RMSNorm,
    SpeakerFiLM,
    SSMLiteBlock,
    TextEncoder,
    Token2SV,
    block_stack,
    run_stack,
)
from .common import STAGES, CommonConfig, read_checkpoint

KV = tuple[Tensor, Tensor]


class Reference(NamedTuple):
    """An encoded reference: its sequence (R, D) and, in v1.5, each layer's keys and values (H, R, D/H)."""

    seq: Tensor
    kv: tuple[KV, ...] = ()


class StagePass(NamedTuple):
    """What a NAR stage saw of earlier codes (T, D), each head's logits (T, V), their argmax (T, heads)."""

    stage: str
    prev_emb: Tensor
    logits: list[Tensor]
    codes: Tensor


class Sopro(nn.Module, ABC):
    """A text-to-codes model. Subclasses add the reference attention, the AR part and the NAR part."""

    config_type: ClassVar[type[CommonConfig]]
    extra_frames: ClassVar[int]  # rows of the frame position table beyond pos_emb_max

    def __init__(self, cfg: CommonConfig, vocabulary: int, ref_enc_layers: int) -> None:
        super().__init__()
        self.cfg = cfg
        width, books, values = cfg.d_model, cfg.num_codebooks, cfg.codebook_size
        self.text_enc = TextEncoder(vocabulary, width, cfg.n_layers_text, cfg.max_text_len + 8)
        self.cb_embed = CodebookEmbedding(books, values, width)
        self.token2sv = Token2SV(books, values, cfg.sv_student_dim)
        self.spk_film = SpeakerFiLM(cfg.sv_student_dim, width)
        self.cond_norm = RMSNorm(width)
        self.ref_enc_blocks = block_stack(ref_enc_layers, width)
        self.ref_enc_norm = RMSNorm(width)
        self.frame_positions = PositionTable(cfg.pos_emb_max + self.extra_frames, width)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """Load a published checkpoint, every tensor of it (strict). The text table gives the vocabulary."""
        tensors, raw = read_checkpoint(path)
        vocabulary = len(tensors["text_enc.embed.emb.weight"])
        model = cls(cls.config_type.from_dict(raw), vocabulary)
        model.load(tensors)
        return model.eval()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """All tensors of a checkpoint (strict), whose feed-forwards may be narrower than the config says (pruned)."""
        for name, block in self.named_modules():
            if isinstance(block, SSMLiteBlock):
                block.narrow(len(tensors[f"{name}.ff.1.weight"]))
        self.load_state_dict(tensors, strict=True)

    @torch.inference_mode()
    def encode_text(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (L,) -> sequence (L, D), pooled (D,)."""
        return self.text_enc(ids)

    @torch.inference_mode()
    def speaker(self, ref: Tensor) -> Tensor:
        """Reference codes (R, Q) -> unit speaker vector (S,)."""
        return self.token2sv(ref)

    @torch.inference_mode()
    def reference(self, ref: Tensor) -> Reference:
        """Reference codes (R, Q) -> what the conditioning attends to."""
        seq = self.ref_enc_norm(run_stack(self.ref_enc_blocks, self.mix_reference(ref)))
        return Reference(seq, self.reference_kv(seq))

    @torch.inference_mode()
    def condition(
        self, pool: Tensor, speaker: Tensor, reference: Reference, rows: int, style: float | None = None
    ) -> Tensor:
        """The frames' conditioning (rows, D); style defaults to the config's strength."""
        strength = self.cfg.style_strength if style is None else style
        x = self.spk_film(self.frame_base(pool, rows), speaker, strength)
        return self.cond_norm(self.attend_reference(x, reference))

    @torch.inference_mode()
    def prepare(self, ids: Tensor, ref: Tensor, max_frames: int, style: float | None = None) -> tuple[Tensor, Tensor]:
        """Text and reference -> all conditioning rows and the text sequence (L, D).

        The reference is taken as it is: whoever calls crops it.
        """
        text, pool = self.encode_text(ids)
        rows = self.condition_rows(max_frames)
        return self.condition(pool, self.speaker(ref), self.reference(ref), rows, style), text

    def frame_base(self, pool: Tensor, rows: int) -> Tensor:
        return pool + self.frame_positions(rows)

    @torch.inference_mode()
    def nar_passes(self, cond: Tensor, rvq1: Tensor) -> Iterator[StagePass]:
        """Codebook-0 tokens (T,) -> one pass per stage, each seeing the argmax of those before it."""
        books, known = [0], rvq1[:, None]
        for stage, stage_books in self.stage_books.items():
            prev = self.previous_codes(known, books)
            logits = self.nar_logits(stage, cond[: len(rvq1)], prev)
            codes = torch.stack([head.argmax(-1) for head in logits], dim=1)
            yield StagePass(stage, prev, logits, codes)
            books = books + stage_books
            known = torch.cat((known, codes), dim=1)

    @torch.inference_mode()
    def nar_refine(self, cond: Tensor, rvq1: Tensor) -> Tensor:
        """Codebook-0 tokens (T,) -> all codes (T, Q)."""
        if len(rvq1) == 0:
            return rvq1.new_zeros(0, self.cfg.num_codebooks)
        return self.assemble(rvq1, {p.stage: p.codes for p in self.nar_passes(cond, rvq1)})

    @property
    def stage_books(self) -> dict[str, list[int]]:
        """The codebooks each stage predicts, in the order in which the stages run."""
        return {stage: list(self.cfg.stage_range(stage)) for stage in STAGES}

    @abstractmethod
    def mix_reference(self, ref: Tensor) -> Tensor:
        """Reference codes (R, Q) -> embeddings mixed over codebooks (R, D)."""

    def reference_kv(self, seq: Tensor) -> tuple[KV, ...]:
        return ()

    @abstractmethod
    def attend_reference(self, x: Tensor, reference: Reference) -> Tensor:
        """The reference attention stack, row by row (N, D) -> (N, D)."""

    @abstractmethod
    def condition_rows(self, max_frames: int) -> int:
        """How many rows the conditioning has."""

    @abstractmethod
    def previous_codes(self, known: Tensor, books: list[int]) -> Tensor:
        """Codes (T, k) of the codebooks known so far -> one embedding (T, D)."""

    @abstractmethod
    def nar_logits(self, stage: str, cond: Tensor, prev: Tensor) -> list[Tensor]:
        """One stage: cond (T, D) and previous codes (T, D) -> each head's logits (T, V)."""

    @abstractmethod
    def assemble(self, rvq1: Tensor, stages: dict[str, Tensor]) -> Tensor:
        """Codebook 0 (T,) and each stage's codes (T, heads) -> all codes (T, Q)."""

    def embed_known(self, known: Tensor, books: list[int]) -> Tensor:
        """Codes (T, k) of the named codebooks -> their rows (T, k, D)."""
        return self.cb_embed.emb(known + torch.tensor(books) * self.cb_embed.values)
