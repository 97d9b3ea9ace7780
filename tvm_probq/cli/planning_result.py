"""What ``tvm-probq plan`` says of a plan: figures, text, a drawing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_probq.planning.allocate import Allocation
    from tvm_probq.planning.search import Found
    from tvm_probq.planning.study import Sensitivity

POINTS = 9
SUREST = 0.01  # of the reference's noise: sums of what float layers gain tell no less


def show(result: dict[str, Any]) -> str:
    """Lay out the layers, the Pareto front, and what was promised beside what came of it."""
    from tvm_probq.report.tables import Cell, table

    rows: list[list[Cell]] = [
        [row["name"], row["option"], row["parameter_bytes"], row["us"], row["added_noise"],
         row["added_kl"]]
        for row in result["layers"]
    ]  # fmt: skip
    front: list[list[Cell]] = [
        [f"{row['share']:.3f}", row["parameter_bytes"], row["us"], f"{row['sqnr_db']:.2f} dB",
         row["added_kl"],
         ", ".join(f"{count} {name}" for name, count in row["options"].items())]
        for row in result["front"]
    ]  # fmt: skip
    return "\n".join(
        [
            table(["layer", "option", "bytes", "us", "added noise", "added kl"], rows),
            "",
            table(["size", "bytes", "us", "predicted", "added kl", "layers"], front),
            "",
            *_summary(result),
            f"{result['plan']}: for `tvm-probq compile --plan`",
        ]
    )


def figures(loss: str, chosen: Found, real: Sensitivity) -> dict[str, Any]:
    """What is predicted of an allocation, and what is measured of its plan."""
    from tvm_probq.planning.allocate import pareto_front
    from tvm_probq.planning.budget import BYTES, KL, NOISE, US
    from tvm_probq.planning.distance import decibels

    found = chosen.prices
    floor = SUREST * found.reference.noise

    def figures(one: Allocation) -> dict[str, Any]:
        bytes_ = found.size_bytes(one)
        return {
            "parameter_bytes": bytes_,
            "share": bytes_ / found.uniform.parameter_bytes,
            "us": found.us(one),
            "sqnr_db": decibels(max(found.reference.noise + one.totals[NOISE], floor)),
            "added_noise": one.totals[NOISE],
            "added_kl": one.totals.get(KL),
        }

    front = pareto_front(found.choices, loss, BYTES, POINTS)
    layers = [
        {"name": name, "option": option, "parameter_bytes": int(costs[BYTES]), "us": costs.get(US),
         "added_noise": costs[NOISE], "added_kl": costs.get(KL)}
        for name, option in chosen.best.chosen.items()
        for costs in [found.choices[name][option]]
    ]  # fmt: skip
    return {
        "loss": loss,
        "gap": chosen.best.gap,
        "uniform": {
            "parameter_bytes": found.uniform.parameter_bytes,
            "us": found.uniform.us or None,
            "share": 1.0,
            "sqnr_db": decibels(found.reference.noise),
            "agreement": found.reference.agreement,
        },
        "predicted": figures(chosen.best),
        "greedy": None if chosen.greedy is None else figures(chosen.greedy),
        "measured": {
            "parameter_bytes": chosen.parameter_bytes,
            "share": chosen.parameter_bytes / found.uniform.parameter_bytes,
            "us": chosen.latency.total or None,
            "sqnr_db": decibels(real.noise),
            "added_noise": real.added_noise,
            "added_kl": real.added_kl,
            "agreement": real.agreement,
        },
        "layers": layers,
        "front": [{**figures(one), "options": Counter(one.chosen.values())} for one in front],
    }


def drawing(result: dict[str, Any]) -> str:
    """The Pareto front with the plan, as an SVG file."""
    from tvm_probq.report.pareto_plot import Point, pareto_plot

    def point(row: dict[str, Any]) -> Point:
        return Point(row["parameter_bytes"], row["sqnr_db"])

    title = f"{Path(result['model']).stem}, {result['target']}, {result['mode']}"
    front = [point(row) for row in result["front"]]
    return pareto_plot(title, front, point(result["uniform"]), point(result["predicted"]))


def header(result: dict[str, Any]) -> str:
    """The comment at the top of a plan file."""
    return "".join(f"# {line}\n" for line in _summary(result)) + "\n"


def _summary(result: dict[str, Any]) -> list[str]:
    rows = {"uniform w8a8": result["uniform"], "predicted": result["predicted"]}
    if result["greedy"] is not None:
        rows["a greedy choice"] = result["greedy"]
    rows["measured"] = real = result["measured"]
    what = f"target {result['target']}, mode {result['mode']}, least {result['loss']}"
    lines = [f"budget {result['budget']}, {what}, gap of the optimum {result['gap']:.1e}"]
    for name, row in rows.items():
        size = f"{row['parameter_bytes']} bytes ({row['share']:.3f})"
        loss = row.get(f"added_{result['loss']}")
        adds = "" if loss is None else f", adds {loss:.4g} {result['loss']}"
        time = "" if row["us"] is None else f", {row['us']:.4g} us"
        lines.append(f"{name}: {size}{time}, {row['sqnr_db']:.2f} dB{adds}")
    if real["agreement"] is not None:
        lines[-1] += (
            f", same class as float {100 * real['agreement']:.1f} % "
            f"(uniform {100 * result['uniform']['agreement']:.1f} %)"
        )
    if result["latency"] is not None:
        slower = result["latency"]["slower_layers"]
        lines.append(f"times are estimated: {result['latency']['source']}")
        if result["latency"]["interval_us"] is not None:
            low, high = result["latency"]["interval_us"]
            lines.append(f"nine of ten such networks take {low:.4g} to {high:.4g} us")
        lines.append(f"layers that take longer than with 8 bits: {len(slower) or 'none'}")
    peak = result["peak_activation_bytes"]
    lines.append(f"peak of activations: {peak['measured']} bytes (uniform {peak['uniform']})")
    return lines
