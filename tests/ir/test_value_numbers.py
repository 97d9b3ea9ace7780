"""Equal numbers for equal values, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from tvm_probq.ir.expressions import constant
from tvm_probq.ir.rewrite import bindings
from tvm_probq.ir.value_numbers import ValueNumbers

OFFSET = np.array([1.0, 2.0], np.float32)


def numbers(known: ValueNumbers, make: Callable[[relax.BlockBuilder, Any], list[Any]]) -> list[int]:
    """Numbers of the variables of a function of one vector."""
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(make(builder, x)[-1])
        builder.emit_func_output(out)
    func = builder.finalize()["main"]
    found = known.of(func)
    return [found[b.var] for b in bindings(func)]


def chain(offset: Any, axis: int = 0) -> Callable[[relax.BlockBuilder, Any], list[Any]]:
    def make(builder: relax.BlockBuilder, x: Any) -> list[Any]:
        a = builder.emit(relax.op.nn.relu(x))
        b = builder.emit(relax.op.add(a, constant(offset)))
        return [builder.emit(relax.op.nn.softmax(b, axis=axis))]

    return make


def test_the_same_function_has_the_same_numbers() -> None:
    known = ValueNumbers()
    assert numbers(known, chain(OFFSET)) == numbers(known, chain(OFFSET.copy()))


def test_numbers_differ_from_the_first_difference_on() -> None:
    known = ValueNumbers()
    first, other = numbers(known, chain(OFFSET)), numbers(known, chain(OFFSET + 1))
    assert first[0] == other[0]
    assert not set(first[1:]) & set(other[1:])


def test_attributes_and_types_count() -> None:
    known = ValueNumbers()
    first, other = numbers(known, chain(OFFSET, 0)), numbers(known, chain(OFFSET, -1))
    assert first[:2] == other[:2]
    assert first[2] != other[2]
    wider = numbers(known, chain(OFFSET.astype(np.float32)[:1]))
    assert wider[0] == first[0]
    assert wider[1] != first[1]


def test_fields_of_a_tuple_differ() -> None:
    known = ValueNumbers()

    def make(builder: relax.BlockBuilder, x: Any) -> list[Any]:
        both = builder.emit(relax.Tuple([x, builder.emit(relax.op.nn.relu(x))]))
        fields = [builder.emit(relax.TupleGetItem(both, i)) for i in range(2)]
        return [*fields, builder.emit(relax.op.add(*fields))]

    found = numbers(known, make)
    assert len(set(found)) >= 4
