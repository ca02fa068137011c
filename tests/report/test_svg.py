"""The small SVG writer."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.report import svg

AXIS = svg.Axis("share", 0.0, 1.0, lambda v: f"{v:g}")
SPACE = "{http://www.w3.org/2000/svg}"


def test_ticks_are_round_and_inside_the_range() -> None:
    assert svg.ticks(0.0, 1.0) == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert svg.ticks(0.713, 0.822) == (0.72, 0.74, 0.76, 0.78, 0.8, 0.82)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_nice_range_covers_the_data_and_has_ticks(low: float, width: float) -> None:
    a, b = svg.nice(low, low + width)
    slack = 1e-6 * max(abs(low), width)
    assert a <= low + slack
    assert b >= low + width - slack
    assert len(svg.ticks(a, b)) >= 2


def test_a_range_of_one_value_is_widened() -> None:
    assert svg.nice(2.0, 2.0) == (1.5, 2.5)


def test_all_ticks_of_an_axis_have_the_same_decimals() -> None:
    write = svg.decimals(0.72, 0.82)
    assert [write(t) for t in svg.ticks(0.72, 0.82)] == ["0.72", "0.74", "0.76", "0.78", "0.80", "0.82"]


def test_a_line_runs_through_its_points_in_the_drawing() -> None:
    drawing = ET.fromstring(svg.line_chart("t", AXIS, AXIS, [svg.Line("s1", ((0.0, 0.0), (1.0, 1.0)))]))
    points = drawing.find(f"{SPACE}polyline").attrib["points"].split()  # type: ignore[union-attr]
    assert points == [
        f"{svg.LEFT},{svg.HEIGHT - svg.BOTTOM}",
        f"{svg.WIDTH - svg.RIGHT},{svg.TOP}",
    ]


def test_bars_are_as_high_as_their_figures() -> None:
    drawing = ET.fromstring(svg.bar_chart("t", "band", ["1", "2"], AXIS, [svg.Bars("p1", (1.0, 0.25))]))
    first, second = (float(r.attrib["height"]) for r in drawing.iter(f"{SPACE}rect"))
    assert first == svg.HEIGHT - svg.TOP - svg.BOTTOM
    assert second == pytest.approx(first / 4)


def test_a_ranking_draws_the_longest_bar_longest_and_cuts_long_labels() -> None:
    rows = [svg.RankRow("p1", "x" * 60, 2.0, "2"), svg.RankRow("p2", "y", 1.0, "1")]
    drawing = ET.fromstring(svg.ranking("t", rows))
    first, second = (float(r.attrib["width"]) for r in drawing.iter(f"{SPACE}rect"))
    assert first == pytest.approx(2 * second)
    labels = [t.text or "" for t in drawing.iter(f"{SPACE}text")]
    assert labels[0].endswith("x…")
    assert len(labels[0]) < 20


@pytest.mark.parametrize(
    "bounds", [(0.01, 0.02, 0.03), (-0.01, 0.0, 0.02), (-0.03, -0.02, -0.01), (0.0, 0.0, 0.0)]
)
def test_an_interval_keeps_everything_inside_the_frame(bounds: tuple[float, float, float]) -> None:
    drawing = ET.fromstring(svg.interval("t", *bounds))
    places = [float(v) for e in drawing.iter() for k, v in e.attrib.items() if k in ("x", "x1", "x2", "cx")]
    assert min(places) >= 0
    assert max(places) <= svg.WIDTH


def test_text_is_escaped() -> None:
    drawing = svg.ranking('<&">', [svg.RankRow("p1", "<script>", 1.0, "&")])
    assert "<script>" not in drawing
    assert ET.fromstring(drawing).attrib["aria-label"] == '<&">'
