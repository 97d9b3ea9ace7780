"""The demo: the bundled digits network in every mode, on clean and on shifted images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_probq.data.metrics import top1
from tvm_probq.demo.digits import MODEL_PATH, Images, load_split
from tvm_probq.report.tables import table

if TYPE_CHECKING:
    from tvm_probq.build.compiled import Compiled
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.runtime.runner import Runner
    from tvm_probq.target.profile import TargetProfile

Tell = Callable[[str], None]

LATENCY_ROUNDS = 200
COVERAGE_IMAGES = 100
SHIFTS: dict[str, tuple[float, float]] = {
    # Pixels p in 0 to 1 become gain * p + offset.
    "clean": (1.0, 0.0),
    "dark": (0.4, 0.0),
    "low_contrast": (0.6, 0.1),
}
LEGEND = """\
dark: pixels times 0.4; low contrast: times 0.6 plus 0.1; calibration saw neither
clipped: the float network's values outside the chosen interval, mean over layers, half the
images dark
peak: largest sum of live activations and kernel workspace; latency: one image, one thread"""


@dataclass(frozen=True)
class Variant:
    """One way to quantize."""

    mode: str
    scheme: str

    @property
    def name(self) -> str:
        """Such as ``predicted w8a8``."""
        return self.mode if self.mode == "float" else f"{self.mode} {self.scheme}"


VARIANTS = (
    Variant("float", "w8a8"),
    *(Variant(m, s) for s in ("w8a8", "w8a4") for m in ("static", "dynamic", "predicted")),
)


@dataclass(frozen=True)
class Built:
    """A variant that is compiled, saved and loaded again."""

    compiled: Compiled
    runner: Runner


def run_demo(tell: Tell = print) -> dict[str, Any]:
    """Calibrate, compile, evaluate and time every variant.

    Parameters
    ----------
    tell : callable, optional
        Takes lines about what is being done.

    Returns
    -------
    dict
        ``{"count": images, "target": name, "rows": [one a variant]}``.

    Raises
    ------
    EnvironmentProblem
        If scikit-learn, which carries the images, is not installed.
    """
    from tvm_probq.frontend import onnx
    from tvm_probq.target.profile import host_profile

    calibration_x, images, labels = load_split()
    profile = host_profile()
    model = onnx.load_model(MODEL_PATH)
    tell(f"calibrating on {len(calibration_x)} images")
    record = calibrate(model, calibration_x)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tvm-probq-")))
        built = {}
        for variant in VARIANTS:
            tell(f"compiling {variant.name} for {profile.name}")
            built[variant] = build(variant, model, record, profile, folder / "model.probq")
            stack.enter_context(built[variant].runner)
        tell(f"evaluating on {len(images)} images, clean and shifted, and timing")
        latencies = time_all(built, images)
        rows = [
            {
                "mode": variant.mode,
                "scheme": variant.scheme if variant.mode != "float" else "",
                **{
                    f"accuracy_{shift}": top1(item.runner.run(shifted(images, shift))[0], labels)
                    for shift in SHIFTS
                },
                "clipped": clipped_share(model, record, item.compiled, images),
                "peak_activation_bytes": item.compiled.peak_activation_bytes,
                "parameter_bytes": item.compiled.parameter_bytes,
                "latency_us": latencies[variant.name],
            }
            for variant, item in built.items()
        ]
    return {"count": len(images), "target": profile.name, "rows": rows}


def show_demo(result: Mapping[str, Any]) -> str:
    """Lay the comparison out as a table."""
    headers = ["mode", "scheme", *(f"top-1 {shift.replace('_', ' ')}" for shift in SHIFTS)]
    headers += ["clipped", "peak bytes", "weights bytes", "latency us"]
    rows = [
        [
            row["mode"],
            row["scheme"],
            *(f"{100 * row[f'accuracy_{shift}']:.1f} %" for shift in SHIFTS),
            None if row["clipped"] is None else f"{100 * row['clipped']:.2f} %",
            row["peak_activation_bytes"],
            row["parameter_bytes"],
            f"{row['latency_us']:.0f}",
        ]
        for row in result["rows"]
    ]
    title = f"handwritten digits, {result['count']} images, target {result['target']}"
    return f"{title}\n\n{table(headers, rows)}\n\n{LEGEND}"


def shifted(images: Images, shift: str) -> Images:
    """Apply one of `SHIFTS`."""
    gain, offset = SHIFTS[shift]
    return (images * np.float32(gain) + np.float32(offset)).astype(np.float32)


def calibrate(model: Model, images: Images) -> CalibrationRecord:
    """Calibrate on images, one by one."""
    from tvm_probq.calibration.collect import collect
    from tvm_probq.calibration.record import CalibrationRecord

    record = CalibrationRecord(model.sha256, "scikit-learn digits")
    return collect(model.mod, (image[None] for image in images), record)


def build(
    variant: Variant, model: Model, record: CalibrationRecord, profile: TargetProfile, path: Path
) -> Built:
    """Compile a variant, save it, and load what was saved."""
    from tvm_probq.build.artefact import load_artefact, save_artefact
    from tvm_probq.build.compile import compile_model
    from tvm_probq.plan.plan import plan_of
    from tvm_probq.runtime.runner import Runner

    plan = plan_of(variant.scheme, variant.mode)
    needed = None if variant.mode == "float" else record
    compiled = compile_model(model, plan, needed, profile)
    save_artefact(compiled, plan, needed, profile, path, model_sha256=model.sha256)
    return Built(compiled, Runner(load_artefact(path)))


def time_all(built: Mapping[Variant, Built], images: Images) -> dict[str, float]:
    """Give the median latency of one image in microseconds, by the variant's name."""
    from tvm_probq.runtime.latency import median_latencies_us, use_one_thread

    use_one_thread()
    calls = {}
    for variant, item in built.items():
        tensors = item.runner.prepare({item.runner.inputs[0][0]: images[:1]})
        calls[variant.name] = partial(item.runner.invoke, tensors)
    return median_latencies_us(calls, LATENCY_ROUNDS)


def clipped_share(
    model: Model, record: CalibrationRecord, compiled: Compiled, images: Images
) -> float | None:
    """Give the share of values outside the chosen interval, mean over layers; None for float."""
    from tvm_probq.build.compile import in_units
    from tvm_probq.report.layer_noise import network_noise

    if compiled.mode == "float":
        return None
    half = COVERAGE_IMAGES // 2
    mixed = np.concatenate([images[:half], shifted(images[half : 2 * half], "dark")])
    module = in_units(model, record)
    noise = network_noise(module, compiled.integer_module, (image[None] for image in mixed))
    inside = [layer.coverage for layer in noise.layers.values() if layer.coverage is not None]
    return 1.0 - float(np.mean(inside))
