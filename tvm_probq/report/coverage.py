"""Share of each layer's real output values inside the interval it was stored under."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from tvm.ir import IRModule

from tvm_probq import ops
from tvm_probq.build.layer_reports import written_under
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.simulator.arithmetic import Array
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.simulator.numerics import spread

LAYERS = ("conv2d", "dense", "add", "multiply")


def coverage(
    float_module: IRModule, integer_module: IRModule, samples: Iterable[Array]
) -> dict[str, float]:
    """Covered share of values by layer, over all samples.

    Parameters
    ----------
    float_module : IRModule
        The float module with the same units: `Model.mod` after `EqualizeChannels`.
    integer_module : IRModule
        The integer graph of the same model and batch (`Compiled.integer_module`).
    samples : iterable of Array
        Model inputs of the modules' batch.

    Returns
    -------
    dict
        For each tensor stored as codes, the share of the *float* network's values that lie within
        half a step of the interval chosen for the same input.
    """
    float_simulator, integer_simulator = Simulator(float_module), Simulator(integer_module)
    qparams_of = _qparams_by_name(integer_module)
    inside: dict[str, float] = {}
    total: dict[str, int] = {}
    for x in samples:
        ends = _intervals(integer_simulator, qparams_of, x)

        def watch(call: Any, value: Any, _args: list[Any], ends: Any = ends) -> None:
            name = str(call.attrs["name"]) if ops.is_probq(call, "layer") else ""
            if name in ends:
                low, high = ends[name]
                inside[name] = inside.get(name, 0.0) + _count(value, low, high)
                total[name] = total.get(name, 0) + value.size

        float_simulator(x, watch=watch)
    return {name: inside[name] / total[name] for name in inside}


def _count(values: Array, low: Array, high: Array) -> int:
    shape = (low.shape[0],) + (1,) * (values.ndim - 2) + (low.shape[1],)
    within = (values >= low.reshape(shape)) & (values <= high.reshape(shape))
    return int(within.sum())


def _qparams_by_name(mod: IRModule) -> dict[str, Any]:
    """Parameters of each layer whose output is stored: a variable or a constant."""
    definitions = Definitions(mod["main"])
    found = {}
    for call in definitions.order:
        if is_call(call, "probq.layer") and str(call.attrs["kind"]) in LAYERS:
            made_by = definitions.made_by(call.args[0])
            found[str(call.attrs["name"])] = written_under(definitions, made_by)
    return {name: q for name, q in found.items() if q is not None}


def _intervals(simulator: Simulator, qparams_of: dict[str, Any], x: Array) -> dict[str, Any]:
    """Low and high end ``[N, G]`` of each stored tensor for the input `x`."""
    values = simulator.evaluate_all(list(qparams_of.values()), x)
    ends = {}
    for name, qparams in zip(qparams_of, values, strict=True):
        scale, zero, qmax = (spread(qparams, row, 2) for row in range(3))
        half = np.float32(0.5)
        ends[name] = ((-half - zero) * scale, (qmax + half - zero) * scale)
    return ends
