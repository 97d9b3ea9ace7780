"""Codes of 4 bits: two channels in a byte, as `tvm_probq.kernels.storage` lays them out."""

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.registry import make_call, register


def pack_codes(q: Expr) -> Call:
    """Bytes uint8 ``[..., C / 2]`` of the codes uint8 `q` ``[..., C]``, none of which exceeds 15.

    Byte i holds channel i in its lower half and channel i + C / 2 in its upper half.
    """
    return make_call("pack_codes", [q])


def _infer_pack_codes(call: Call) -> object:
    checks.expect_count(call, 1)
    dims = checks.dims_of(call, 0, "q", "uint8")
    if int(dims[-1]) % 2:
        raise checks.fail(call, f"q has {dims[-1]} channels", "two share a byte")
    return checks.tensor_type([*dims[:-1], dims[-1] // 2], "uint8")


def unpack_codes(p: Expr) -> Call:
    """The codes uint8 ``[..., C]`` in bytes `p` ``[..., C / 2]``: the inverse of `pack_codes`."""
    return make_call("unpack_codes", [p])


def _infer_unpack_codes(call: Call) -> object:
    checks.expect_count(call, 1)
    dims = checks.dims_of(call, 0, "p", "uint8")
    return checks.tensor_type([*dims[:-1], dims[-1] * 2], "uint8")


def packed_attrs(packed: bool) -> dict[str, int]:
    """The attribute of an operator that reads bytes of two codes."""
    return {"packed": 1} if packed else {}


register("pack_codes", _infer_pack_codes)
register("unpack_codes", _infer_unpack_codes)
