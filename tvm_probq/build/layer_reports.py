"""What there is to say about each layer of a lowered graph."""

from math import prod
from typing import Any

from tvm import relax
from tvm.ir import IRModule

from tvm_probq import ops
from tvm_probq.build.compiled import LayerReport
from tvm_probq.build.memory import constant_bytes
from tvm_probq.build.proofs import accumulator_proofs
from tvm_probq.calibration.fit import choose_fit
from tvm_probq.calibration.marked import PAIRS, Marked, marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model
from tvm_probq.ir.expressions import is_call, is_constant, shape_of
from tvm_probq.ir.layers import Definitions
from tvm_probq.ir.memory import tensor_bytes
from tvm_probq.kernels.calls import KERNEL_CALLS, arguments, kernel_kind, result_types
from tvm_probq.passes.insert_surrogates import INPUT_BITS
from tvm_probq.passes.lower_layers import TILE
from tvm_probq.plan.plan import LayerPlan, Plan
from tvm_probq.plan.widths import WIDEST, widths_text
from tvm_probq.surrogate.wide_codes import is_wide

KEPT_PARAMETERS = "from the file"
UNPACKED = (
    "stored in bytes: its codes may exceed 15 or its range is measured, its channels are no "
    "multiple of 8, or not only layers read it"
)
# Kernels of their own where a layer's kernel does not compute its predictions itself.
PREDICTIONS = ("sums", "patch_sums", "correction", "surrogate", "predict")
TAILS = ("requantize", "dequantize_accumulator")  # kernels that read a stored accumulator first


def float_reports(model: Model) -> tuple[LayerReport, ...]:
    """Reports of a model compiled in float32."""
    return tuple(_float_report(m, "") for m in marked_tensors(model.mod).values())


def layer_reports(
    model: Model, plan: Plan, record: CalibrationRecord | None, integer: IRModule, lowered: IRModule
) -> tuple[LayerReport, ...]:
    """Reports of a quantized model, in graph order, from its integer graph and its kernel calls."""
    marked = marked_tensors(model.mod)
    kernels = _markers(Definitions(lowered["main"]))
    codes = Definitions(integer["main"])
    proofs = accumulator_proofs(integer)
    reports, kept = [], model.keeps_parameters
    for name, call in _markers(codes).items():
        m, layer_plan = marked[name], plan.layer(name)
        facts = _kernel_facts(lowered, kernels[name])
        stored = _is_stored(m, kept)
        surrogate = KEPT_PARAMETERS if kept else _surrogate(codes, call, m, layer_plan, record)
        facts["bits"] = _picked_bits(codes, call, layer_plan) if stored and not kept else ""
        facts["packed"] = _is_packed(call, kernels[name])
        facts["levels"] = ops.largest_code(call) + 1 if stored and is_wide(call) else 0
        proof = proofs.get(name, "")
        reports.append(_report(m, layer_plan, proof, surrogate if stored else "", facts, stored))
    left = [m for name, m in marked.items() if m.layer is not None and name not in kernels]
    reports += [_float_report(m, plan.layer(m.name).reason) for m in left]
    order = list(marked)
    return tuple(sorted(reports, key=lambda report: order.index(report.name)))


def layer_constants(lowered: IRModule) -> dict[str, int]:
    """Bytes of the constants of each layer's kernels, by layer name, of a graph of kernel calls.

    Those of its predictions are among them.
    """
    definitions = Definitions(lowered["main"])
    found, seen = {}, set[Any]()
    for name, calls in _layer_calls(lowered).items():
        own = [c for call in calls for c in _predictions(lowered, definitions, call, seen)]
        found[name] = constant_bytes([*calls, *own])
    return found


def layer_kernels(lowered: IRModule) -> dict[str, list[str]]:
    """Names of each layer's kernels, by layer name, of a graph of kernel calls."""
    return {
        name: [str(call.args[0].name_hint) for call in calls if is_call(call, *KERNEL_CALLS)]
        for name, calls in _layer_calls(lowered).items()
    }


def _layer_calls(lowered: IRModule) -> dict[str, list[Any]]:
    definitions = Definitions(lowered["main"])
    found = {}
    for name, call in _markers(definitions).items():
        found[name] = [call]
        if kernel_kind(lowered, call) in TAILS:
            found[name].append(definitions.made_by(arguments(call)[0]))
    return found


def _predictions(
    lowered: IRModule, definitions: Definitions, call: Any, seen: set[Any]
) -> list[Any]:
    """The calls that predict for `call`, each once: what layers share is the first one's."""
    found = []
    for argument in call.args[1].fields if is_call(call, *KERNEL_CALLS) else call.args:
        made = definitions.made_by(argument)
        if kernel_kind(lowered, made) in PREDICTIONS and made not in seen:
            seen.add(made)
            found += [made, *_predictions(lowered, definitions, made, seen)]
    return found


def _float_report(m: Marked, reason: str) -> LayerReport:
    return LayerReport(m.name, _operator(m), 32, 32, "float", macs=_macs(m), reason=reason)


def _markers(definitions: Definitions) -> dict[str, Any]:
    """The call behind each marker, by layer name."""
    return {
        str(call.attrs["name"]): definitions.made_by(call.args[0])
        for call in definitions.order
        if is_call(call, "probq.layer")
    }


