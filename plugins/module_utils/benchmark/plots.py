# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as SVG text: no script, no font, no address outside of the page; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 44
COLOURS = 8
ROW = 34
MOST_POINTS = 1500


@dataclass
class Series:
    """A named row of points; low and high draw an error bar at each where they are given."""

    name: str
    points: Sequence[tuple[float, float]]
    bars: Sequence[tuple[float, float]] = field(default_factory=tuple)
    style: str = "line"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between low and high, about ``count`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [position * step for position in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, across: str, up: str, series: Sequence[Series], *, zero: bool = True) -> str:
    """A line or dot chart with axes, grid and legend; a sentence in its place where there are no points."""
    points = [point for one in series for point in one.points]
    if not points:
        return f'<p class="none">{escape(title)}: nothing was measured.</p>'
    ys = [y for _unused, y in points] + [edge for one in series for span in one.bars for edge in span]
    x_low, x_high = _range([x for x, _unused in points], zero=zero)
    y_low, y_high = _range(ys, zero=True)

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [_open(title, HEIGHT, series)]
    for value in ticks(x_low, x_high):
        parts.append(_line(px(value), TOP, px(value), HEIGHT - BOTTOM, "grid"))
        parts.append(_text(px(value), HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
    for value in ticks(y_low, y_high):
        parts.append(_line(LEFT, py(value), WIDTH - RIGHT, py(value), "grid"))
        parts.append(_text(LEFT - 6, py(value) + 4, f"{value:g}", "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across, "middle"))
    parts.append(_text(LEFT, 16, up, "start"))
    for number, one in enumerate(series):
        kind = f"s{number % COLOURS}"
        placed = [(px(x), py(y)) for x, y in thin(one.points)]
        if one.style in ("line", "both", "steps"):
            parts.append(_path(_steps(placed) if one.style == "steps" else placed, kind))
        if one.style in ("dots", "both"):
            parts.append(_dots(placed, kind))
        for (x, _unused), (low, high) in zip(one.points, one.bars, strict=False):
            parts.append(f'<path d="M{px(x):.1f} {py(low):.1f}V{py(high):.1f}" class="line {kind}"/>')
    return "".join(parts) + "</svg>"


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A distribution rises where a value lies, not on the way there."""
    found: list[tuple[float, float]] = []
    for x, y in points:
        if found:
            found.append((x, found[-1][1]))
        found.append((x, y))
    return found


def cumulative(values: Sequence[float]) -> list[tuple[float, float]]:
    """Points of an empirical distribution: value, share of values up to it."""
    ordered = sorted(values)
    return [(value, (position + 1) / len(ordered)) for position, value in enumerate(ordered)]


def forest(title: str, rows: Sequence[tuple[str, float, float, float]], unit: str) -> str:
    """A forest plot: one row a comparison (name, value, low, high), zero marked, the figures in words at the right."""
    if not rows:
        return f'<p class="none">{escape(title)}: nothing to compare.</p>'
    height = TOP + BOTTOM + ROW * len(rows)
    reach = max(max(abs(low), abs(high), abs(value)) for _unused, value, low, high in rows) * 1.15 or 1.0
    left, right = 150, 132

    def px(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (WIDTH - left - right)

    parts = [_open(title, height)]
    for value in ticks(-reach, reach):
        parts.append(_line(px(value), TOP, px(value), height - BOTTOM, "grid"))
        parts.append(_text(px(value), height - BOTTOM + 16, f"{value:+g}", "middle"))
    parts.append(_line(px(0), TOP - 6, px(0), height - BOTTOM, "axis"))
    for number, (name, value, low, high) in enumerate(rows):
        y = TOP + ROW // 2 + ROW * number
        kind = "even" if low <= 0 <= high else "later" if low > 0 else "sooner"
        parts.append(_text(left - 10, y + 4, name, "end"))
        parts.append(f'<path d="M{px(low):.1f} {y}H{px(high):.1f}" class="line {kind}"/>')
        parts.append(f'<rect x="{px(value) - 4:.1f}" y="{y - 4}" width="8" height="8" class="dot {kind}"/>')
        parts.append(_text(WIDTH - 4, y + 4, f"{value:+.2f} ({low:+.2f}..{high:+.2f})", "end"))
    parts.append(_text((left + WIDTH - right) / 2, height - 8, unit, "middle"))
    return "".join(parts) + "</svg>"


def thin(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most about ``most`` points, evenly taken; the first and last stay."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(number * step)] for number in range(most)]


def _range(values: Sequence[float], *, zero: bool) -> tuple[float, float]:
    low, high = (min(0.0, *values) if zero else min(values)), max(values)
    return (low, high + (high - low) * 0.05) if high > low else (low, low + 1.0)


def _open(title: str, height: int, series: Sequence[Series] = ()) -> str:
    names = "".join(f'<span class="s{number % COLOURS}">{escape(one.name)}</span>' for number, one in enumerate(series))
    legend = f'<div class="legend">{names}</div>' if names else ""
    return (
        f"<figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{steps}" class="line {kind}"/>'


def _dots(points: Sequence[tuple[float, float]], kind: str) -> str:
    return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" class="dot {kind}"/>' for x, y in points)
