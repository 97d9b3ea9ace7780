"""Definition of Relax operators in Python, so that they print and parse as ``R.probq.x``."""

import types
from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm.relax.script.parser
import tvm_ffi
from tvm import relax
from tvm.ir import Call, Op

from tvm_probq.errors import KernelError

PREFIX = "relax.probq."
InferType = Callable[[Call], Any]

# TVM rebuilds an error that crossed its C++ by name: ours must not turn into a RuntimeError.
tvm_ffi.register_error("KernelError", KernelError)


def register(name: str, infer_type: InferType) -> None:
    """Register the pure operator ``relax.probq.<name>``; doing it again replaces its inference.

    Parameters
    ----------
    name : str
        Name without the prefix, also the name under ``R.probq``.
    infer_type : Callable
        From the call to the type of its result; raises KernelError for arguments that do not fit.
    """
    full = PREFIX + name
    if full not in Op.list_op_names():
        tvm.ir._ffi_api.RegisterOp(full, "")  # private, and the only way from Python
    op = Op.get(full)
    op.set_num_inputs(-1)
    attributes = {"FInferType": lambda call, _builder: infer_type(call), "FPurity": True}
    for key, value in attributes.items():
        op.reset_attr(key)  # setting an attribute twice is an error
        op.set_attr(key, value)
    setattr(_script_namespace(), name, _script_builder(name))


def make_call(name: str, args: Sequence[Any], /, **attrs: int | str | list[int]) -> Call:
    """Make a call of ``relax.probq.<name>``.

    Parameters
    ----------
    name : str
        Name without the prefix.
    args : sequence of relax.Expr
        The tensors, optional ones left out.
    **attrs : int, str or list of int
        The attributes.
    """
    node = tvm.ir.make_node("ir.DictAttrs", **attrs) if attrs else None
    return relax.Call(Op.get(PREFIX + name), list(args), node)


def is_probq(expr: Any, *names: str) -> bool:
    """Whether `expr` calls one of our operators, any of them when no name is given."""
    if not (isinstance(expr, Call) and isinstance(expr.op, Op)):
        return False
    full = str(expr.op.name)
    return full.startswith(PREFIX) and (not names or full.removeprefix(PREFIX) in names)


def _script_namespace() -> types.SimpleNamespace:
    """Give what the parser finds as ``R.probq``; the printer writes that name by itself."""
    parser = tvm.relax.script.parser
    if not hasattr(parser, "probq"):
        parser.probq = types.SimpleNamespace()
    namespace: types.SimpleNamespace = parser.probq
    return namespace


def _script_builder(name: str) -> Callable[..., Call]:
    def build(*args: Any, **attrs: Any) -> Call:
        return make_call(name, args, **attrs)

    return build
