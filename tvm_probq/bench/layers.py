"""The time of each layer beside what its instruction could do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm.ir import IRModule

from tvm_probq.bench.kernels import KernelTime, kernel_times
from tvm_probq.bench.ours import Ours
from tvm_probq.bench.peak import peak_gmacs
from tvm_probq.bench.share import kind_of
from tvm_probq.build.compile import build
from tvm_probq.build.layer_reports import TAILS
from tvm_probq.calibration.marked import Marked, marked_tensors
from tvm_probq.errors import KernelError
from tvm_probq.frontend.onnx import Model
from tvm_probq.ir.expressions import ints, is_call
from tvm_probq.ir.layers import Definitions, Geometry
from tvm_probq.ir.rewrite import bindings
from tvm_probq.kernels.calls import KERNEL_CALLS, LAYER, result_types
from tvm_probq.kernels.gate import INSTRUCTION
from tvm_probq.passes.pipeline import kernel_passes
from tvm_probq.report.tables import Cell, table

HEADERS = (
    "layer", "op", "shape", "MMAC", "us", "GMAC/s", "of the peak", "of the time", "instruction",
)  # fmt: skip
CONVOLUTIONS = ("conv2d", "depthwise")
KERNEL = "probq.kernel"  # attribute of a kernel that computes no layer
US_PER_MS = 1e3

Row = dict[str, Any]


def layer_times(ours: Ours, model: Model, x: NDArray[Any]) -> dict[str, Any]:
    """Time every kernel of a model alone.

    Parameters
    ----------
    ours : Ours
        The model; its graph is built once more, each kernel a function of its own.
    model : Model
        The float model, which knows the layers' shapes.
    x : ndarray
        The input.

    Returns
    -------
    dict
        ``rows``, one a kernel call in order; ``peak_gmacs`` by instruction, None where it cannot
        be measured; ``convolutions``, all of them together.
    """
    target = ours.profile.target()
    lowered = tvm.transform.Sequential(kernel_passes(target, ours.tiles()))(ours.integer())
    rows = kernel_rows(lowered, marked_tensors(model.mod), x.shape[0])
    instructions = {row["instruction"] for row in rows if row["instruction"]}
    before = {name: peak_gmacs(name, target) for name in instructions}
    times = kernel_times(build(lowered, target, ahead_of_time=False), x)
    after = {name: peak_gmacs(name, target) for name in instructions}
    peaks = {name: _mean(before[name], after[name]) for name in sorted(instructions)}
    return summarize(joined(rows, times), peaks)


def kernel_rows(lowered: IRModule, marked: Mapping[str, Marked], batch: int) -> list[Row]:
    """Describe every call of one of our kernels, in order."""
    definitions = Definitions(lowered["main"])
    names = _layer_names(lowered, definitions)
    return [
        _row(lowered, b.value, marked.get(names.get(b.value, "")), batch)
        for b in bindings(lowered["main"])
        if is_call(b.value, *KERNEL_CALLS)
    ]


def joined(rows: list[Row], times: list[KernelTime]) -> list[Row]:
    """Put times to rows; what TVM generated besides our kernels gets a row of its own.

    Raises
    ------
    KernelError
        If the kernels that ran are not those of the graph.
    """
    ours = {row["kernel"] for row in rows}
    ran = [t.name for t in times if t.name in ours]
    if ran != [row["kernel"] for row in rows]:
        raise KernelError(
            f"{len(ran)} kernel calls ran where the graph has {len(rows)}",
            where="bench --layers", why="TVM moved or dropped some of them",
            fix="report it with the model",
        )  # fmt: skip
    rest = iter(rows)
    result = []
    for time in times:
        row = next(rest) if time.name in ours else _plain(time.name)
        result.append({**row, "ms": time.ms, "gmacs": row["macs"] / time.ms * 1e-6})
    return result


def summarize(rows: list[Row], peaks: Mapping[str, float | None]) -> dict[str, Any]:
    """Add shares of the peak and of the time, and the total of all convolutions."""
    total = sum(row["ms"] for row in rows)
    for row in rows:
        peak = peaks.get(row["instruction"])
        row["share_of_peak"] = None if not peak or not row["macs"] else row["gmacs"] / peak
        row["share_of_time"] = row["ms"] / total
    taken = [row for row in rows if row["op"] in CONVOLUTIONS]
    groups = {op: [r for r in taken if r["op"] == op] for op in CONVOLUTIONS}
    return {
        "rows": rows,
        "peak_gmacs": dict(peaks),
        "kernels_ms": total,
        "convolutions": {
            name: _together(group) for name, group in {**groups, "all": taken}.items() if group
        },
    }


def show_layers(layers: Mapping[str, Any], whole_ms: float) -> str:
    """Lay the rows and the totals out."""
    rows: list[list[Cell]] = [
        [
            row["name"], row["op"], row["shape"], row["macs"] * 1e-6 if row["macs"] else None,
            row["ms"] * US_PER_MS, row["gmacs"] if row["macs"] else None,
            _percent(row["share_of_peak"]), _percent(row["share_of_time"]), row["instruction"],
        ]
        for row in layers["rows"]
    ]  # fmt: skip
    lines = [table(HEADERS, rows), ""]
    for name, peak in layers["peak_gmacs"].items():
        text = "not measured" if peak is None else f"{peak:.0f} GMAC/s, measured in this run"
        lines.append(f"peak of {name} on one core: {text}")
    for name, group in layers["convolutions"].items():
        share = group["share_of_peak"]
        part = "" if share is None else f", {100 * share:.1f} % of the peak, weighted by time"
        lines.append(
            f"convolutions, {name}: {group['ms']:.3f} ms, {group['gmacs']:.1f} GMAC/s{part}"
        )
    lines.append(
        f"all kernels alone, in warm caches: {layers['kernels_ms']:.3f} ms; "
        f"the whole run: {whole_ms:.3f} ms"
    )
    return "\n".join(lines)


def _together(rows: list[Row]) -> dict[str, Any]:
    """MACs over time; the share weighted by time, None where a peak is not known."""
    ms = sum(row["ms"] for row in rows)
    shares = [row["share_of_peak"] for row in rows]
    known = None not in shares
    return {
        "count": len(rows),
        "macs": sum(row["macs"] for row in rows),
        "ms": ms,
        "gmacs": sum(row["macs"] for row in rows) / ms * 1e-6,
        "share_of_peak": (
            sum(row["share_of_peak"] * row["ms"] for row in rows) / ms if known else None
        ),
    }


def _layer_names(lowered: IRModule, definitions: Definitions) -> dict[Any, str]:
    """Name of the layer that a call computes, also where its codes are made by a second call."""
    names = {}
    for marker in definitions.order:
        if not is_call(marker, "probq.layer"):
            continue
        call = definitions.made_by(marker.args[0])
        if _kind(lowered, call) in TAILS:
            call = definitions.made_by(call.args[1].fields[0])
        names[call] = str(marker.attrs["name"])
    return names


def _row(lowered: IRModule, call: Any, marked: Marked | None, batch: int) -> Row:
    kernel = str(call.args[0].name_hint)
    kind = _kind(lowered, call)
    name = kernel if marked is None else marked.name
    row = {**_plain(kernel), "name": name, "op": kind, "shape": _written(call)}
    if kind != LAYER or marked is None or marked.layer is None:
        return row
    geometry = marked.layer.geometry
    attrs = lowered[call.args[0]].attrs
    dense = is_call(marked.layer.product, "matmul")
    return {
        **row,
        "op": "depthwise" if geometry.depthwise else "dense" if dense else "conv2d",
        "shape": shape_text(geometry),
        "macs": geometry.macs * batch,
        "instruction": str(attrs.get(INSTRUCTION, "")),
    }


def _written(call: Any) -> str:
    """Shape of the largest tensor that a kernel writes: ``-> 28x28x96``."""
    shape = max((ints(ty.shape) for ty in result_types(call.ty)), key=math.prod)
    return f"-> {'x'.join(map(str, shape[1:]))}"


def _kind(lowered: IRModule, call: Any) -> str:
    """Which of our kernels a call runs, also one that writes over an operand."""
    if not is_call(call, *KERNEL_CALLS):
        return ""
    attrs = lowered[call.args[0]].attrs or {}
    return LAYER if INSTRUCTION in attrs else str(attrs.get(KERNEL, "")).removeprefix("probq_")


def _plain(kernel: str) -> Row:
    return {
        "kernel": kernel,
        "name": kernel,
        "op": kind_of(kernel) or "float",
        "shape": "",
        "macs": 0,
        "instruction": "",
    }


def shape_text(g: Geometry) -> str:
    """Give a layer's shape: ``3x3/2 56x56x64 -> 28x28x128``."""
    image = len(g.x_shape) == 4
    taps = f"{'x'.join(map(str, g.kernel))}/{g.strides[0]} " if image else ""
    groups = f" groups {g.groups}" if g.groups > 1 and not g.depthwise else ""
    inputs, outputs = ("x".join(map(str, shape[1:])) for shape in (g.x_shape, g.y_shape))
    return f"{taps}{inputs} -> {outputs}{groups}"


def _mean(*values: float | None) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
