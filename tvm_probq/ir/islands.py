"""Parts of a graph that stay float, and why."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.ir.expressions import (
    constant_value,
    describe,
    ints,
    is_call,
    is_constant,
    is_tensor,
    shape_of,
)
from tvm_probq.ir.layers import SHAPE_OPS, Definitions, is_product
from tvm_probq.ir.macs import macs_of
from tvm_probq.ir.pooling import LARGEST_WINDOW
from tvm_probq.ir.rewrite import variables_of

MOVES = (*SHAPE_OPS, "permute_dims", "take", "concat", "stack", "split", "astype")
NORMS = ("nn.layer_norm", "nn.rms_norm", "nn.group_norm", "nn.instance_norm", "nn.batch_norm")
SOFTMAX = ("nn.softmax", "nn.log_softmax")
ROOTS = ("sqrt", "rsqrt", "power")

ELEMENTWISE = ("add", "subtract", "multiply")

RECURRENT = "recurrent layers stay float: each step's input range depends on the step before"
NORMALIZED = "a normalization stays float: it divides by what it measures of its input"
EXPONENTIAL = "softmax stays float: its exponentials do not fit a range of a few bits"
ONCE = "float32 results of layers are combined before they are rounded, once"
WIDE = f"a mean of more than {LARGEST_WINDOW} values is too fine for codes of their range"
PLANNED = "layers that the plan leaves float"
LAST = "behind the last layer, whose results are float32 anyway"
NO_FORM = "no integer form"
BATCHED = "a product of batched constant weights has no integer form"


@dataclass(frozen=True)
class Island:
    """Float operators that hand each other their results.

    Attributes
    ----------
    name : str
        Of the marker where the island ends, or of its last operator.
    operators : tuple of str
        What it computes, each operator once.
    macs : int
        Multiply-accumulates of one call.
    reason : str
        Why it stays float.
    """

    name: str
    operators: tuple[str, ...]
    macs: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "operators": list(self.operators)}


def float_islands(mod: IRModule) -> tuple[Island, ...]:
    """Islands of ``main`` of an integer graph, in graph order; moves alone are none."""
    definitions = Definitions(mod["main"])
    floats = [call for call in definitions.order if _is_float(call)]
    parent = {call: call for call in floats}

    def root(call: Any) -> Any:
        while not parent[call].same_as(call):
            parent[call] = parent[parent[call]]
            call = parent[call]
        return call

    for call in floats:
        for source in _sources(definitions, call):
            if source in parent:
                parent[root(call)] = root(source)
    groups: dict[Any, list[Any]] = {}
    for call in floats:
        groups.setdefault(root(call), []).append(call)
    found = (_island(definitions, calls) for calls in groups.values())
    return tuple(island for island in found if island is not None)


def _is_float(call: Any) -> bool:
    """Whether a call gives real numbers that are no layer's, no codes' and no parameters."""
    if not isinstance(call, Call) or is_call(call, "probq.layer"):
        return False
    return not describe(call).startswith("probq.") and _floats(call.ty)


def _floats(ty: Any) -> bool:
    fields = list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
    return all(isinstance(f, relax.TensorType) and str(f.dtype) == "float32" for f in fields)


def _sources(definitions: Definitions, call: Any) -> Iterable[Any]:
    return (definitions.made_by(var) for var in variables_of(call))


def _island(definitions: Definitions, calls: list[Any]) -> Island | None:
    working = [c for c in calls if not is_call(c, *MOVES)]
    if not working:
        return None
    markers = [m for call in calls for m in _markers(definitions, call)]
    names = [str(m.attrs["name"]) for m in markers]
    operators = tuple(dict.fromkeys(describe(c) for c in working))
    reason = explain(definitions, calls)
    if any(is_product(definitions, c) for c in working):  # it could be in integers
        given = dict.fromkeys(str(m.attrs["reason"]) for m in markers)
        reason = "; ".join(filter(None, given)) or PLANNED
    if not names and reason.endswith(NO_FORM):
        reason = LAST
    macs = sum(macs_of(c) for c in calls)
    return Island(names[0] if names else operators[-1], operators, macs, reason)


def _markers(definitions: Definitions, call: Any) -> list[Any]:
    """Markers of what is float, directly behind a call or behind its quantization."""
    users = definitions.users.get(definitions.var_of[call], [])
    behind = [m for u in users if is_call(u, "probq.quantize") for m in _markers(definitions, u)]
    return behind + [u for u in users if is_call(u, "probq.layer")]


def upstream(definitions: Definitions, call: Any, ends: Callable[[Any], bool]) -> list[Any]:
    """`call` and the calls it is made by, up to variables for which ``ends(var)``."""
    found, front = {call}, [call]
    while front:
        for var in variables_of(front.pop()):
            if ends(var):
                continue
            source = definitions.made_by(var)
            if isinstance(source, Call) and source not in found:
                found.add(source)
                front.append(source)
    return sorted(found, key=lambda c: definitions.order.get(c, 0))


def explain(definitions: Definitions, calls: list[Any]) -> str:
    """Why float calls that belong together are float."""
    working = [c for c in calls if not is_call(c, *MOVES)] or calls[-1:]
    reasons, left = [], {describe(c): c for c in working}
    products = [c for c in working if is_call(c, "matmul") and is_constant(c.args[1])]
    if any(_is_repeated(definitions, c, products) for c in products):
        return RECURRENT
    if any(is_call(c, *NORMS) for c in working) or _is_normalization(working):
        reasons.append(NORMALIZED)
    if any(is_call(c, *SOFTMAX) for c in working):
        reasons.append(EXPONENTIAL)
    if products and any(len(shape_of(c.args[1])) > 2 for c in products):
        reasons.append(BATCHED)
    if any(is_call(c, "nn.avg_pool2d") and _is_wide(c) for c in working):
        reasons.append(WIDE)
    if reasons:
        return "; ".join(reasons)
    if all(is_call(c, *ELEMENTWISE) and not any(map(is_constant, c.args)) for c in working):
        return ONCE
    return f"{', '.join(left)} {'has' if len(left) == 1 else 'have'} {NO_FORM}"


def _is_wide(pool: Any) -> bool:
    return bool(prod(ints(pool.attrs.pool_size)) > LARGEST_WINDOW)


def _is_normalization(calls: list[Any]) -> bool:
    """Whether calls divide by a root of a mean."""
    means = any(is_call(c, "mean", "sum", "variance", "std") for c in calls)
    return means and any(is_call(c, *ROOTS) for c in calls)


def _is_repeated(definitions: Definitions, call: Any, products: list[Any]) -> bool:
    """Whether the same weights multiply what depends on their product."""
    alike = [c for c in products if not c.same_as(call) and _same_weights(c, call)]
    if not alike:
        return False
    before = set(upstream(definitions, call, lambda _var: False))
    return any(c in before for c in alike)


def _same_weights(a: Any, b: Any) -> bool:
    if not (is_tensor(a) and is_tensor(b)) or shape_of(a.args[1]) != shape_of(b.args[1]):
        return False
    return bool(np.array_equal(constant_value(a.args[1]), constant_value(b.args[1])))
