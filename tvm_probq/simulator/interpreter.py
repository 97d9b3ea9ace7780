"""Run a Relax function in NumPy, before or after any pass: the simulator of compiled modules."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq.errors import UnsupportedError
from tvm_probq.ir.expressions import (
    constant_value,
    describe,
    is_call,
    is_constant,
    op_name,
)
from tvm_probq.ir.rewrite import bindings, variables_of
from tvm_probq.simulator.arithmetic import Array
from tvm_probq.simulator.float_ops import FLOAT_OPS
from tvm_probq.simulator.quantized_ops import QUANTIZED_OPS

Watch = Callable[[Any, Any, list[Any]], Any]
Keep = Callable[[Any, Any], None]
# What NumPy and TVM raise about values that do not fit the type TVM inferred, and what it lacks.
FAILURES = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class Simulator:
    """NumPy execution of one function of a module.

    Parameters
    ----------
    mod : IRModule
        A module whose function consists of operators with static shapes.
    function : str
        The function's name.
    """

    def __init__(self, mod: IRModule, function: str = "main") -> None:
        self.mod = mod
        self.func = mod[function]
        self.compiled: dict[Any, Any] = {}
        self.last_use = _last_uses(self.func)

    def __call__(self, *inputs: Array, watch: Watch | None = None) -> Any:
        """Outputs for `inputs`; `watch(call, value, argument values)` sees every call's result.

        Tensors are dropped after their last use, so memory stays that of the widest layer.
        """
        return self._run(inputs, watch, None)

    def _run(self, inputs: Any, watch: Watch | None, keep: Keep | None) -> Any:
        env = dict(zip(self.func.params, inputs, strict=True))
        step = 0
        for block in self.func.body.blocks:
            for binding in block.bindings:
                value = env[binding.var] = self._evaluate(binding.value, env, watch)
                if keep is not None:
                    keep(binding.var, value)
                for var in self.last_use.get(step, ()):
                    env.pop(var, None)
                step += 1
        return self._evaluate(self.func.body.body, env, None)

    def evaluate_all(self, wanted: list[Any], *inputs: Array) -> list[Any]:
        """Values of the variables (or constants) `wanted` of the function for `inputs`."""
        kept: dict[Any, Any] = {}
        names = {v for v in wanted if isinstance(v, relax.Var)}
        self._run(
            inputs, None, lambda var, value: kept.update({var: value}) if var in names else None
        )
        return [kept[v] if isinstance(v, relax.Var) else constant_value(v) for v in wanted]

    def resume(self, known: Mapping[Any, Any]) -> Any:
        """Outputs from the values of the variables `known`; only what lies behind them is run."""
        steps = bindings(self.func)
        result = self.func.body.body
        needed = set(variables_of(result)) - set(known)
        for binding in reversed(steps):
            if binding.var in needed:
                needed.update(v for v in variables_of(binding.value) if v not in known)
        env = dict(known)
        for binding in steps:
            if binding.var in needed:
                env[binding.var] = self._evaluate(binding.value, env, None)
        return self._evaluate(result, env, None)

    def _evaluate(self, expr: Any, env: dict[Any, Any], watch: Watch | None) -> Any:
        if isinstance(expr, relax.Var):
            return env[expr]
        if is_constant(expr):
            return constant_value(expr)
        if isinstance(expr, relax.Tuple):
            return tuple(self._evaluate(field, env, None) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self._evaluate(expr.tuple_value, env, None)[expr.index]
        if isinstance(expr, Call):
            args = [self._evaluate(a, env, None) for a in expr.args]
            value = self._call(expr, args)
            if watch is not None:
                watch(expr, value, args)
            return value
        return expr  # shapes and numbers: read from the call itself

    def _call(self, call: Call, args: list[Any]) -> Any:
        name = op_name(call)
        with np.errstate(all="ignore"):
            if name in QUANTIZED_OPS:
                return QUANTIZED_OPS[name](call, args)
            try:
                if name not in FLOAT_OPS:
                    return self._compiled(call, args)
                value = FLOAT_OPS[name](call, args)
            except FAILURES as error:
                raise _cannot_evaluate(call, error) from error
        return np.asarray(value) if isinstance(value, np.generic) else value

    def _compiled(self, call: Call, args: list[Any]) -> Any:
        """Any other operator: TVM's own legalization on the host CPU."""
        if call not in self.compiled:
            self.compiled[call] = _compile_call(self.mod, call)
        if is_call(call, "call_tir"):
            args = list(args[1])
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        result = self.compiled[call](*[tvm.runtime.tensor(a) for a in arrays])
        return result.numpy() if hasattr(result, "numpy") else tuple(r.numpy() for r in result)


def _compile_call(mod: IRModule, call: Call) -> Any:
    """A function of the call's tensors that does just this call."""
    loop_nest = is_call(call, "call_tir")
    operands = list(call.args[1]) if loop_nest else list(call.args)
    tensors = [a for a in operands if isinstance(a.ty, relax.TensorType)]
    params = [relax.Var(f"p{i}", a.ty) for i, a in enumerate(tensors)]
    remaining = iter(params)
    args = [next(remaining) if isinstance(a.ty, relax.TensorType) else a for a in operands]
    builder = relax.BlockBuilder()
    if loop_nest:
        function = builder.add_func(mod[call.args[0]], "loop_nest")
        args = [function, relax.Tuple(args)]
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(Call(call.op, args, call.attrs, call.ty_args))
        builder.emit_func_output(out)
    executable = tvm.compile(builder.finalize(), target="llvm")
    return relax.VirtualMachine(executable, tvm.cpu())["main"]


def _cannot_evaluate(call: Call, error: Exception) -> UnsupportedError:
    return UnsupportedError(
        f"the operator {describe(call)} cannot be evaluated",
        why=str(error).splitlines()[-1] if str(error) else type(error).__name__,
        fix="remove it from the model or report it with the ONNX file",
    )


def _last_uses(func: relax.Function) -> dict[int, list[Any]]:
    """Variables to drop after each binding."""
    last: dict[Any, int] = {}
    step = 0
    for block in func.body.blocks:
        for binding in block.bindings:
            for var in variables_of(binding.value):
                last[var] = step
            step += 1
    for var in variables_of(func.body.body):
        last.pop(var, None)
    drop: dict[int, list[Any]] = {}
    for var, at in last.items():
        drop.setdefault(at, []).append(var)
    return drop
