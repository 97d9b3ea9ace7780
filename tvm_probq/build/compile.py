"""Compile a model: passes, TVM's code generator, and the report of every layer."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import tvm
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_probq.build import tir_pipeline
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.device_code import device_code
from tvm_probq.build.layer_reports import float_reports, layer_reports
from tvm_probq.build.memory import parameter_bytes, peak_activation_bytes
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import CalibrationError, KernelError, PlanError
from tvm_probq.frontend.onnx import Model
from tvm_probq.ir.islands import float_islands
from tvm_probq.ir.macs import float_macs
from tvm_probq.kernels.cuda.unit import is_cuda
from tvm_probq.kernels.gate import check_instructions
from tvm_probq.passes.equalize_channels import EqualizeChannels
from tvm_probq.passes.lower_layers import Tiles
from tvm_probq.passes.pipeline import build_passes, kernel_passes, quantize_passes
from tvm_probq.plan.plan import Plan

# What TVM's lowering and code generator raise about operators they cannot take.
TVM_ERRORS = (tvm.error.InternalError, RuntimeError, ValueError, TypeError)


class Profile(Protocol):
    """What compilation asks of a target profile."""

    @property
    def name(self) -> str:
        """Its name."""

    def target(self) -> Any:
        """The TVM target."""


def compile_model(
    model: Model,
    plan: Plan,
    record: CalibrationRecord | None,
    profile: Profile,
    tiles: Tiles | None = None,
) -> Compiled:
    """Compile a model for a target.

    Parameters
    ----------
    model : Model
        From `load_model`; its batch is the compiled batch.
    plan : Plan
        How each layer is quantized.
    record : CalibrationRecord or None
        Calibration of the same model; None for a plan that quantizes nothing, and for a model that
        keeps the parameters of its file, whose plan is ``plan_of("w8a8", "static")``.
    profile : Profile
        Where it is to run.
    tiles : Tiles, optional
        Loop sizes of the kernels, such as a tuning database; without, a fixed rule decides. The
        results are the same.

    Raises
    ------
    CalibrationError
        Without a record, or with one of another model.
    PlanError
        For a model that keeps the parameters of its file, and another plan.
    KernelError
        When a kernel lost the instruction it was made for.
    """
    target = profile.target()
    integer = quantized(model, plan, record)
    lowered = tvm.transform.Sequential(kernel_passes(target, tiles))(integer)
    executable = build(lowered, target)
    is_float = not plan.quantizes
    device = device_code(lowered, executable, target) if is_cuda(target) else None
    if not is_float and device is None:
        check_instructions(lowered, executable)
    reports = (
        float_reports(model) if is_float else layer_reports(model, plan, record, integer, lowered)
    )
    integer_macs = 0 if is_float else max(0, model.macs - float_macs(integer))
    return Compiled(
        executable, integer, reports, peak_activation_bytes(lowered), parameter_bytes(lowered),
        plan.default.mode, "float32" if is_float else plan.scheme, model.inputs, model.outputs,
        profile.name, model.macs, integer_macs, () if is_float else float_islands(integer), device,
    )  # fmt: skip


def quantized(model: Model, plan: Plan, record: CalibrationRecord | None) -> IRModule:
    """The integer graph of a model, which the simulator can run; the float one of a float plan."""
    if not plan.quantizes:
        return model.mod
    if model.keeps_parameters:
        _check_keeps(model, plan)
        record = CalibrationRecord(model.sha256, "")
    if record is None:
        raise CalibrationError(
            f"the mode {plan.default.mode} needs a calibration record",
            fix="calibrate the model first, with a card or with --data",
        )
    if record.model_hash and record.model_hash != model.sha256:
        raise CalibrationError(
            "the calibration record is of another model", where=model.source,
            why="its model hash differs", fix="calibrate this model",
        )  # fmt: skip
    return tvm.transform.Sequential(quantize_passes(plan, record))(model.mod)


def _check_keeps(model: Model, plan: Plan) -> None:
    if plan.layers or plan.default.mode != "static":
        modes = sorted({plan.default.mode, *(layer.mode for layer in plan.layers.values())})
        raise PlanError(
            f"the plan says {', '.join(modes)}, but the model keeps the parameters of its file",
            where=model.source, why="they are constants, and those of all layers",
            fix='compile it with plan_of("w8a8", "static"), or load it with requantize=True',
        )  # fmt: skip


def in_units(model: Model, record: CalibrationRecord | None) -> IRModule:
    """The float module of a model, its tensors in the units of a record and so of `quantized`."""
    if record is None:
        return model.mod
    equalize: tvm.transform.Pass = EqualizeChannels(record)
    return equalize(model.mod)


def build(
    lowered: IRModule, target: Any, *, ahead_of_time: bool = True, ticks: bool = False
) -> Any:
    """TVM's code generator on a graph of kernel calls.

    The kernels do not check their arguments, which only the graph gives them: each check reads
    what the kernel itself never touches.  ``main`` checks what the user gives it.

    Parameters
    ----------
    lowered : IRModule
        The graph.
    target : tvm.target.Target
        For the code generator.
    ahead_of_time : bool
        Whether one function calls all kernels (`LowerToAot`); without, the virtual machine calls
        each, and can be asked to report it.
    ticks : bool
        Whether ``main`` also returns the time of each kernel (`InsertTicks`).
    """
    context = PassContext.current()
    config = {**context.config, "tirx.disable_assert": True}
    changed = PassContext(
        context.opt_level, context.required_pass, context.disabled_pass, context.instruments, config
    )
    with _folder() as folder, changed:
        passes = build_passes(target, folder if ahead_of_time else None, ticks=ticks)
        pipeline = tvm.transform.Sequential(passes)
        try:
            return tvm.compile(
                lowered, target, relax_pipeline=pipeline, tir_pipeline=tir_pipeline.NAME
            )
        except TVM_ERRORS as error:
            raise KernelError(
                "TVM cannot compile the model", why=(str(error).splitlines() or [repr(error)])[-1],
                fix="replace the operator it names, or report it with the ONNX file",
            ) from error  # fmt: skip


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for what the code generator reads."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="tvm-probq-")
    except OSError as error:
        raise KernelError(
            "there is no place for what the code generator reads",
            where=f"temporary folder {tempfile.gettempdir()}",
            why=error.strerror or str(error),
            fix="set TMPDIR to a folder that can be written",
        ) from error
    with folder as name:
        yield Path(name)
