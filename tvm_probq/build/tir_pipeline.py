"""TVM's lowering of PrimFuncs with subroutines among them, under the name of a TIR pipeline."""

from typing import Any

import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline

from tvm_probq.kernels.subroutine import as_compiled, subroutines

NAME = "probq"
BASE = "s_tir"


@tvm.transform.module_pass(opt_level=0, name="probq.HideSubroutines")
class HideSubroutines:
    """Take the global symbol from subroutines.

    A function with a symbol would be called with tensors in a list, one without is called directly.
    Holds before: `relax.transform.AttachGlobalSymbol`, which gives every function one.
    """

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        changed = {v: f.without_attr("global_symbol") for v, f in subroutines(mod).items()}
        return _updated(mod, changed)


@tvm.transform.module_pass(opt_level=0, name="probq.CompileSubroutines")
class CompileSubroutines:
    """Leave lowered subroutines as ``MakePackedAPI`` leaves other functions: `as_compiled`."""

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        return _updated(mod, {v: as_compiled(f) for v, f in subroutines(mod).items()})


def _updated(mod: IRModule, functions: dict[Any, tirx.PrimFunc]) -> IRModule:
    changed = IRModule(dict(mod.functions_items()), attrs=mod.attrs)
    for var, func in functions.items():
        changed.update_func(var, func)
    return changed


def _pipeline() -> tuple[Any, Any, Any]:
    lower, finish_host, finish_device = get_tir_pipeline(BASE)
    passes = [HideSubroutines(), lower, CompileSubroutines()]
    return tvm.transform.Sequential(passes, name=NAME), finish_host, finish_device


register_tir_pipeline(NAME, _pipeline)
