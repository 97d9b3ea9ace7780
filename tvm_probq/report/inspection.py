"""What an artefact says of its layers, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm_probq.build.manifest import Manifest
from tvm_probq.report.tables import Cell, table

NOTHING_TO_QUANTIZE = (
    "nothing to quantize: the model has no convolution or matrix product with constant weights"
)
NAMED = 4  # islands of one reason that are listed by name
HEADERS = (
    "layer",
    "op",
    "bits w/a",
    "mode",
    "surrogate",
    "accumulator",
    "workspace",
    "scratch",
    "32-bit stored",
    "instruction",
)


def inspection(manifest: Manifest, coverage: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Give the form of ``inspect --json``.

    Parameters
    ----------
    manifest : Manifest
        Of the artefact.
    coverage : mapping of str to float, optional
        Measured share of values inside the interval, by layer.
    """
    layers = [layer.to_json() for layer in manifest.layers]
    for layer in layers:
        layer["coverage"] = None if coverage is None else coverage.get(layer["name"])
    return {
        "layers": layers,
        **in_integers(manifest),
        "peak_activation_bytes": manifest.peak_activation_bytes,
        "parameter_bytes": manifest.parameter_bytes,
        "mode": manifest.mode,
        "scheme": manifest.scheme,
        "batch": manifest.batch,
        "target": manifest.target.name,
        "inputs": _forms(manifest.inputs),
        "outputs": _forms(manifest.outputs),
        "versions": manifest.versions,
        "database": manifest.database,
        "model_sha256": manifest.model_sha256,
        "calibration_samples": manifest.calibration_samples,
        "random_calibration": manifest.random_calibration,
        "seed": manifest.seed,
    }


def in_integers(manifest: Manifest) -> dict[str, Any]:
    """How much of a model is computed in integers, and what is not."""
    share = manifest.integer_macs / manifest.macs if manifest.macs else None
    return {
        "macs": manifest.macs,
        "integer_macs": manifest.integer_macs,
        "integer_share": share,
        "float_islands": [island.to_json() for island in manifest.islands],
    }


def show_integers(result: Mapping[str, Any]) -> list[str]:
    """Lay `in_integers` out, a line for the share and one for each island."""
    lines = []
    if result["integer_share"] is not None:
        share = f"{100 * result['integer_share']:.2f} %"
        lines.append(f"{share} of {result['macs']} multiply-accumulates in integers")
    by_reason: dict[str, list[str]] = {}
    for island in result["float_islands"]:
        by_reason.setdefault(island["reason"], []).append(island["name"])
    for reason, names in by_reason.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"  float: {', '.join(names[:NAMED])}{more}: {reason}")
    return lines


def show_inspection(result: Mapping[str, Any]) -> str:
    """Lay an inspection out for a terminal: a summary, the layers, and reasons."""
    layers = result["layers"]
    measured = any(layer["coverage"] is not None for layer in layers)
    headers = (*HEADERS, "coverage") if measured else HEADERS
    rows = [_row(layer, measured) for layer in layers]
    reasons = [f"  {layer['name']}: {note}" for layer in layers if (note := _note(layer))]
    if not layers:
        reasons = [f"  {NOTHING_TO_QUANTIZE}"]
    parts = [_summary(result), *show_integers(result), "", table(headers, rows)]
    if reasons:
        parts += ["", "notes", *reasons]
    return "\n".join(parts)


def _summary(result: Mapping[str, Any]) -> str:
    samples = f"{result['calibration_samples']} samples"
    if result["random_calibration"]:
        samples += " of RANDOM inputs: only its latency means anything"
    lines = {
        "mode": f"{result['mode']} {result['scheme']}, batch {result['batch']}",
        "target": result["target"],
        "inputs": ", ".join(_form_text(form) for form in result["inputs"]),
        "outputs": ", ".join(_form_text(form) for form in result["outputs"]),
        "calibration": samples if result["calibration_samples"] else "none",
        "peak activations": f"{result['peak_activation_bytes']} bytes",
        "parameters": f"{result['parameter_bytes']} bytes",
        "tuning": _tuning(result),
        "made by": ", ".join(f"{name} {v}" for name, v in result["versions"].items()),
        "model": f"SHA-256 {result['model_sha256']}",
    }
    return "\n".join(f"{name:16}  {value}" for name, value in lines.items())


def _tuning(result: Mapping[str, Any]) -> str:
    tuned = sum(bool(layer["tile"]) for layer in result["layers"])
    return f"{tuned} layers from {result['database']}" if result["database"] else "none"


def _note(layer: Mapping[str, Any]) -> str:
    """What else there is to say about a layer."""
    levels = f"stored in 16 bits, {layer['levels']} levels" if layer["levels"] else ""
    packed = "stored two codes in a byte" if layer["packed"] else ""
    return "; ".join(text for text in (levels, packed, layer["reason"]) if text)


def _row(layer: Mapping[str, Any], measured: bool) -> list[Cell]:
    group = f"g{layer['weight_group']}" if layer["weight_group"] else ""
    weights = f"{layer['weight_bits']}{group}" if layer["weight_bits"] else "-"
    bits = f"{weights}/{layer['bits'] or layer['activation_bits'] or '-'}"
    row: list[Cell] = [layer["name"], layer["op"], bits, layer["mode"], layer["surrogate"]]
    row += [layer["accumulator"], layer["workspace_bytes"], layer["scratch_bytes"]]
    row += [layer["stored_bytes"], layer["instruction"]]
    if measured:
        share = layer["coverage"]
        row.append("-" if share is None else f"{100 * share:.2f} %")
    return row


def _forms(forms: tuple[tuple[str, tuple[int, ...], str], ...]) -> list[dict[str, Any]]:
    return [{"name": name, "shape": list(shape), "dtype": dtype} for name, shape, dtype in forms]


def _form_text(form: Mapping[str, Any]) -> str:
    return f"{form['name']} {form['dtype']} {form['shape']}"
