"""Tuples that nothing reads are removed, calls that write their arguments are not."""

from __future__ import annotations

from tvm.relax.script import parser as R
from tvm.script import ir as I

from tvm_probq.passes.drop_unused_tuples import DropUnusedTuples

CHANGE = DropUnusedTuples()


def test_an_unused_tuple() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            y = R.exp(x)
            unused = (x, y)  # noqa: F841
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            y = R.exp(x)
            return y  # noqa: RET504

    before = Before.script()
    after = CHANGE(Before)
    assert after.script() == Expected.script()
    assert CHANGE(after).script() == Expected.script()
    assert Before.script() == before


def test_a_tuple_that_is_returned() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2,), "float32")):
            y = R.exp(x)
            both = (x, y)
            return both  # noqa: RET504

    wanted = Before.script()
    assert CHANGE(Before).script() == wanted
