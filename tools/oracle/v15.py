"""Sopro v1.5: EOS token, cached AR steps, one non-causal NAR trunk shared by all stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import KV, Reference, Sopro
from .blocks import RMSNorm, block_stack, mean_square, run_stack, weigh
from .common import CommonConfig
from .sampling import Sampler, argmax

TEXT_HEADS = 4
ADAPTER_WIDTH = 256


@dataclass(frozen=True, kw_only=True)
class ConfigV15(CommonConfig):
    n_layers_text: int = 2
    nar_kernel_size: int = 11
    nar_dilation_cycle: tuple[int, ...] = (1, 2, 4, 8)
    ref_enc_layers: int = 2
    ref_xattn_heads: int = 2
    ref_xattn_layers: int = 3
    ref_xattn_gmax: float = 0.35


class CrossAttention(nn.Module):
    """Multi-head attention without biases whose keys and values are computed once per context."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.nq, self.nkv = RMSNorm(width), RMSNorm(width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(width, width, bias=False))
        self.gate = nn.Parameter(torch.zeros(()))

    def split(self, x: Tensor) -> Tensor:
        """(T, D) -> (H, T, D/H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def kv(self, context: Tensor) -> KV:
        """Context (S, D) -> keys and values, each (H, S, D/H)."""
        context = self.nkv(context)
        return self.split(self.k_proj(context)), self.split(self.v_proj(context))

    def attend(self, x: Tensor, kv: KV) -> Tensor:
        """Queries from x (T, D) -> the heads' concatenated values (T, D), before the output projection."""
        query = self.split(self.q_proj(self.nq(x)))
        return F.scaled_dot_product_attention(query, *kv).transpose(-3, -2).flatten(-2)


class TextXAttnBlock(CrossAttention):
    """Gated residual attention to the text."""

    def forward(self, x: Tensor, kv: KV) -> Tensor:
        return x + self.gate.tanh() * self.out_proj(self.attend(x, kv))


class RefXAttnBlock(CrossAttention):
    """Gated residual attention to the reference, rescaled to the input's loudness (at most tenfold)."""

    def __init__(self, width: int, heads: int, gmax: float) -> None:
        super().__init__(width, heads)
        self.gmax = gmax

    def forward(self, x: Tensor, kv: KV) -> Tensor:
        a = torch.nan_to_num(self.attend(x, kv), nan=0.0, posinf=0.0, neginf=0.0)
        ratio = (mean_square(x).sqrt() / mean_square(a).sqrt()).clamp(0.0, 10.0)
        return x + self.gmax * self.gate.tanh() * self.out_proj(a * ratio)


class RefXAttnStack(nn.Module):
    def __init__(self, width: int, heads: int, layers: int, gmax: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RefXAttnBlock(width, heads, gmax) for _ in range(layers))

    def kv(self, seq: Tensor) -> tuple[KV, ...]:
        return tuple(block.kv(seq) for block in self.blocks)

    def forward(self, x: Tensor, kv: tuple[KV, ...]) -> Tensor:
        for block, block_kv in zip(self.blocks, kv, strict=True):
            x = block(x, block_kv)
        return x


@dataclass
class ARState:
    """The last inputs of every layer's convolution, and the text's keys and values (never changing)."""

    tails: list[Tensor]
    text_kv: dict[int, KV]


