"""Scales, ticks and thinning of the charts."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET

import pytest

from pgolf.report.charts import line_chart, score_chart
from pgolf.report.svg import Frame, nice_ticks, padded, thin, tick_labels
from tests.report.fixtures import make_result


@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 7.3, 4_550, 2e7])
def test_ticks_are_round_evenly_spaced_and_inside(scale):
    low, high = 0.37 * scale, 1.91 * scale
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 8
    assert low - 1e-9 * scale <= ticks[0] and ticks[-1] <= high + 1e-9 * scale
    step = ticks[1] - ticks[0]
    leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(math.isclose(leading, m, rel_tol=1e-6) for m in (1, 2, 2.5, 5, 10))
    labels = [float(label.replace(",", "")) for label in tick_labels(ticks)]
    if scale > 1e-3:
        assert labels == pytest.approx(ticks, rel=1e-6)
    assert len(set(labels)) == len(labels)


def test_frame_maps_corners_to_corners():
    frame = Frame(500, 300, (10.0, 20.0), (-1.0, 1.0))
    assert frame.x(10) < frame.x(15) < frame.x(20) < 500
    assert 0 < frame.y(1.0) < frame.y(0.0) < frame.y(-1.0) < 300
    assert frame.x(15) == pytest.approx((frame.x(10) + frame.x(20)) / 2)


def test_thinned_curve_keeps_order_and_extremes():
    noise = random.Random(1)
    points = [(float(i), noise.gauss(0, 1)) for i in range(5000)]
    points[1234] = (1234.0, 50.0)
    points[4321] = (4321.0, -50.0)
    kept = thin(points, 400)
    assert len(kept) <= 400 and kept == sorted(kept) and set(kept) <= set(points)
    assert (1234.0, 50.0) in kept and (4321.0, -50.0) in kept
    assert thin(points[:10], 400) == points[:10]


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [1.0, 3.0]])
def test_padded_range_is_never_empty(values):
    low, high = padded(values, 0.1, 0.1)
    assert low < min(values) and max(values) < high


@pytest.mark.parametrize("count", [1, 2, 21, 3000])
def test_every_mark_lies_inside_the_drawing(count):
    points = [(float(i + 1), 2.0 + 1.0 / (i + 1)) for i in range(count)]
    for svg in drawings(line_chart(points, x_title="x", y_title="y", label="l", unit="u")):
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        (line,) = [e for e in svg.iter() if e.tag.endswith("polyline")]
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width and 0 <= y <= height


def test_score_chart_has_a_dot_for_every_measured_score():
    result = make_result(eligible=True)  # has no score after test-time training
    wide, narrow = drawings(score_chart(result["bpb"]))
    for svg in (wide, narrow):
        assert sum(e.tag.endswith("circle") for e in svg.iter()) == 4


def drawings(text: str) -> list[ET.Element]:
    """The charts as XML: also a check that they are well-formed."""
    return list(ET.fromstring(f"<div>{text}</div>"))
