"""Which tensors are stored in 16 bits, and the largest code of each."""

from typing import Any

from tvm.ir import IRModule

from tvm_probq import ops
from tvm_probq.calibration.marked import Marked, layer_calls, residual_adds
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.ir.layers import Definitions, moves_codes
from tvm_probq.ir.pooling import is_average_pool
from tvm_probq.ir.resizing import is_resize
from tvm_probq.plan.plan import Plan
from tvm_probq.plan.widths import WIDEST
from tvm_probq.quantization.accumulator import largest_code
from tvm_probq.surrogate.rounding import round_layer

LAYERS = ("conv2d", "dense", "output")
WRITERS = ("conv2d", "dense", "input", "float")  # kinds made by a layer or by `quantize`


def wide_codes(
    mod: IRModule, marked: dict[str, Marked], plan: Plan, record: CalibrationRecord
) -> dict[str, int]:
    """The largest codes of the tensors to be stored in 16 bits, by name.

    Asked for by the plan are ``2**activation_bits - 1``.  A code of 16 bits is none of 32768 or
    more, since processors multiply signed words; and the sums of every layer that reads the tensor
    must be proven to fit int32.  A tensor that no integer layer reads, as its input or residual,
    gains nothing by it.
    """
    definitions = Definitions(mod["main"])
    layers = {
        name: m
        for name, m in marked.items()
        if m.kind in LAYERS and plan.layer(name).mode != "float"
    }
    bounds = _Bounds(layers, plan, record)
    found = {}
    for name, m in marked.items():
        bits = plan.layer(name).activation_bits
        if bits <= WIDEST or m.kind not in WRITERS:
            continue
        readers = _readers(definitions, definitions.var_of[m.call])
        most = [bound for reader in readers if (bound := bounds.of(reader)) is not None]
        if most and min(most) > ops.MAX_CODE:
            found[name] = min((1 << bits) - 1, *most)
    return found


class _Bounds:
    """The largest codes that integer layers can read."""

    def __init__(self, layers: dict[str, Marked], plan: Plan, record: CalibrationRecord) -> None:
        self.layers = layers
        self.plan = plan
        self.record = record
        self.products = layer_calls(layers)
        self.adds = residual_adds(layers)

    def of(self, reader: Any) -> int | None:
        """The largest code for one reader, None if it is no integer layer."""
        if reader in self.adds:
            return ops.MAX_WIDE_CODE
        if reader not in self.products:
            return None
        name = self.products[reader]
        layer = self.layers[name].layer
        if layer is None:
            return None
        rounded = round_layer(layer.weights, self.record.tensor(name), self.plan.layer(name))
        return min(ops.MAX_WIDE_CODE, largest_code(rounded.codes))


def is_wide(codes: Any) -> bool:
    """Whether a tensor of codes is stored in 16 bits."""
    return str(codes.ty.dtype) == "int16"


def moves_wide_codes(call: Any) -> bool:
    """Whether an operator only moves codes, of any width: it makes no new ones in between."""
    return moves_codes(call) and not is_resize(call) and not is_average_pool(call)


def _readers(definitions: Definitions, tensor: Any) -> list[Any]:
    """Calls that read a tensor, also behind operators that only move its codes."""
    readers, waiting = [], [tensor]
    for var in waiting:
        for user in definitions.users.get(var, []):
            if moves_wide_codes(user):
                waiting.append(definitions.var_of[user])
            else:
                readers.append(user)
    return readers