class AR(nn.Module):
    """Causal stack with text attention after every `freq`-th block; V + 1 outputs, the last is EOS."""

    def __init__(self, cfg: ConfigV15) -> None:
        super().__init__()
        width, freq = cfg.d_model, cfg.ar_text_attn_freq
        self.blocks = block_stack(cfg.n_layers_ar, width, cfg.ar_kernel, cfg.ar_dilation_cycle, causal=True)
        attended = (i for i in range(cfg.n_layers_ar) if (i + 1) % freq == 0)
        self.x_attns = nn.ModuleDict({str(i): TextXAttnBlock(width, TEXT_HEADS) for i in attended})
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, cfg.codebook_size + 1)

    def text_kv(self, text: Tensor) -> dict[int, KV]:
        return {int(i): attention.kv(text) for i, attention in self.x_attns.items()}

    def forward(self, x: Tensor, text_kv: dict[int, KV]) -> Tensor:
        """The whole sequence at once, (N, D) -> (N, V+1)."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in text_kv:
                x = self.x_attns[str(i)](x, text_kv[i])
        return self.head(self.norm(x))

    def start(self, text_kv: dict[int, KV]) -> ARState:
        return ARState([block.dw.start() for block in self.blocks], text_kv)

    def step(self, x: Tensor, state: ARState) -> Tensor:
        """One frame (1, D) -> (1, V+1); advances the state."""
        for i, block in enumerate(self.blocks):
            x, state.tails[i] = block.step(x, state.tails[i])
            if i in state.text_kv:
                x = self.x_attns[str(i)](x, state.text_kv[i])
        return self.head(self.norm(x))


class NARStageAdapter(nn.Module):
    """RMSNorm whose gain and shift depend on the stage, (T, D) -> (T, D)."""

    def __init__(self, width: int, hidden: int = ADAPTER_WIDTH) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 2 * width))

    def forward(self, x: Tensor, stage: Tensor) -> Tensor:
        gain, shift = self.mlp(stage).tanh().chunk(2, -1)
        return self.norm(x) * (1 + gain) + shift


class NAR(nn.Module):
    """All stages' trunk and their heads; `stages` holds each remaining stage's number of heads."""

    def __init__(self, cfg: ConfigV15, stages: dict[str, int]) -> None:
        super().__init__()
        width, hidden = cfg.d_model, cfg.nar_head_dim
        self.row = {stage: row for row, stage in enumerate(stages)}
        self.mix = nn.ParameterDict({s: nn.Parameter(torch.zeros(2)) for s in stages})
        self.stage_emb = nn.Embedding(len(stages), width)
        self.adapter = NARStageAdapter(width)
        self.blocks = block_stack(cfg.n_layers_nar, width, cfg.nar_kernel_size, cfg.nar_dilation_cycle)
        self.norm = RMSNorm(width)
        self.pre = nn.Linear(width, hidden)
        self.head_id_emb = nn.ModuleDict({s: nn.Embedding(n, hidden) for s, n in stages.items()})
        self.heads = nn.ModuleDict()
        for stage, count in stages.items():
            heads = (nn.Linear(hidden, cfg.codebook_size) for _ in range(count))
            self.heads[stage] = nn.ModuleList(heads)

    def forward(self, stage: str, cond: Tensor, prev: Tensor) -> list[Tensor]:
        """Conditioning and previous codes (T, D) -> each head's logits (T, V)."""
        share = self.mix[stage].softmax(0)
        x = self.adapter(share[0] * cond + share[1] * prev, self.stage_emb.weight[self.row[stage]])
        z = self.pre(self.norm(run_stack(self.blocks, x)))
        ids = self.head_id_emb[stage].weight
        return [head(z + row) for head, row in zip(self.heads[stage], ids, strict=True)]


