"""Charts as SVG text: scales, ticks, axes, lines and dots. Colours come from the page's style.

Legend: data coordinates are (x, y) floats, y upwards; the drawing's units are CSS pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 40


@dataclass(frozen=True)
class Frame:
    """A drawing area and the data range that it shows."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return LEFT + _part(value, self.x_range) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.height - BOTTOM - _part(value, self.y_range) * (self.height - TOP - BOTTOM)


def _part(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return (value - low) / (high - low) if high > low else 0.5


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round values (1, 2, 2.5 or 5 times a power of ten apart) within the range."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """All with the same number of digits, as many as the distance between them needs."""
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=abs(ticks[0]) or 1.0)
    digits = next((d for d in range(7) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 6)
    return [f"{tick:,.{digits}f}" for tick in ticks]


def padded(values: Sequence[float], below: float, above: float) -> tuple[float, float]:
    """The values' range with room on both sides; never empty."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) * 0.02 or 1.0
    return low - below * span, high + above * span


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points that keep the extremes: lowest and highest of each bucket."""
    if len(points) <= limit:
        return list(points)
    size = math.ceil(len(points) / max(1, limit // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        ends = {min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])}
        kept += sorted(ends)
    return kept


def drawing(frame: Frame, label: str, parts: Sequence[str], css: str) -> str:
    """The whole picture; `label` is what a screen reader says."""
    return (
        f'<svg class="chart {css}" viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, content: str, css: str, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{css}" {place}>{escape(content)}</text>'


def y_axis(frame: Frame, title: str, count: int = 4) -> str:
    """Grid lines with their values on the left, and the axis' name above them."""
    ticks = nice_ticks(*frame.y_range, count)
    parts = []
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        y = frame.y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{frame.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(text(LEFT - 7, y + 4, label, "tick", "end"))
    parts.append(text(0, 9, title, "axis", "start"))
    return "".join(parts)


def x_axis(frame: Frame, title: str, count: int = 5) -> str:
    """Values below the drawing area and the axis' name at its right end."""
    ticks = nice_ticks(*frame.x_range, count)
    base = frame.height - BOTTOM
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{frame.width - RIGHT}" y1="{base}" y2="{base}"/>',
        text(frame.width - RIGHT, frame.height - 5, title, "axis", "end"),
    ]
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        parts.append(text(frame.x(tick), base + 17, label, "tick"))
    return "".join(parts)


def polyline(frame: Frame, points: Sequence[Point], css: str = "") -> str:
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    return f'<polyline class="line {css}" points="{path}"/>'


def dot(frame: Frame, point: Point, title: str, css: str = "", radius: float = 3.0) -> str:
    """A dot whose `title` shows when the mouse rests on it."""
    x, y = frame.x(point[0]), frame.y(point[1])
    return (
        f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{escape(title)}</title></circle>"
    )


def rectangle(frame: Frame, sides: Point, top: float, title: str, css: str) -> str:
    """A bar from the bottom to `top` between two x values; `title` shows at the mouse."""
    left, right, y = frame.x(sides[0]), frame.x(sides[1]), frame.y(top)
    return (
        f'<rect class="{css}" x="{left + 0.5:.1f}" y="{y:.1f}" '
        f'width="{max(0.5, right - left - 1):.1f}" height="{frame.y(0.0) - y:.1f}">'
        f"<title>{escape(title)}</title></rect>"
    )


def upright(frame: Frame, value: float, label: str) -> str:
    """A line across the drawing at an x value, its label above it."""
    x = frame.x(value)
    anchor = "end" if x > frame.width / 2 else "start"
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" '
        f'y2="{frame.height - BOTTOM}"/>' + text(x, TOP - 9, label, "value", anchor)
    )
