"""What was counted, as a table and as plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from latency import markdown

from .counting import Array, Count

Counts = Mapping[str, Mapping[str, Count]]  # by contestant and CPU


def table(
    counts: Counts, cpus: Sequence[str], peer: str, floats: Collection[str], labels: Array
) -> str:
    """A Markdown table.

    Parameters
    ----------
    counts
        By contestant and CPU.
    cpus
        Columns.
    peer
        The contestant that others are a multiple of.
    floats
        Our own float32 contestants; what runs fewest instructions of them is the second measure,
        and their accuracy is that of the float model.
    labels
        Of the images, which all ran on the first CPU.
    """
    headers = [""]
    for cpu in cpus:
        headers += [cpu, f"/ {peer}", "/ own fp32"]
    own = {
        cpu: min((counts[name][cpu].instructions for name in floats if name in counts), default=0.0)
        for cpu in cpus
    }
    rows = []
    for name, found in counts.items():
        cells = [name]
        for cpu in cpus:
            instructions = found[cpu].instructions
            cells.append(f"{instructions:,.0f}".replace(",", " "))
            cells.append(f"{instructions / counts[peer][cpu].instructions:.3f}")
            cells.append(f"{instructions / own[cpu]:.3f}" if own[cpu] else "")
        right = [
            (item.outputs.argmax(-1) == labels[: len(item.outputs)]) for item in found.values()
        ]
        share = min(float(hits.mean()) for hits in right)
        rows.append([*cells, "" if name in floats else f"{share:.2f}"])
    return markdown([*headers, f"top-1 of {len(labels)}"], rows)


def plain(counts: Counts) -> dict[str, dict[str, dict[str, float]]]:
    """The figures for a JSON file."""
    return {
        name: {
            cpu: {"mean": found.instructions, "spread": found.spread}
            for cpu, found in by_cpu.items()
        }
        for name, by_cpu in counts.items()
    }
