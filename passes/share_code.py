"""Keep code that kernels have in common once."""

from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import IRModule

from tvm_probq.kernels.small.emit import SHARED, number_behind
from tvm_probq.kernels.subroutine import Extracted, subroutines


@tvm.transform.module_pass(opt_level=0, name="probq.ShareCode")
class ShareCode:
    """Make one function of all marked code that is alike, and call it.

    Before, in two subroutines of different layers::

        n: T.let[T.int32] = ...
        x = q.view(n)
        with T.attr(0, "probq.shared", "sums"):
            for i in range(n): ...

    After::

        shared_sums(x.data, out.data, n)

    What the marked code reads from outside, memory and numbers, is what it is called with.  A
    network predicts once for each layer, each time by code that has left the first caches since the
    last input; shared code is there from the layer before.  Holds before: `LowerToAot`.  Holds
    after: no subroutine has marked code.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        builder = relax.BlockBuilder(mod)
        for var, function in subroutines(mod).items():
            body = _with_calls(builder, function.body)
            if not body.same_as(function.body):
                builder.update_func(var, function.with_body(body))
        return builder.get()


def _with_calls(builder: relax.BlockBuilder, body: tirx.Stmt) -> tirx.Stmt:
    """`body` with calls of functions of the builder's module in place of marked code."""
    views: dict[tirx.Var, Any] = {}
    numbers: dict[tirx.Var, int] = {}

    def declared(stmt: tirx.DeclBuffer) -> None:
        views[stmt.buffer] = stmt.data

    def bound(stmt: tirx.Bind) -> None:
        value = number_behind(stmt.value)
        if value is not None:
            numbers[stmt.var] = value

    def called(stmt: tirx.AttrStmt) -> tirx.Stmt:
        if stmt.attr_key != SHARED:
            return stmt
        name = f"shared_{stmt.value.value}"
        extracted = Extracted.of(stmt.body, name)
        return extracted.call(builder.add_func(extracted.function, name), views, numbers)

    tvm_ffi.structural_walk(body, [(tirx.DeclBuffer, declared), (tirx.Bind, bound)])
    return tvm_ffi.structural_map(body, (tirx.AttrStmt, called))
