"""Find the layers of a canonical float function: a product with constant weights and its tail."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import constant_value, ints, is_call, is_constant, is_tensor, shape_of
from tvm_probq.ir.pooling import is_average_pool
from tvm_probq.ir.resizing import is_resize
from tvm_probq.ir.rewrite import bindings, count_uses, variables_of
from tvm_probq.ir.weights import is_weights, weights_value
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.product_ops import is_gated
from tvm_probq.simulator.arithmetic import Array

PRODUCTS = ("nn.conv2d", "matmul")
SHAPE_OPS = (
    "reshape", "flatten", "squeeze", "expand_dims", "strided_slice", "nn.pad", "nn.max_pool2d",
    "broadcast_to",
)  # fmt: skip

KEPT = "probq_kept"  # of a function whose tensors have the parameters of the file


@dataclass(frozen=True)
class Geometry:
    """Shape of a layer; a matrix product is a 1x1 convolution of a 1x1 image.

    `x_shape` and `y_shape` are NHWC, or ``[N, C]`` for matrix products; `pads` is top, left,
    bottom, right.
    """

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def depthwise(self) -> bool:
        """Whether every output channel sees one input channel, its own."""
        return self.groups > 1 and self.groups == self.x_shape[-1] == self.y_shape[-1]

    @property
    def positions(self) -> int:
        """Output positions of one sample."""
        return int(np.prod(self.y_shape[1:-1], dtype=np.int64))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        taps = self.kernel[0] * self.kernel[1] * self.x_shape[-1] // self.groups
        return self.positions * self.y_shape[-1] * taps


@dataclass(frozen=True)
class Layer:
    """One product, its bias, residual and activation, up to the tensor that is stored.

    `weights` are float32 OHWI (``[OC, 1, 1, IC]`` for a matrix product), `bias` float32 ``[OC]``;
    `calls` are the calls of the layer in order, the last one gives the stored tensor.
    """

    product: Call
    calls: tuple[Call, ...]
    x: Any
    weights: Array
    bias: Array
    residual: Any
    activation: str
    geometry: Geometry

    @property
    def residual_add(self) -> Call | None:
        """The addition of the residual, if there is one."""
        return self._residual_step()[1]

    @property
    def before_residual(self) -> Call:
        """The last call before that, or the last one of all."""
        return self._residual_step()[0]

    def _residual_step(self) -> tuple[Call, Call | None]:
        for before, call in pairwise(self.calls):  # the product may read the same tensor
            if is_call(call, "add") and any(a.same_as(self.residual) for a in call.args):
                return before, call
        return self.calls[-1], None


class Definitions:
    """Which call defines a variable, who reads it, and in which order calls stand."""

    def __init__(self, func: relax.Function) -> None:
        self.func = func
        self.uses: Counter[Any] = count_uses(func)
        self.call_of: dict[Any, Any] = {}
        self.order: dict[Any, int] = {}
        self.users: dict[Any, list[Any]] = {}
        self.var_of: dict[Any, Any] = {}
        for position, binding in enumerate(bindings(func)):
            self.call_of[binding.var] = binding.value
            self.var_of[binding.value] = binding.var
            self.order[binding.value] = position
            for var in variables_of(binding.value):
                self.users.setdefault(var, []).append(binding.value)
        self.outputs = set(variables_of(func.body.body))

    def value(self, expr: Any) -> Any:
        """The call behind a variable, or `expr` itself."""
        return self.call_of.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def made_by(self, expr: Any) -> Any:
        """The call that made a tensor, behind markers, aliases and fields of tuples."""
        value = self.value(expr)
        while True:
            if isinstance(value, relax.TupleGetItem):
                value = self.value(value.tuple_value)
            elif is_call(value, "probq.layer"):
                value = self.value(value.args[0])
            elif isinstance(value, relax.Var) and value in self.call_of:
                value = self.value(value)
            else:
                return value

    def only_user(self, call: Call) -> Any:
        """The one call that reads what `call` gives, None if there are more or it is returned."""
        var = self.var_of[call]
        users = self.users.get(var, [])
        return (
            users[0]
            if self.uses[var] == 1 and len(users) == 1 and var not in self.outputs
            else None
        )


def keeps_parameters(mod: IRModule) -> bool:
    """Whether the module's tensors are stored under parameters of its file (`AnnotateKept`)."""
    attrs = mod["main"].attrs
    return attrs is not None and KEPT in attrs


def moves_codes(call: Any) -> bool:
    """Whether `call` only moves values within each sample, so that codes can move.

    A padding moves zeros in; a resizing also interpolates, and a pooling averages, within the range
    of what it reads.
    """
    if is_resize(call) or is_average_pool(call):
        return True
    if not is_call(call, *SHAPE_OPS, "permute_dims", "take") or not call.args:
        return False
    if not (is_tensor(call) and is_tensor(call.args[0])):
        return False
    before, after = shape_of(call.args[0]), shape_of(call)
    if min(len(before), len(after)) < 2 or before[0] != after[0]:
        return False
    if is_call(call, "nn.pad"):
        constant = str(call.attrs.pad_mode) == "constant"
        return constant and float(call.attrs.pad_value) == 0.0
    if is_call(call, "strided_slice"):
        return all(int(axis.value) % len(before) for axis in call.args[1])
    if is_call(call, "take"):
        if not is_constant(call.args[1]) or call.attrs.axis is None:
            return False
        index, axis = constant_value(call.args[1]), int(call.attrs.axis) % len(before)
        return axis > 0 and bool(((index >= 0) & (index < before[axis])).all())
    if is_call(call, "permute_dims"):
        return call.attrs.axes is not None and int(call.attrs.axes[0]) == 0
    return True


