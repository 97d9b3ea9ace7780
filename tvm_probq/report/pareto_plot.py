"""The Pareto front of a plan as an SVG drawing, of size against signal-to-noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from tvm_probq.report.ticks import Axis, bytes_axis, number_axis

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 56, 60
RADIUS = 4
# Colours of a light and a dark page; a viewer picks by what its user prefers. Many viewers know
# no variables of CSS, and show the light one.
STYLE = """
text { font: 13px sans-serif; }
.title { font-weight: bold; font-size: 15px; }
.line { stroke-width: 2; fill: none; }
.paper { fill: #ffffff; } text { fill: #1f2328; } .soft { fill: #59636e; }
.grid { stroke: #d8dee4; } .line { stroke: #0969da; } .front { fill: #0969da; }
.uniform { fill: #9a6700; } .plan { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117; } text { fill: #f0f6fc; } .soft { fill: #9198a1; }
.grid { stroke: #30363d; } .line { stroke: #4493f8; } .front { fill: #4493f8; }
.uniform { fill: #d29922; } .plan { fill: #f85149; }
}
"""


class Point(NamedTuple):
    """Parameter bytes and the signal-to-noise of the outputs in dB."""

    size: float
    decibels: float


def pareto_plot(title: str, front: Sequence[Point], uniform: Point, plan: Point) -> str:
    """Draw the front, the network with w8a8 everywhere and the plan.

    Parameters
    ----------
    title : str
        Above the drawing.
    front : sequence of Point
        The best allocations; the plan, where none of these is better, is one more.
    uniform, plan : Point
        Marked, with their values.

    Returns
    -------
    str
        A whole SVG file. Points whose signal-to-noise is infinite, as without any loss, are left
        out.
    """
    front = sorted(point for point in front if math.isfinite(point.decibels))
    if math.isfinite(plan.decibels) and not any(_is_better(point, plan) for point in front):
        front = sorted([*front, plan])
    marked = {"uniform": ("uniform w8a8", uniform), "plan": ("the plan", plan)}
    marked = {name: (text, p) for name, (text, p) in marked.items() if math.isfinite(p.decibels)}
    points = [*front, *(point for _, point in marked.values())]
    x = bytes_axis([p.size for p in points], LEFT, WIDTH - RIGHT)
    y = number_axis([p.decibels for p in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(LEFT, 24, title, "title"),
        *_grid(x, y),
        _line(x, y, front),
        *(_circle(x, y, point) for point in front),
        *(_mark(x, y, name, *what) for name, what in marked.items()),
        *_legend(x, marked),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _is_better(one: Point, other: Point) -> bool:
    """Whether the other is nowhere better; equal ones count."""
    return one.size <= other.size and one.decibels >= other.decibels


def _grid(x: Axis, y: Axis) -> list[str]:
    """Lines at round values, these values and what they are."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, text in x.ticks:
        at = f"{x.place(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(_text(x.place(value), bottom + 20, text, "soft", "middle"))
    for value, text in y.ticks:
        at = f"{y.place(value):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(_text(LEFT - 8, y.place(value) + 4, text, "soft", "end"))
    middle = (LEFT + right) / 2
    parts.append(_text(middle, HEIGHT - 16, f"parameters ({x.unit})", "", "middle"))
    up = (TOP + bottom) / 2
    parts.append(
        f'<text x="20" y="{up:.1f}" text-anchor="middle" transform="rotate(-90 20 {up:.1f})">'
        "predicted signal-to-noise (dB)</text>"
    )
    return parts


def _line(x: Axis, y: Axis, points: Sequence[Point]) -> str:
    places = " ".join(f"{x.place(p.size):.1f},{y.place(p.decibels):.1f}" for p in points)
    return f'<polyline class="line" points="{places}"/>'


def _circle(x: Axis, y: Axis, point: Point) -> str:
    at = f'cx="{x.place(point.size):.1f}" cy="{y.place(point.decibels):.1f}"'
    return f'<circle class="front" {at} r="{RADIUS}">{_tip(point)}</circle>'


def _mark(x: Axis, y: Axis, name: str, text: str, point: Point) -> str:
    """A diamond, which colour-blind readers and grey prints tell from the front's circles."""
    left, top, r = x.place(point.size), y.place(point.decibels), 2 * RADIUS
    corners = f"{left:.1f},{top - r:.1f} {left + r:.1f},{top:.1f} {left:.1f},{top + r:.1f}"
    corners += f" {left - r:.1f},{top:.1f}"
    return f'<polygon class="{name}" points="{corners}">{_tip(point, text)}</polygon>'


def _tip(point: Point, text: str = "") -> str:
    """What a viewer shows under the pointer."""
    said = f"{text}: " if text else ""
    return f"<title>{said}{point.size:.0f} bytes, {point.decibels:.2f} dB</title>"


def _legend(x: Axis, marked: dict[str, tuple[str, Point]]) -> list[str]:
    """One entry for what is drawn, in a line above the grid."""
    entries = [("front", "Pareto front")]
    for name, (text, point) in marked.items():
        size = f"{point.size / x.scale:.4g} {x.unit}"
        entries.append((name, f"{text}: {size}, {point.decibels:.1f} dB"))
    parts, at = [], float(LEFT)
    for name, text in entries:
        parts.append(f'<circle class="{name}" cx="{at + 5:.1f}" cy="40" r="5"/>')
        parts.append(_text(at + 16, 44, text, "soft"))
        at += 40 + 7 * len(text)
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
