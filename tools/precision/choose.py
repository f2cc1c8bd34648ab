"""A recipe from the table of single layers: the smallest file whose predicted error stays within a budget.

Errors of different layers are taken as independent, so their noise powers add up; of the reference codes, the shares
that differ. From int4 everywhere, layer by layer is raised (int4 -> int8 -> fp16): always the one that brings the
total nearest to the budget for each byte that it costs.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from sopro_np.convert.recipe import BUILT_IN, Recipe
from tools.precision.layers import stored_bytes

LADDER = ("int4", "int8", "fp16")
MEASURES = ("voice", "ar_logits_db", "nar_logits_db", "decoder_db")
# Name -> (built-in recipe whose predicted error is the budget, factor on it)
BUDGETS = {"as int8": ("int8", 1.0), "half of int8": ("int8", 0.5), "as int4": ("int4", 1.0)}
Noise = dict[str, float]


def noise(measured: dict[str, Any]) -> Noise:
    """Measures of one run -> what adds up: noise power over signal power, or the share of wrong codes."""
    out = {}
    for name in MEASURES:
        value = measured.get(name)
        if name.endswith("_db"):
            out[name] = 0.0 if value is None else 10 ** (-value / 10)
        else:
            out[name] = 0.0 if value is None else 1 - value / 100
    return out


def predicted(costs: dict[str, dict[str, Noise]], schemes: dict[str, str]) -> Noise:
    """Sum over layers. `costs`: layer -> scheme -> noise."""
    return {m: sum(costs[layer][s][m] for layer, s in schemes.items()) for m in MEASURES}


def excess(total: Noise, budget: Noise) -> float:
    """How far beyond the budget, in units of it; 0: within. A budget of nothing at all counts as one millionth."""
    return sum(max(0.0, total[m] / max(budget[m], 1e-6) - 1) for m in MEASURES)


def cheapest(costs: dict[str, dict[str, Noise]], sizes: dict[str, dict[str, float]], budget: Noise) -> dict[str, str]:
    """Layer -> scheme."""
    schemes = dict.fromkeys(costs, LADDER[0])
    while (now := excess(predicted(costs, schemes), budget)) > 0:
        best, gain = None, 0.0
        for layer, scheme in schemes.items():
            for higher in LADDER[LADDER.index(scheme) + 1 :]:
                after = excess(predicted(costs, schemes | {layer: higher}), budget)
                price = max(1.0, sizes[layer][higher] - sizes[layer][scheme])
                if (now - after) / price > gain:
                    best, gain = (layer, higher), (now - after) / price
        if best is None:
            break
        schemes[best[0]] = best[1]
    return schemes


def choose(data: dict[str, Any]) -> list[Recipe]:
    """One recipe per budget, from the results of the single layers."""
    layers: dict[str, dict[str, list[int]]] = data["layers"]
    costs = {name: {s: noise(data[f"alone/{s}/{name}"]) for s in LADDER} for name in layers}
    for by_scheme in costs.values():  # measured differences can be luck: a finer scheme is never worse
        for lower, higher in itertools.pairwise(LADDER):
            by_scheme[higher] = {m: min(by_scheme[lower][m], by_scheme[higher][m]) for m in MEASURES}
    sizes = {
        name: {s: sum(stored_bytes((n, c), s) for n, c in inside.values()) for s in LADDER}
        for name, inside in layers.items()
    }
    found = []
    for name, (built_in, factor) in BUDGETS.items():
        budget = {m: factor * x for m, x in predicted(costs, scheme_of(layers, BUILT_IN[built_in])).items()}
        found.append(as_recipe(name, layers, cheapest(costs, sizes, budget)))
    return found


def scheme_of(layers: dict[str, dict[str, list[int]]], recipe: Recipe) -> dict[str, str]:
    """Layer -> scheme under a recipe, by the layer's first matrix."""
    return {name: recipe.scheme(next(iter(inside))) for name, inside in layers.items()}


def as_recipe(name: str, layers: dict[str, dict[str, list[int]]], schemes: dict[str, str]) -> Recipe:
    """A rule per matrix; the most frequent scheme is the last rule."""
    names = list(schemes.values())
    usual = max(LADDER, key=lambda s: (names.count(s), -LADDER.index(s)))
    rules = [
        (matrix.removesuffix(".weight"), schemes[layer])
        for layer, inside in layers.items()
        if schemes[layer] != usual
        for matrix in inside
    ]
    return Recipe(name, (*rules, ("*", usual)))


def decibels(power: float) -> float:
    """Noise over signal -> SNR."""
    return -10 * math.log10(power) if power > 0 else math.inf
