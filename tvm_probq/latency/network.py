"""The time of a network and of each of its layers, from those of its kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm.ir import IRModule

from tvm_probq.build.layer_reports import layer_kernels
from tvm_probq.kernels.calls import IN_BITS
from tvm_probq.kernels.cuda.fours import INSTRUCTION as FOURS
from tvm_probq.kernels.gate import INSTRUCTION
from tvm_probq.kernels.planes import BYTE
from tvm_probq.latency.estimator import Estimator
from tvm_probq.latency.ticked import fused_calls


@dataclass(frozen=True)
class NetworkLatency:
    """Estimated times in microseconds, with one thread.

    Attributes
    ----------
    layers : dict
        By layer: its kernel, with what it predicts inside.
    total : float
        Of all kernels, those that belong to no layer too.
    interval : (float, float) or None
        What nine of ten such networks are within; None where it was not asked for or nothing was
        measured.
    """

    layers: dict[str, float]
    total: float
    interval: tuple[float, float] | None = None


def network_latency(
    lowered: IRModule,
    target: tvm.target.Target,
    estimator: Estimator,
    macs: Mapping[str, float],
    *,
    interval: bool = False,
) -> NetworkLatency:
    """Estimate a graph of kernel calls.

    Parameters
    ----------
    lowered : IRModule
        The graph, with the markers of layers.
    target : tvm.target.Target
        What it was lowered for.
    estimator : Estimator
        Of the target.
    macs : mapping
        Multiply-accumulates of each layer, by name.
    interval : bool
        Whether to tell how sure the total is, which takes seconds.
    """
    of_layers = layer_kernels(lowered)
    by_kernel = {
        name: macs.get(layer, 0.0) * _passes(lowered, name)
        for layer, names in of_layers.items()
        for name in names
    }
    calls = [call for run in fused_calls(lowered, target) for call in run]
    times = estimator.us(calls, [by_kernel.get(call.name, 0.0) for call in calls])
    us = dict(zip((call.name for call in calls), map(float, times), strict=True))
    layers = {
        layer: sum(us[name] for name in names if name in us) for layer, names in of_layers.items()
    }
    total = float(times.sum())
    spread = estimator.spread_us(calls) if interval and estimator.measured else None
    if spread is None:
        return NetworkLatency(layers, total)
    return NetworkLatency(layers, total, (total - spread[0], total + spread[1]))


def _passes(lowered: IRModule, kernel: str) -> float:
    """Products of bytes that a product of a kernel of layers takes: those of int4 count half."""
    attrs = lowered[kernel].attrs or {}
    wide = int(attrs.get(IN_BITS, BYTE)) > BYTE
    return 2.0 if wide else 0.5 if attrs.get(INSTRUCTION, "") == FOURS else 1.0
