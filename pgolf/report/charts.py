"""The page's charts, each drawn for a wide and for a narrow screen so that text keeps its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgolf.report import svg, words
from pgolf.report.svg import Frame, Point

WIDE, NARROW = (520, 270), (330, 230)
MAX_POINTS = 400
SHORT_LABELS = {
    "trained": "trained",
    "ema": "averaged",
    "adapted": "TTT",
    "quantized": "quantized",
    "final": "final",
}


def both_sizes(draw: Callable[[int, int, str], str]) -> str:
    """The wide and the narrow drawing; the style shows one of them."""
    return draw(*WIDE, "wide") + draw(*NARROW, "narrow")


def score_chart(bpb: dict[str, Any]) -> str:
    """BPB along the stages; hollow dots are weights in memory, full ones the artifact."""
    names = [name for name, score in bpb.items() if score is not None]
    points = [(float(i), float(bpb[name]["bpb"])) for i, name in enumerate(names)]
    if not points:
        return ""

    def draw(width: int, height: int, css: str) -> str:
        values = [y for _, y in points]
        room = 0.4 if len(points) > 1 else 1.0
        frame = Frame(width, height, (-room, len(points) - 1 + room), svg.padded(values, 0.22, 0.2))
        parts = [svg.y_axis(frame, "bits per byte"), svg.polyline(frame, points, "soft")]
        for index, ((x, y), name) in enumerate(zip(points, names, strict=True)):
            shipped = name in ("quantized", "final")
            title = f"{words.SCORE_LABELS[name]}: {words.bpb(y)} BPB, {words.SCORE_DETAILS[name]}"
            parts.append(svg.dot(frame, (x, y), title, "full" if shipped else "hollow", 5))
            strong = "value strong" if name == "final" else "value"
            dx, dy, anchor = _beside(values, index)
            parts.append(svg.text(frame.x(x) + dx, frame.y(y) + dy, words.bpb(y), strong, anchor))
            parts.append(svg.text(frame.x(x), height - svg.BOTTOM + 20, SHORT_LABELS[name], "tick"))
        return svg.drawing(frame, "Bits per byte along the stages", parts, css)

    return both_sizes(draw)


def _beside(values: list[float], index: int) -> tuple[float, float, str]:
    """Where a dot's number stands so that the curve does not cross it: dx, dy and anchor."""
    inner = 0 < index < len(values) - 1
    if inner and values[index] < min(values[index - 1], values[index + 1]):
        return 0.0, 21.0, "middle"  # a valley
    if inner and values[index - 1] > values[index] > values[index + 1]:
        return 6.0, -9.0, "start"  # on the way down
    return 0.0, -12.0, "middle"


def line_chart(
    points: list[Point], *, x_title: str, y_title: str, label: str, unit: str, dots: bool = False
) -> str:
    """One curve; the last value stands beside its end.

    Args:
        unit: of an x value, for the tooltip, e.g. "step".
        dots: mark every point (few of them).
    """
    if not points:
        return ""

    def draw(width: int, height: int, css: str) -> str:
        xs = [x for x, _ in points]
        start = 0.0 if min(xs) < 0.2 * max(xs) and not dots else min(xs)
        y_range = svg.padded([y for _, y in points], 0.16, 0.12)
        frame = Frame(width, height, (start, max(xs)), y_range)
        x, y = points[-1]
        count = 6 if css == "wide" else 4
        if dots:
            count = min(count, max(1, round(max(xs) - min(xs))))
        parts = [svg.y_axis(frame, y_title), svg.x_axis(frame, x_title, count)]
        parts.append(svg.polyline(frame, svg.thin(points, MAX_POINTS)))
        marked = points if dots else points[-1:]
        radius = 3.0 if len(points) <= 30 or not dots else 2.0
        parts += [svg.dot(frame, p, f"{unit} {p[0]:g}: {p[1]:.4f}", "full", radius) for p in marked]
        # Where the curve comes from above, the number would stand in its way there.
        falling = len(points) > 1 and y < points[-2][1]
        beside = frame.y(y) + 18 if falling else frame.y(y) - 9
        parts.append(svg.text(frame.x(x), beside, f"{y:.4f}", "value strong", "end"))
        return svg.drawing(frame, label, parts, css)

    return both_sizes(draw)
