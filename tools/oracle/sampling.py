"""How a codebook-0 token is drawn from its logits; a sampler is any `(logits (V,), history) -> token`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Sampler = Callable[[Tensor, Sequence[int]], int]


def argmax(logits: Tensor, history: Sequence[int]) -> int:
    """The most probable token; the history plays no role."""
    return int(logits.argmax())


def repeated_tail(history: Sequence[int], max_n: int = 16) -> bool:
    """Whether the last n tokens repeat the n before them, for some n in 3..max_n."""
    items = list(history)
    longest = min(max_n, len(items) // 2)
    return any(items[-n:] == items[-2 * n : -n] for n in range(3, longest + 1))


def stuck(history: Sequence[int], streak: int = 8) -> bool:
    """Whether the history ends in a loop: a repeated tail, or `streak` pairs of equal neighbours."""
    last = list(history[-streak - 1 :])
    return repeated_tail(history) or (len(last) > streak and len(set(last)) == 1)


@dataclass(frozen=True)
class NucleusSampler:
    """Repetition penalty, temperature, top-k and top-p, in upstream's order; another setting while stuck."""

    temperature: float = 1.05
    top_p: float | None = 0.9
    top_k: int = 50
    penalty: float = 1.1
    recovery_temperature: float = 1.2
    recovery_top_p: float | None = 0.85
    generator: torch.Generator | None = None

    def probabilities(self, logits: Tensor, history: Sequence[int] = ()) -> Tensor:
        """The distribution (V,) at this sampler's own setting, whether stuck or not."""
        logits = torch.nan_to_num(logits.float(), nan=-1e9, posinf=1e9, neginf=-1e9)
        if self.temperature not in (0.0, 1.0):  # 0 means "not applied", not greedy
            logits = logits / self.temperature
        recent = sorted(set(history[-50:]))
        if self.penalty != 1.0 and recent:
            seen = logits[recent]
            logits = logits.clone()
            logits[recent] = torch.where(seen < 0, seen * self.penalty, seen / self.penalty)
        probs = logits.softmax(-1)
        if self.top_k > 0:
            kept = probs.topk(min(self.top_k, len(probs))).indices
            probs = _only(probs, kept)
        if self.top_p is not None and self.top_p < 1.0:
            ordered, order = probs.sort(descending=True)
            before = ordered.cumsum(0).roll(1)
            keep = before <= self.top_p
            keep[0] = True
            probs = _only(probs, order[keep])
        return probs

    def __call__(self, logits: Tensor, history: Sequence[int]) -> int:
        setting = self
        if stuck(history):
            setting = replace(self, temperature=self.recovery_temperature, top_p=self.recovery_top_p)
        probs = setting.probabilities(logits, history)
        return int(torch.multinomial(probs, 1, generator=self.generator))


def _only(probs: Tensor, kept: Tensor) -> Tensor:
    """The kept entries renormalised to 1, all others 0; one-hot at the maximum if nothing is left of them."""
    chosen = torch.zeros_like(probs)
    chosen[kept] = probs[kept]
    total = chosen.sum()
    if total <= 1e-12:
        return torch.zeros_like(probs).index_fill_(0, probs.argmax(), 1.0)
    return chosen / total
