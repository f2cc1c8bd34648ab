"""Sopro v1: stop head instead of EOS, a look-back over several tokens, a window recomputed every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Reference, Sopro
from .blocks import RMSNorm, block_stack, mean_square, run_stack
from .common import STAGES, CommonConfig
from .sampling import Sampler, argmax

TEXT_HEADS = 4
REF_ENC_LAYERS = 2
REF_XATTN_LAYERS = 3
REF_XATTN_GMAX = 0.35


@dataclass(frozen=True, kw_only=True)
class ConfigV1(CommonConfig):
    n_layers_text: int = 4
    use_stop_head: bool = True
    stop_threshold: float = 0.8
    stop_patience: int = 5
    ar_lookback: int = 4
    ref_attn_heads: int = 2
    ref_seconds_max: float = 12.0
    preprompt_sec_max: float = 4.0


class CrossAttention(nn.Module):
    """Normed multi-head attention (with biases) of x (T, D) to a context (S, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.nq, self.nkv = RMSNorm(width), RMSNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.gate = nn.Parameter(torch.zeros(()))

    def attend(self, x: Tensor, context: Tensor) -> Tensor:
        """The attention's output (T, D), output projection included."""
        context = self.nkv(context)
        return self.attn(self.nq(x), context, context, need_weights=False)[0]


class TextXAttnBlock(CrossAttention):
    """Gated residual attention to the text."""

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return x + self.gate.tanh() * self.attend(x, text)


class RefXAttnBlock(CrossAttention):
    """Gated residual attention to the reference, rescaled to the input's loudness (without limit)."""

    def __init__(self, width: int, heads: int, gmax: float = REF_XATTN_GMAX) -> None:
        super().__init__(width, heads)
        self.gmax = gmax

    def forward(self, x: Tensor, seq: Tensor) -> Tensor:
        a = torch.nan_to_num(self.attend(x, seq), nan=0.0, posinf=0.0, neginf=0.0)
        ratio = mean_square(x).sqrt() / mean_square(a).sqrt()
        return x + self.gmax * self.gate.tanh() * a * ratio


class RefXAttnStack(nn.Module):
    def __init__(self, width: int, heads: int, layers: int = REF_XATTN_LAYERS) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RefXAttnBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, seq: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, seq)
        return x


class AR(nn.Module):
    """Causal stack with text attention after every `freq`-th block; V outputs, no EOS."""

    def __init__(self, cfg: ConfigV1) -> None:
        super().__init__()
        width, freq = cfg.d_model, cfg.ar_text_attn_freq
        self.blocks = block_stack(cfg.n_layers_ar, width, cfg.ar_kernel, cfg.ar_dilation_cycle, causal=True)
        attended = (i for i in range(cfg.n_layers_ar) if (i + 1) % freq == 0)
        self.x_attns = nn.ModuleDict({str(i): TextXAttnBlock(width, TEXT_HEADS) for i in attended})
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, cfg.codebook_size)

    @property
    def window(self) -> int:
        """The receptive field in frames."""
        return 1 + sum(block.dw.history for block in self.blocks)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """A window from zero state, (W, D) -> (W, V)."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.x_attns:
                x = self.x_attns[str(i)](x, text)
        return self.head(self.norm(x))


class StopHead(nn.Module):
    """The probability that a frame (T, D) is the last one, (T, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).sigmoid()


class NARStage(nn.Module):
    """One causal stage with weights of its own: cond and previous codes (T, D) -> heads' logits (T, V)."""

    def __init__(self, cfg: ConfigV1, heads: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(2))
        self.blocks = block_stack(cfg.n_layers_nar, cfg.d_model, causal=True)
        self.norm = RMSNorm(cfg.d_model)
        self.pre = nn.Linear(cfg.d_model, cfg.nar_head_dim)
        self.heads = nn.ModuleList(nn.Linear(cfg.nar_head_dim, cfg.codebook_size) for _ in range(heads))

    def forward(self, cond: Tensor, prev: Tensor) -> list[Tensor]:
        share = self.mix.softmax(0)
        z = self.pre(self.norm(run_stack(self.blocks, share[0] * cond + share[1] * prev)))
        return [head(z) for head in self.heads]


