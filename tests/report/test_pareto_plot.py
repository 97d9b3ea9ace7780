"""The drawing: well-formed, every point in its place, ticks at round values."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tvm_probq.report.pareto_plot import HEIGHT, WIDTH, Point, pareto_plot
from tvm_probq.report.ticks import bytes_axis, number_axis

SVG = "{http://www.w3.org/2000/svg}"
FRONT = [Point(300_000.0, 32.0), Point(250_000.0, 24.0), Point(180_000.0, 18.0)]
PLAN = Point(199_040.0, 21.3)


def drawn(front: list[Point], uniform: Point = FRONT[0], plan: Point = PLAN) -> ElementTree.Element:
    return ElementTree.fromstring(pareto_plot("ResNet <20> & more", front, uniform, plan))


def of_class(root: ElementTree.Element, tag: str, name: str) -> list[ElementTree.Element]:
    return [e for e in root.iter(SVG + tag) if e.get("class") == name]


def circles(root: ElementTree.Element) -> list[tuple[float, float]]:
    found = [e for e in of_class(root, "circle", "front") if e.find(SVG + "title") is not None]
    return [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in found]


def test_points_lie_as_their_values() -> None:
    root = drawn(FRONT)
    places = circles(root)
    assert len(places) == 4  # the plan is between two
    del places[1]
    assert places == sorted(places)  # larger is further right,
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)  # better is up
    (line,) = of_class(root, "polyline", "line")
    assert line.attrib["points"].split() == [f"{x:.1f},{y:.1f}" for x, y in circles(root)]
    (width, height) = places[2][0] - places[0][0], places[0][1] - places[2][1]
    assert (places[1][0] - places[0][0]) / width == pytest.approx(7 / 12, abs=1e-3)
    assert (places[0][1] - places[1][1]) / height == pytest.approx(6 / 14, abs=1e-3)
    for x, y in places:
        assert 0 < x < WIDTH
        assert 0 < y < HEIGHT


def test_a_plan_that_is_not_the_best_is_not_on_the_front() -> None:
    worse = drawn(FRONT, plan=Point(260_000.0, 23.0))
    assert len(circles(worse)) == 3
    assert len(of_class(worse, "polygon", "plan")) == 1


def test_what_is_marked_says_its_values() -> None:
    root = drawn(FRONT)
    (plan,), (uniform,) = (of_class(root, "polygon", name) for name in ("plan", "uniform"))
    assert plan.findtext(SVG + "title") == "the plan: 199040 bytes, 21.30 dB"
    assert uniform.findtext(SVG + "title") == "uniform w8a8: 300000 bytes, 32.00 dB"
    texts = {e.text for e in root.iter(SVG + "text")}
    assert {"ResNet <20> & more", "parameters (kB)", "predicted signal-to-noise (dB)"} <= texts
    assert {"180", "200", "300", "20", "30"} <= texts
    assert {"the plan: 199 kB, 21.3 dB", "uniform w8a8: 300 kB, 32.0 dB"} <= texts


def test_it_is_readable_in_light_and_dark() -> None:
    style = drawn(FRONT).findtext(SVG + "style") or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for name in (".paper", "text", ".soft", ".grid", ".line", ".front", ".uniform", ".plan"):
        of_name = re.compile(rf"(?<![.\w]){re.escape(name)} {{ (?:fill|stroke): (#\w{{6}}); }}")
        (one,), (other,) = of_name.findall(light), of_name.findall(dark)
        assert one != other


@pytest.mark.parametrize("front", [[], FRONT[:1], [Point(5.0, math.inf)]])
def test_few_points(front: list[Point]) -> None:
    assert len(circles(drawn(front, plan=FRONT[0]))) == 1  # the plan, once
    nothing = drawn(front[:0], Point(1.0, math.inf), Point(1.0, math.inf))
    assert not list(nothing.iter(SVG + "polygon"))


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([12.0, 31.0], ["10", "15", "20", "25", "30", "35"]),
        ([0.12, 0.19], ["0.12", "0.14", "0.16", "0.18", "0.20"]),
        ([7.0, 7.0], ["6.4", "6.6", "6.8", "7.0", "7.2", "7.4", "7.6"]),
    ],
)
def test_ticks_are_round(values: list[float], texts: list[str]) -> None:
    axis = number_axis(values, 0, 100)
    assert [text for _, text in axis.ticks] == texts
    assert axis.low <= min(values)
    assert max(values) <= axis.high
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 100


def test_bytes_have_the_unit_that_suits() -> None:
    axis = bytes_axis([1.2e6, 2.9e6], 0, 1)
    assert (axis.unit, [text for _, text in axis.ticks]) == (
        "MB",
        ["1.0", "1.5", "2.0", "2.5", "3.0"],
    )
    assert bytes_axis([10, 400], 0, 1).unit == "bytes"
    assert bytes_axis([10, 4000], 0, 1).unit == "kB"
