"""The accumulator proofs that a pass left on the function."""

import json

from tvm.ir import IRModule

from tvm_probq.passes.widen_accumulators import PROOFS


def accumulator_proofs(mod: IRModule) -> dict[str, str]:
    """Proof of each layer's accumulator, by layer name."""
    attrs = mod["main"].attrs
    if attrs is None or PROOFS not in attrs:
        return {}
    return {str(k): str(v) for k, v in json.loads(str(attrs[PROOFS])).items()}
