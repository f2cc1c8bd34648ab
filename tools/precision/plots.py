"""Two kinds of pictures as SVG: rows of dots on a common scale, and lines over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#c0392b", "#2471a3", "#229954", "#8e44ad")
STYLE = "<style>text{font:11px system-ui,sans-serif;fill:#222}.t{font-weight:bold;font-size:13px}.s{fill:#666}</style>"
WIDTH, LEFT, RIGHT, TOP, ROW = 760, 230, 20, 56, 14
Rows = Sequence[tuple[str, Mapping[str, float | None]]]


def dots(title: str, unit: str, rows: Rows, low: float, high: float) -> str:
    """A row per label with a dot for every series. None: no error at all, drawn as a hollow dot at the right edge;
    values beyond the scale are drawn at its edge."""
    series = list(dict.fromkeys(name for _, values in rows for name in values))
    height = TOP + ROW * len(rows) + 26
    parts = [_head(height, title, unit), *_legend(series), *_scale(low, high, TOP - 4, height - 22, across=True)]
    for i, (label, values) in enumerate(rows):
        y = TOP + ROW * i + 7
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        for name, value in values.items():
            colour = COLOURS[series.index(name) % len(COLOURS)]
            shown = high if value is None else min(max(value, low), high)
            fill = "none" if value is None else colour
            parts.append(f'<circle cx="{_x(shown, low, high):.1f}" cy="{y}" r="4" fill="{fill}" stroke="{colour}"/>')
    return "\n".join([*parts, "</svg>\n"])


def lines(
    title: str, unit: str, x: Sequence[float], curves: Mapping[str, Sequence[float | None]], low: float, high: float
) -> str:
    """Curves over x; points that are None are left out."""
    height, bottom = 300, 270
    parts = [_head(height, title, unit), *_legend(list(curves)), *_scale(low, high, TOP, bottom, across=False)]

    def place(u: float, v: float) -> str:
        across = LEFT / 3 + (u - 0) / max(x) * (WIDTH - LEFT / 3 - RIGHT)
        return f"{across:.1f},{bottom - (min(max(v, low), high) - low) / (high - low) * (bottom - TOP):.1f}"

    for i, curve in enumerate(curves.values()):
        points = " ".join(place(u, v) for u, v in zip(x, curve, strict=True) if v is not None)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2"/>')
    for u in x[:: max(1, len(x) // 8)]:
        parts.append(f'<text x="{place(u, low).split(",")[0]}" y="{bottom + 16}" text-anchor="middle">{u:g}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _head(height: int, title: str, unit: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f'{STYLE}<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<text class="t" x="12" y="18">{escape(title)}</text><text class="s" x="12" y="35">{escape(unit)}</text>'
    )


def _legend(series: Sequence[str]) -> list[str]:
    parts, x = [], LEFT + 160.0
    for i, name in enumerate(series):
        parts.append(f'<circle cx="{x}" cy="31" r="4" fill="{COLOURS[i % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 8}" y="35">{escape(name)}</text>')
        x += 24 + 6.5 * len(name)
    return parts


def _scale(low: float, high: float, top: float, bottom: float, across: bool) -> list[str]:
    """Grid lines at round values: upright ones with numbers below, or level ones with numbers at the left."""
    step = 10 ** math.floor(math.log10(high - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (high - low) / s <= 10)
    parts, value = [], math.ceil(low / step) * step
    while value <= high + 1e-9:
        if across:
            x = _x(value, low, high)
            parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#ddd"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{value:g}</text>')
        else:
            y = bottom - (value - low) / (high - low) * (bottom - top)
            parts.append(f'<path d="M{LEFT / 3:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(f'<text x="{LEFT / 3 - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        value += step
    return parts


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)
