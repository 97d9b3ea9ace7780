"""Run networks that differ from a reference in few layers, from what the reference computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from tvm.ir import IRModule

from tvm_probq.ir.memory import tensor_bytes
from tvm_probq.ir.rewrite import bindings
from tvm_probq.ir.value_numbers import ValueNumbers
from tvm_probq.simulator.interpreter import Simulator

# Kept are codes, and what is no larger than this: ranges, sums, corrections.
CODES = ("uint8", "int16")
SMALL_BYTES = 1 << 16


class Replay:
    """The values of networks that are remembered, on some inputs.

    Parameters
    ----------
    inputs : sequence of tuple of Array
        The inputs of each call.
    """

    def __init__(self, inputs: Sequence[tuple[Any, ...]]) -> None:
        self._inputs = inputs
        self._numbers = ValueNumbers()
        self._values: list[dict[int, Any]] = [{} for _ in inputs]

    def remember(self, mod: IRModule) -> list[tuple[Any, ...]]:
        """Outputs of a network, the values of which are kept."""
        func, simulator = mod["main"], Simulator(mod)
        numbers = self._numbers.of(func)
        kept = [b.var for b in bindings(func) if _is_worth_keeping(b.var.ty)]
        outputs = []
        for call, values in zip(self._inputs, self._values, strict=True):
            if any(numbers[var] not in values for var in kept):
                found = dict(zip(func.params, call, strict=True))
                found |= dict(zip(kept, simulator.evaluate_all(kept, *call), strict=True))
                values.update({numbers[var]: value for var, value in found.items()})
            outputs.append(as_tuple(simulator.resume(_known(numbers, values))))
        return outputs

    def run(self, mod: IRModule) -> list[tuple[Any, ...]]:
        """Outputs of any network, computed from where it differs from those remembered."""
        numbers, simulator = self._numbers.of(mod["main"]), Simulator(mod)
        return [as_tuple(simulator.resume(_known(numbers, v))) for v in self._values]


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """The outputs of a network that may have several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _known(numbers: Mapping[Any, int], values: Mapping[int, Any]) -> dict[Any, Any]:
    return {var: values[number] for var, number in numbers.items() if number in values}


def _is_worth_keeping(ty: Any) -> bool:
    return str(getattr(ty, "dtype", "")) in CODES or tensor_bytes(ty) <= SMALL_BYTES
