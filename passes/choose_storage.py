"""Note which tensors the plan stores two codes in a byte."""

import json
from typing import Any

import tvm
from tvm.ir import IRModule

from tvm_probq.ir.expressions import is_call
from tvm_probq.ir.layers import Definitions
from tvm_probq.plan.plan import Plan

PACKED = "probq_packed"


@tvm.transform.module_pass(opt_level=0, name="probq.ChooseStorage")
class ChooseStorage:
    r"""Name the layers whose output is to be packed, in an attribute of the function.

    Before::

        q = R.probq.layer(lv, name="conv1", ...)

    After::

        R.func_attr({"probq_packed": "[\"conv1\"]"})
        q = R.probq.layer(lv, name="conv1", ...)

    The graph stays one of bytes, which the simulator and reports read; `PackActivations` packs the
    tensors when kernels are chosen.  Holds before: nothing.  Holds after: the attribute stands
    where the plan packs anything.

    Parameters
    ----------
    plan : Plan
        Whose `storage` says which.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        markers = [c for c in Definitions(mod["main"]).order if is_call(c, "probq.layer")]
        names = [str(marker.attrs["name"]) for marker in markers]
        packed = [name for name in names if self.plan.layer(name).storage == "packed"]
        if packed:
            mod = IRModule(mod.functions, attrs=mod.attrs, global_infos=mod.global_infos)
            mod["main"] = mod["main"].with_attr(PACKED, json.dumps(packed))
        return mod


def packed_names(mod: IRModule) -> set[str]:
    """The names that the pass noted."""
    attrs = mod["main"].attrs or {}
    return set(json.loads(str(attrs.get(PACKED, "[]"))))