def _is_packed(codes: Any, kernel: Any) -> bool:
    """Whether a kernel call writes two of the codes of the integer graph in a byte."""
    written = result_types(kernel.ty)[-1]
    halved = int(written.shape.values[-1]) * 2 == shape_of(codes)[-1]
    return str(written.dtype) == "uint8" and halved


def _is_stored(m: Marked, kept: bool) -> bool:
    """Whether a tensor is stored as codes; where the file says which, its marker is on them."""
    return m.kind != "output" and not (kept and str(m.call.ty.dtype) == "float32")


def _report(
    m: Marked, plan: LayerPlan, proof: str, surrogate: str, facts: dict[str, Any], stored: bool
) -> LayerReport:
    integer = (
        m.layer is not None and m.kind in ("conv2d", "dense", "output") and plan.mode != "float"
    )
    return LayerReport(
        m.name, _operator(m),
        weight_bits=plan.weight_bits if integer else 32 if m.layer is not None else 0,
        activation_bits=_stored_bits(m, plan, facts["levels"]) if stored else 32,
        mode="float" if m.kind == "float" else plan.mode, surrogate=surrogate, accumulator=proof,
        macs=_macs(m), reason=m.reason or plan.reason or _unlike_planned(plan, facts) * stored,
        weight_group=_group(m, plan) if integer else 0, **facts,
    )  # fmt: skip


def _stored_bits(m: Marked, plan: LayerPlan, levels: int) -> int:
    """Bits of a tensor's codes."""
    if levels:
        return plan.activation_bits
    return INPUT_BITS if m.kind == "input" else min(plan.activation_bits, WIDEST)


def _unlike_planned(plan: LayerPlan, facts: dict[str, Any]) -> str:
    """Why a tensor is not stored as its plan says, empty if it is."""
    if plan.activation_bits > WIDEST and not facts["levels"]:
        return "stored in 8 bits, as no layer reads codes of 16 from it"
    return UNPACKED if plan.storage == "packed" and not facts["packed"] else ""


def _group(m: Marked, plan: LayerPlan) -> int:
    """Inputs that share a scale; 0 for all of them, as for the few of a depthwise layer."""
    inputs = m.layer.weights.shape[3] if m.layer is not None else 0
    return plan.weight_group if plan.weight_group < inputs else 0


def _operator(m: Marked) -> str:
    if m.layer is None:
        return m.kind
    if m.layer.geometry.depthwise:
        return "depthwise"
    return "dense" if is_call(m.layer.product, "matmul") else "conv2d"


def _macs(m: Marked) -> int:
    """Multiply-accumulates of one sample."""
    if m.pair is not None and is_call(m.pair, "matmul"):
        return prod(m.shape[1:]) * shape_of(m.pair.args[0])[-1]
    return 0 if m.layer is None else m.layer.geometry.macs


def _kernel_facts(lowered: IRModule, call: Any) -> dict[str, Any]:
    """Buffers and instruction of the kernel that made a tensor, and what it left in memory."""
    stored = 0
    if kernel_kind(lowered, call) in TAILS:
        accumulator = arguments(call)[0]
        stored = tensor_bytes(accumulator.ty)
        call = Definitions(lowered["main"]).made_by(accumulator)
    if not is_call(call, *KERNEL_CALLS):
        return {"stored_bytes": stored}
    attrs = lowered[call.args[0]].attrs or {}
    return {
        "workspace_bytes": int(attrs.get("probq.workspace_bytes", 0)),
        "scratch_bytes": int(attrs.get("probq.scratch_bytes", 0)),
        "instruction": str(attrs.get("probq.instruction", "")),
        "tile": str(attrs.get(TILE, "")),
        "stored_bytes": stored,
    }


def _surrogate(
    codes: Definitions, call: Any, m: Marked, plan: LayerPlan, record: CalibrationRecord | None
) -> str:
    """How the parameters of a stored tensor come about; `call` of the integer graph made it."""
    if m.kind == "output":
        return ""
    qparams = codes.value(written_under(codes, call))
    if is_constant(qparams):
        return f"static ({plan.observer})"
    if is_call(qparams, "probq.surrogate"):
        kind = str(qparams.attrs["kind"])
        if record is None or kind in PAIRS:
            return kind
        return f"{kind.split('_')[0]} ({choose_fit(record.tensor(m.name), plan).rule})"
    if is_call(qparams, "probq.pool_range", "probq.merge_ranges", "probq.product_range"):
        return "exact, from the input's codes"
    return "measured"


def _picked_bits(codes: Definitions, call: Any, plan: LayerPlan) -> str:
    """Widths that the parameters of a stored tensor have, if a prediction picks among several."""
    qparams = codes.value(written_under(codes, call))
    picks = is_call(qparams, "probq.surrogate") and len(plan.widths) > 1
    return widths_text(plan.widths) if picks else ""


def written_under(codes: Definitions, call: Any) -> Any:
    """The parameters a tensor's codes were made under: a variable or a constant."""
    if ops.is_probq(call, "requantize"):
        return ops.AccumulatorArgs.from_call(call).y_qparams
    if ops.is_probq(call, "concat"):
        call = codes.value(call.args[0])
    found = [a for a in getattr(call, "args", []) if _is_qparams(a)]
    return found[-1] if found else None


def _is_qparams(arg: Any) -> bool:
    ty = arg.ty
    if not isinstance(ty, relax.TensorType) or str(ty.dtype) != "float32" or ty.ndim != 3:
        return False
    return int(ty.shape.values[1]) == 3
