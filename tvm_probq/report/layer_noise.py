"""How far each layer of an integer graph is from float on the same inputs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import IRModule

from tvm_probq.build.layer_reports import written_under
from tvm_probq.data.metrics import Noise
from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.simulator.arithmetic import F32, Array
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.simulator.numerics import dequantize, quantize, spread

Sample = Array | tuple[Array, ...]
# Tensors that copy the codes of others have nothing to add.
KINDS = ("input", "conv2d", "dense", "output", "add", "multiply", "matmul")


@dataclass
class LayerNoise:
    """Noise of one layer's output, added up over samples.

    Attributes
    ----------
    total : Noise
        Everything up to and with this layer: its stored values against the float network's.
    own : Noise
        Storing alone: the float network's values, rounded and clipped as the layer stores its own.
    inside, values : int
        Of the float network's values, how many lie within half a step of the layer's interval.
    widths : Counter
        Of samples, how many are stored with each number of bits.
    """

    total: Noise = field(default_factory=Noise)
    own: Noise = field(default_factory=Noise)
    inside: int = 0
    values: int = 0
    widths: Counter[int] = field(default_factory=Counter)

    @property
    def mean_bits(self) -> float | None:
        """Mean width over samples; None where nothing is stored as codes."""
        count = self.widths.total()
        return sum(b * n for b, n in self.widths.items()) / count if count else None

    @property
    def coverage(self) -> float | None:
        """Share of values inside; None where nothing is stored as codes."""
        return self.inside / self.values if self.values else None

    def add(self, exact: F32, stored: Array, qparams: F32 | None) -> None:
        """Add one sample: the float network's values and what the layer stores.

        Codes are channels last, also of an input that is not.
        """
        if exact.shape != stored.shape:
            exact = np.moveaxis(exact, 1, -1)
        self.total.add(exact, stored if qparams is None else dequantize(stored, qparams))
        if qparams is None:
            return
        self.own.add(exact, dequantize(quantize(exact, qparams, str(stored.dtype)), qparams))
        scale, zero, qmax = (spread(qparams, row, exact.ndim) for row in range(3))
        half = np.float32(0.5)
        within = (exact >= (-half - zero) * scale) & (exact <= (qmax + half - zero) * scale)
        self.inside += int(within.sum())
        self.values += within.size
        self.widths.update(int(largest + 1).bit_length() - 1 for largest in qparams[:, 2, 0])


@dataclass
class NetworkNoise:
    """Noise of every layer by name, in graph order, and of the network's outputs."""

    layers: dict[str, LayerNoise]
    outputs: Noise
    samples: int = 0


def network_noise(
    float_module: IRModule, integer_module: IRModule, samples: Iterable[Sample]
) -> NetworkNoise:
    """Compare an integer graph with its float network, layer by layer.

    Parameters
    ----------
    float_module : IRModule
        The float module with the same units: `Model.mod` after `EqualizeChannels`.
    integer_module : IRModule
        The integer graph of the same model and batch (`Compiled.integer_module`).
    samples : iterable of Array or tuple of Array
        Model inputs of the modules' batch.
    """
    exact, integer = Simulator(float_module), Simulator(integer_module)
    stored = _stored(integer_module)
    wanted = [v for pair in stored.values() for v in pair if v is not None]
    names = dict.fromkeys(_names(float_module), None)
    noise = NetworkNoise({n: LayerNoise() for n in names if n in stored}, Noise())
    for sample in samples:
        inputs = sample if isinstance(sample, tuple) else (sample,)
        found = integer.evaluate_all([*wanted, *_outputs(integer_module)], *inputs)
        values = dict(zip(wanted, found, strict=False))

        def watch(call: Any, value: Any, _args: Any, values: Any = values) -> None:
            name = _name(call)
            if name in noise.layers:
                codes, qparams = stored[name]
                noise.layers[name].add(
                    value, values[codes], None if qparams is None else values[qparams]
                )

        reference = exact(*inputs, watch=watch)
        _add_outputs(noise.outputs, reference, found[len(wanted) :])
        noise.samples += 1
    return noise


def output_noise(
    float_module: IRModule, integer_module: IRModule, samples: Iterable[Sample]
) -> Noise:
    """Compare the outputs alone; see `network_noise`."""
    noise = Noise()
    exact, integer = Simulator(float_module), Simulator(integer_module)
    for sample in samples:
        inputs = sample if isinstance(sample, tuple) else (sample,)
        found = integer(*inputs)
        _add_outputs(noise, exact(*inputs), found if isinstance(found, tuple) else (found,))
    return noise


def _add_outputs(noise: Noise, exact: Any, found: Any) -> None:
    """Add floating-point outputs; a network's whole numbers, such as indices, are no signal."""
    pairs = zip(exact if isinstance(exact, tuple) else (exact,), found, strict=True)
    for wanted, value in pairs:
        if np.asarray(wanted).dtype.kind == "f" and np.asarray(wanted).ndim:
            noise.add(wanted, value)


def _stored(mod: IRModule) -> Mapping[str, tuple[Any, Any]]:
    """Variables of each layer's output and of its parameters, None for one that stays float32."""
    definitions = Definitions(mod["main"])
    found = {}
    for call in definitions.order:
        if _name(call):
            codes = str(call.ty.dtype) in ("uint8", "int16")
            qparams = written_under(definitions, definitions.made_by(call.args[0]))
            if not codes or qparams is not None:
                found[_name(call)] = definitions.var_of[call], qparams if codes else None
    return found


def _names(mod: IRModule) -> list[str]:
    return [name for call in Definitions(mod["main"]).order if (name := _name(call))]


def _name(call: Any) -> str:
    """The name of a layer's marker, empty for anything else."""
    if not is_call(call, "probq.layer") or str(call.attrs["kind"]) not in KINDS:
        return ""
    return str(call.attrs["name"])


def _outputs(mod: IRModule) -> list[Any]:
    body = mod["main"].body.body
    return list(body.fields) if isinstance(body, relax.Tuple) else [body]