class SoproV1(Sopro):
    """Sopro v1 from token ids and reference codes to codes."""

    config_type = ConfigV1
    extra_frames = 2
    cfg: ConfigV1

    def __init__(self, cfg: ConfigV1, vocabulary: int) -> None:
        super().__init__(cfg, vocabulary, REF_ENC_LAYERS)
        if cfg.ar_lookback > 0:
            self.ar_hist_w = nn.Parameter(torch.zeros(cfg.ar_lookback))
        if cfg.use_stop_head:
            self.stop_head = StopHead(cfg.d_model)
        self.ref_xattn_stack = RefXAttnStack(cfg.d_model, cfg.ref_attn_heads)
        self.ar = AR(cfg)
        self.stages = nn.ModuleDict({s: NARStage(cfg, len(cfg.stage_range(s))) for s in STAGES})

    def mix_reference(self, ref: Tensor) -> Tensor:
        return self.cb_embed.every(ref).mean(-2)

    def attend_reference(self, x: Tensor, reference: Reference) -> Tensor:
        return self.ref_xattn_stack(x, reference.seq)

    def condition_rows(self, max_frames: int) -> int:
        return max_frames

    def prefix(self, ref: Tensor, use_prefix: bool = True, prefix_sec_fixed: float | None = None) -> Tensor:
        """The P leading codebook-0 tokens of the reference (R, Q) that the look-back sees before frame 0."""
        if not use_prefix:
            return ref[:0, 0]
        if prefix_sec_fixed is not None and prefix_sec_fixed > 0:
            length = round(prefix_sec_fixed * self.cfg.mimi_fps)  # may be 0
        else:
            length = max(1, round(self.cfg.preprompt_sec_max * self.cfg.mimi_fps))
        return ref[:length, 0]

    def look_back(self, sequence: Tensor, first: int) -> Tensor:
        """The previous-token term of positions first..n-1 of prefix + tokens + placeholder (n,).

        The weighted sum has min(K, n) terms and is not renormalised, so with fewer than K tokens so far the
        term of an *old* position still changes from step to step.
        """
        if self.cfg.ar_lookback == 0:
            return self.cb_embed.shifted(sequence, 1, first)
        weights = self.ar_hist_w.softmax(0)
        reach = min(self.cfg.ar_lookback, len(sequence))
        return sum(weights[k - 1] * self.cb_embed.shifted(sequence, k, first) for k in range(1, reach + 1))

    @torch.inference_mode()
    def ar_window(self, cond: Tensor, prefix: Tensor, tokens: Tensor) -> Tensor:
        """The AR stack's inputs at step t = len(tokens): the last min(t+1, receptive field) rows (W, D)."""
        t = len(tokens)
        width = min(t + 1, self.ar.window)
        sequence = torch.cat((prefix, tokens, prefix.new_zeros(1)))  # the placeholder is never looked at
        return cond[t + 1 - width : t + 1] + self.look_back(sequence, len(sequence) - width)

    @torch.inference_mode()
    def ar_logits(self, window: Tensor, text: Tensor) -> Tensor:
        """A window (W, D) and the text (L, D) -> the logits (V,) of its last frame."""
        return self.ar(window, text)[-1]

    @torch.inference_mode()
    def stop_probability(self, cond: Tensor, tokens: Tensor) -> Tensor | None:
        """From a frame's conditioning (T, D) and its own token (T,), (T,); None without a stop head."""
        return self.stop_head(cond + self.cb_embed(tokens))[:, 0] if self.cfg.use_stop_head else None

    @torch.inference_mode()
    def ar_stream(
        self,
        cond: Tensor,
        text: Tensor,
        prefix: Tensor,
        sampler: Sampler = argmax,
        stop_threshold: float | None = None,
        stop_patience: int | None = None,
        min_gen_frames: int | None = None,
    ) -> Iterator[tuple[int, int, float | None]]:
        """Yield (t, token, stop probability) for at most len(cond) frames; None means the config's value.

        Stops after `stop_patience` frames in a row above the threshold, and keeps them. A threshold above 1
        never stops. Every frame runs its whole window again from zero state: that is the original algorithm.
        """
        cfg = self.cfg
        threshold = cfg.stop_threshold if stop_threshold is None else stop_threshold
        patience = cfg.stop_patience if stop_patience is None else stop_patience
        least = cfg.min_gen_frames if min_gen_frames is None else min_gen_frames
        history: list[int] = []
        streak = 0
        for t in range(len(cond)):
            window = self.ar_window(cond, prefix, prefix.new_tensor(history))
            token = sampler(self.ar_logits(window, text), history)
            history.append(token)
            stop = self.stop_probability(cond[t : t + 1], torch.tensor([token]))
            p = None if stop is None else float(stop)
            streak = streak + 1 if p is not None and t + 1 >= least and p > threshold else 0
            yield t, token, p
            if p is not None and streak >= patience:
                return

    @torch.inference_mode()
    def generate(
        self,
        text_ids: Tensor,
        ref_codes: Tensor,
        max_frames: int = 400,
        sampler: Sampler = argmax,
        style: float | None = None,
        use_prefix: bool = True,
        prefix_sec_fixed: float | None = None,
        **stop: float | None,
    ) -> Tensor:
        """Text ids (L,) and reference codes (R, Q) -> codes (T, Q); `stop` as in `ar_stream`."""
        cond, text = self.prepare(text_ids, ref_codes, max_frames, style)
        prefix = self.prefix(ref_codes, use_prefix, prefix_sec_fixed)
        tokens = [token for _, token, _ in self.ar_stream(cond, text, prefix, sampler, **stop)]
        return self.nar_refine(cond, torch.tensor(tokens, dtype=torch.long))

    def previous_codes(self, known: Tensor, books: list[int]) -> Tensor:
        return self.embed_known(known, books).sum(-2)

    def nar_logits(self, stage: str, cond: Tensor, prev: Tensor) -> list[Tensor]:
        return self.stages[stage](cond, prev)

    def assemble(self, rvq1: Tensor, stages: dict[str, Tensor]) -> Tensor:
        return torch.cat((rvq1[:, None], *stages.values()), dim=1)

    @property
    def rf_nar(self) -> int:
        """Receptive field of one NAR stage in frames."""
        return 1 + sum(block.dw.history for block in self.stages["B"].blocks)
