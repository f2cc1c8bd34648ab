"""How sure is a mean? Percentile bootstrap (Efron 1979) over texts: all seeds of a text are drawn together, because
an awkward sentence is awkward under every seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from sopro_np.errors import UsageError

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean (or ratio of sums) with the bounds of its confidence interval, and from how many values it was made."""

    mean: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def interval(
    values: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """sum(values) / sum(weights) with its 95 % interval.

    values (n,); groups (n,): what is drawn together (the text's number); weights (n,): 1 each gives the mean, words
    with errors as values the WER. Values that are nan are left out. Same seed, same interval.
    """
    v, g = np.asarray(values, np.float64), np.asarray(groups)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, np.float64)
    if not len(v) == len(g) == len(w):
        raise UsageError(f"{len(v)} values, {len(g)} groups, {len(w)} weights: one each is needed")
    known = np.isfinite(v) & np.isfinite(w)
    v, g, w = v[known], g[known], w[known]
    if not w.sum() > 0:
        return Interval(float("nan"), float("nan"), float("nan"), len(v))
    _, place = np.unique(g, return_inverse=True)
    tops, bottoms = np.bincount(place, v), np.bincount(place, w)
    chosen = np.random.default_rng(seed).integers(0, len(tops), (draws, len(tops)))
    sums = bottoms[chosen].sum(axis=1)
    ratios = tops[chosen].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(v.sum() / w.sum()), float(low), float(high), len(v))