def is_clip(call: Any) -> bool:
    """Whether `call` is a linear activation of a tensor."""
    if not is_call(call, "probq.activation") or not isinstance(call.args[0], relax.Var):
        return False
    return parse_activation(str(call.attrs["kind"])).linear


def is_global_pool(call: Any) -> bool:
    """Whether `call` averages an NHWC tensor over all positions."""
    return (
        is_call(call, "mean")
        and is_tensor(call)
        and len(shape_of(call.args[0])) == 4
        and call.attrs.axis is not None
        and sorted(int(a) % 4 for a in call.attrs.axis) == [1, 2]
    )


def operands(call: Any) -> tuple[Any, Any] | None:
    """Both tensors of a sum or product of two images or two vectors, None for anything else.

    They have the shape of the result; the second one of a product may be a gate ``[N, 1, 1, C]``,
    which stands first in some networks.
    """
    if not is_call(call, "add", "multiply") or not is_tensor(call):
        return None
    if not all(isinstance(x, relax.Var) and is_tensor(x) for x in call.args):
        return None
    a, b = call.args
    if shape_of(a) != shape_of(call):
        a, b = b, a
    gated = is_call(call, "multiply") and is_gated(shape_of(a), shape_of(b))
    if len(shape_of(call)) not in (2, 4) or shape_of(a) != shape_of(call):
        return None
    return (a, b) if gated or shape_of(b) == shape_of(a) else None


def is_pair_product(definitions: Definitions, call: Any) -> bool:
    """Whether `call` is a matrix product ``[N, H, M, K] @ [N, H, K, P]`` of two tensors."""
    if not is_call(call, "matmul") or not is_tensor(call) or str(call.ty.dtype) != "float32":
        return False
    factors = [definitions.value(x) for x in call.args]
    if any(is_weights(x) or not is_tensor(x) for x in factors):
        return False
    a, b = map(shape_of, call.args)
    return len(a) == len(b) == 4 and a[:2] == b[:2]


def find_layers(definitions: Definitions) -> list[Layer]:
    """Layers in graph order.  An addition of two products belongs to the later one."""
    products = [c for c in definitions.order if is_product(definitions, c)]
    claimed: set[Any] = set()
    layers = [_grow(definitions, product, claimed) for product in reversed(products)]
    return layers[::-1]


def is_product(definitions: Definitions, call: Any) -> bool:
    """A float convolution or matrix product with constant weights, channels last."""
    if not is_call(call, *PRODUCTS) or not is_weights(definitions.value(call.args[1])):
        return False
    if not is_tensor(call) or not is_tensor(call.args[0]) or str(call.ty.dtype) != "float32":
        return False
    if is_call(call, "matmul"):
        return len(shape_of(call.args[0])) == 2 and len(shape_of(call.args[1])) == 2
    return str(call.attrs.data_layout) == "NHWC" and str(call.attrs.kernel_layout) == "OHWI"


def _grow(definitions: Definitions, product: Call, claimed: set[Any]) -> Layer:
    """Follow the product's only users through bias, residual and activation."""
    geometry, weights = product_geometry(definitions, product)
    bias = np.zeros(weights.shape[0], np.float32)
    residual, activation, calls = None, "none", [product]
    while (user := definitions.only_user(calls[-1])) is not None and user not in claimed:
        var = definitions.var_of[calls[-1]]
        if is_call(user, "probq.activation"):
            activation = str(user.attrs["kind"])
            calls.append(user)
            break
        if not is_call(user, "add"):
            break
        other = user.args[1] if user.args[0].same_as(var) else user.args[0]
        constant = definitions.value(other)
        if is_constant(constant) and residual is None and _is_bias(constant, weights.shape[0]):
            bias = bias + constant_value(constant).reshape(-1)
        elif residual is None and _is_residual(definitions, user, other):
            residual = other
        else:
            break
        calls.append(user)
    claimed.update(calls)
    x = product.args[0]
    return Layer(product, tuple(calls), x, weights, bias, residual, activation, geometry)


def _is_bias(constant: Any, channels: int) -> bool:
    shape = shape_of(constant)
    return bool(shape) and shape[-1] == channels and int(np.prod(shape)) == channels


def _is_residual(definitions: Definitions, add: Call, other: Any) -> bool:
    if not isinstance(other, relax.Var) or not is_tensor(other):
        return False
    return shape_of(other) == shape_of(add) and definitions.uses[other] >= 1


def marker_behind(definitions: Definitions, call: Any) -> Any:
    """The marker that a product's result reaches first, None without one."""
    seen, front = set(), [call]
    while front:
        at = front.pop(0)
        if is_call(at, "probq.layer"):
            return at
        seen.add(at)
        users = definitions.users.get(definitions.var_of.get(at), [])
        front += [u for u in users if u not in seen]
    return None


def product_geometry(definitions: Definitions, product: Call) -> tuple[Geometry, Array]:
    """Shape of a product and its weights, OHWI."""
    x_shape, y_shape = shape_of(product.args[0]), shape_of(product)
    weights = weights_value(definitions.value(product.args[1]))
    if is_call(product, "matmul"):
        weights = np.ascontiguousarray(weights.T)[:, None, None, :]
        return Geometry(x_shape, y_shape, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1), weights
    a = product.attrs
    strides, dilation, pads = ints(a.strides), ints(a.dilation), ints(a.padding)
    geometry = Geometry(
        x_shape, y_shape, weights.shape[1:3], strides, pads, dilation,  # type: ignore[arg-type]
        int(a.groups),
    )  # fmt: skip
    return geometry, weights
