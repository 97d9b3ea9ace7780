"""How many bits predictions pick for the inputs of an evaluation, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tvm_probq.plan.widths import NARROWEST, WIDEST
from tvm_probq.report.layer_noise import LayerNoise
from tvm_probq.report.tables import Cell, table

COLUMNS = tuple(range(NARROWEST, WIDEST + 1))


def mean_bits(layers: Iterable[LayerNoise]) -> float | None:
    """Mean width of all stored values of some layers; None without any."""
    found = [(noise.values, noise.mean_bits) for noise in layers]
    weighted = [(values, mean) for values, mean in found if mean is not None]
    total = sum(values for values, _ in weighted)
    return sum(values * mean for values, mean in weighted) / total if total else None


def picks_to_json(noise: LayerNoise) -> dict[str, Any]:
    """Samples by width, and the mean width; neither where no codes are stored."""
    counts = {str(bits): noise.widths[bits] for bits in sorted(noise.widths)}
    return {"samples_by_bits": counts, "mean_bits": noise.mean_bits}


def show_picks(
    layers: Sequence[Mapping[str, Any]], means: Mapping[str, float | None]
) -> list[str]:  # fmt: skip
    """Lay out what was picked, a row for each layer and kind of inputs, and what all values take.

    Parameters
    ----------
    layers : sequence of mapping
        Rows of ``debug --json``; those of a fixed width are left out.
    means : mapping of str to float
        Mean width of the values of all these layers, by kind of inputs.
    """
    rows: list[list[Cell]] = []
    for layer in layers:
        for shift, found in layer["measured"].items() if layer["bits"] else ():
            counts = found["samples_by_bits"]
            total = sum(counts.values())
            shares = [100.0 * counts.get(str(bits), 0) / total for bits in COLUMNS]
            cells = [f"{share:.0f} %" if share else "-" for share in shares]
            rows.append([layer["name"], layer["bits"], shift, f"{found['mean_bits']:.2f}", *cells])
    headers = ["predicted bits", "of", "inputs", "mean", *(f"{bits}" for bits in COLUMNS)]
    said = [f"all values, {s}: {bits:.2f} bits" for s, bits in means.items() if bits is not None]
    return [table(headers, rows), "", *said]