class SoproV15(Sopro):
    """Sopro v1.5 from token ids and reference codes to codes."""

    config_type = ConfigV15
    extra_frames = 8
    cfg: ConfigV15

    def __init__(self, cfg: ConfigV15, vocabulary: int) -> None:
        super().__init__(cfg, vocabulary, cfg.ref_enc_layers)
        self.eos = cfg.codebook_size
        self.register_buffer("ref_cb_weights", torch.zeros(cfg.num_codebooks))
        self.nar_prev_cb_weights = nn.Parameter(torch.zeros(cfg.num_codebooks))
        self.ref_xattn = RefXAttnStack(cfg.d_model, cfg.ref_xattn_heads, cfg.ref_xattn_layers, cfg.ref_xattn_gmax)
        self.ar = AR(cfg)
        self.nar = NAR(cfg, {stage: len(books) for stage, books in self.stage_books.items()})

    def mix_reference(self, ref: Tensor) -> Tensor:
        return weigh(self.ref_cb_weights.softmax(0), self.cb_embed.every(ref))

    def reference_kv(self, seq: Tensor) -> tuple[KV, ...]:
        return self.ref_xattn.kv(seq)

    def attend_reference(self, x: Tensor, reference: Reference) -> Tensor:
        return self.ref_xattn(x, reference.kv)

    def condition_rows(self, max_frames: int) -> int:
        return max_frames + 1

    @torch.inference_mode()
    def ar_inputs(self, cond: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: row t is cond[t] + the embedding of tokens[t-1], (N, D) and (N,) -> (N, D)."""
        return cond + self.cb_embed.shifted(tokens, 1)

    @torch.inference_mode()
    def ar_forward(self, x: Tensor, text: Tensor) -> Tensor:
        """All inputs (N, D) and the text (L, D) -> logits (N, V+1), in one parallel pass."""
        return self.ar(x, self.ar.text_kv(text))

    @torch.inference_mode()
    def ar_steps(self, x: Tensor, text: Tensor) -> Tensor:
        """As `ar_forward`, one cached step after the other."""
        state = self.ar.start(self.ar.text_kv(text))
        return torch.cat([self.ar.step(row[None], state) for row in x])

    @torch.inference_mode()
    def ar_stream(
        self,
        cond: Tensor,
        text: Tensor,
        sampler: Sampler = argmax,
        min_gen_frames: float | None = None,
    ) -> Iterator[tuple[int, int, bool]]:
        """Yield (t, token, is EOS) for at most len(cond) steps; EOS ends it from min_gen_frames on.

        An earlier EOS is fed back like any token. `min_gen_frames` may be infinite: never stop.
        """
        least = self.cfg.min_gen_frames if min_gen_frames is None else min_gen_frames
        state = self.ar.start(self.ar.text_kv(text))
        history: list[int] = []
        previous = torch.tensor([self.cb_embed.bos])
        for t in range(len(cond)):
            x = cond[t : t + 1] + self.cb_embed(previous)
            token = sampler(self.ar.step(x, state)[0], history)
            history.append(token)
            yield t, token, token == self.eos
            if token == self.eos and t + 1 >= least:
                return
            previous = torch.tensor([token])

    @torch.inference_mode()
    def generate(
        self,
        text_ids: Tensor,
        ref_codes: Tensor,
        max_frames: int = 400,
        sampler: Sampler = argmax,
        style: float | None = None,
    ) -> Tensor:
        """Text ids (L,) and reference codes (R, Q) -> codes (T, Q), T <= max_frames + 1.

        Ends before the first EOS whatever `min_gen_frames` says, as all of upstream's callers do.
        """
        cond, text = self.prepare(text_ids, ref_codes, max_frames, style)
        frames = self.ar_stream(cond, text, sampler, min_gen_frames=0)
        tokens = [token for _, token, is_eos in frames if not is_eos]
        return self.nar_refine(cond, torch.tensor(tokens, dtype=torch.long))

    @property
    def stage_books(self) -> dict[str, list[int]]:
        """Codebook 0 is the AR's and indices beyond Q do not exist; stages without any are left out."""
        inside = range(1, self.cfg.num_codebooks)
        stages = {s: [i for i in books if i in inside] for s, books in super().stage_books.items()}
        return {stage: books for stage, books in stages.items() if books}

    def previous_codes(self, known: Tensor, books: list[int]) -> Tensor:
        return weigh(self.nar_prev_cb_weights[books].softmax(0), self.embed_known(known, books))

    def nar_logits(self, stage: str, cond: Tensor, prev: Tensor) -> list[Tensor]:
        return self.nar(stage, cond, prev)

    def assemble(self, rvq1: Tensor, stages: dict[str, Tensor]) -> Tensor:
        codes = rvq1.new_zeros(len(rvq1), self.cfg.num_codebooks)
        codes[:, 0] = rvq1
        for stage, columns in stages.items():
            codes[:, self.stage_books[stage]] = columns
        return codes

    @property
    def rf_nar(self) -> int:
        """Receptive field of one NAR stage in frames."""
        return 1 + sum(block.dw.history for block in self.nar.blocks)
