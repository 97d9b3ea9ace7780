"""Store codes of at most 4 bits two in a byte, between layers whose kernels can."""

from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, IRModule

from tvm_probq import ops
from tvm_probq.ir.expressions import constant_value, is_call, is_constant, shape_of
from tvm_probq.ir.layers import PRODUCTS, Definitions
from tvm_probq.ir.rewrite import Rewriter, rewrite
from tvm_probq.kernels.storage import PACKED_CHANNELS
from tvm_probq.passes.choose_storage import packed_names
from tvm_probq.passes.lower_layers import TAILS, is_integer_product

LARGEST = 15  # code of 4 bits
SUMS = ("probq.sums", "probq.patch_sums")


@tvm.transform.module_pass(opt_level=0, name="probq.PackActivations")
class PackActivations:
    """Pack a layer's output where the plan says so and no code of it exceeds 15.

    Before::

        lv = R.probq.requantize(acc, qp, y_qp, ...)
        q = R.probq.layer(lv, name="conv1", ...)
        s = R.probq.sums(q)
        acc1 = R.nn.conv2d(q, w)

    After::

        lv = R.probq.requantize(acc, qp, y_qp, ...)
        p = R.probq.layer(R.probq.pack_codes(lv), name="conv1", ...)
        q = R.probq.unpack_codes(p)
        s = R.probq.sums(p, packed=1)
        acc1 = R.nn.conv2d(q, w)

    The writer must be one kernel with its product, and every reader a layer, as its input or its
    residual, or sums of a prediction; the channels come in eights.  Where another operator reads
    the tensor (pooling, a join), or a group of channels would be cut in two, it stays a byte a
    code.  The values are the same.  Holds before: `ChooseStorage`; not yet `FusePredictions`.
    Holds after: a packed tensor is read by what unpacks it on the way.

    Parameters
    ----------
    grouped : bool
        Whether kernels of layers of several groups can pack: CUDA's cannot.
    """

    def __init__(self, *, grouped: bool = True) -> None:
        self.grouped = grouped

    def transform_module(self, mod: IRModule, _ctx: Any) -> IRModule:
        """Apply the pass."""
        packed = _packed(Definitions(mod["main"]), packed_names(mod), self.grouped)

        def visit(rewriter: Rewriter, old: Call, new: Call) -> relax.Expr | None:
            if old in packed:
                bytes_ = rewriter.emit(ops.pack_codes(new.args[0]), name="packed")
                names = {key: str(new.attrs[key]) for key in ("name", "kind", "reason")}
                return ops.unpack_codes(rewriter.emit(ops.layer(bytes_, **names), name="p"))
            if is_call(new, *SUMS):
                source = rewriter.value(new.args[0])
                if is_call(source, "probq.unpack_codes"):
                    return _read_packed(new, source.args[0])
            return None

        return rewrite(mod, visit) if packed else mod


def _read_packed(call: Call, tensor: Any) -> Call:
    """The same sums of a packed tensor."""
    attrs = {str(key): call.attrs[key] for key in call.attrs.keys()}  # noqa: SIM118 - no __iter__
    node = tvm.ir.make_node("ir.DictAttrs", **attrs, **ops.packed_attrs(packed=True))
    return Call(call.op, [tensor, *list(call.args)[1:]], node)


def _packed(definitions: Definitions, names: set[str], grouped: bool) -> set[Any]:
    """Markers of the tensors to be packed."""
    return {
        call
        for call in definitions.order
        if is_call(call, "probq.layer")
        and str(call.attrs["name"]) in names
        and _is_written_packed(definitions, call, grouped)
        and _are_readers_able(definitions, definitions.var_of[call])
    }


def _is_written_packed(definitions: Definitions, marker: Call, grouped: bool) -> bool:
    """Whether a kernel writes the tensor at once, and no code of it exceeds 15."""
    made = definitions.value(marker.args[0])
    if not is_call(made, "probq.requantize") or definitions.only_user(made) != marker:
        return False
    args = ops.AccumulatorArgs.from_call(made)
    product = definitions.value(args.acc)
    fused = is_integer_product(product) and definitions.only_user(product) == made
    if not fused or args.dtype != "uint8" or shape_of(made)[-1] % PACKED_CHANNELS:
        return False
    groups = groups_of(product)
    several = 1 < groups < shape_of(made)[-1]
    cut = groups > 1 and (groups % 2 > 0 or (several and not grouped))
    return not cut and _largest_code(definitions, args.y_qparams) <= LARGEST


def groups_of(product: Call) -> int:
    """Groups of a layer's channels."""
    return 1 if is_call(product, "matmul") else int(product.attrs.groups)


def _largest_code(definitions: Definitions, qparams: Any) -> float:
    """The largest code under parameters, infinity if it is not known."""
    made = definitions.value(qparams)
    if is_constant(made):
        return float(constant_value(made)[:, 2].max())
    if is_call(made, "probq.surrogate"):
        return float(constant_value(ops.surrogate_args(made).levels).max())
    return float("inf")


def _are_readers_able(definitions: Definitions, tensor: Any) -> bool:
    readers = definitions.users.get(tensor, [])
    if tensor in definitions.outputs or not readers:
        return False
    return all(_is_able(definitions, reader, tensor) for reader in readers)


def _is_able(definitions: Definitions, reader: Any, tensor: Any) -> bool:
    """Whether one reader can unpack what it reads."""
    if is_call(reader, "probq.sums"):
        return True
    if is_call(reader, "probq.patch_sums"):
        groups = int(reader.attrs["groups"])
        return groups == 1 or groups % 2 == 0
    if is_call(reader, "probq.pad"):
        padded = definitions.var_of[reader]
        users = definitions.users.get(padded, [])
        return padded not in definitions.outputs and all(map(is_integer_product, users))
    if is_call(reader, *TAILS):
        acc = definitions.value(ops.AccumulatorArgs.from_call(reader).acc)
        return is_integer_product(acc) and definitions.only_user(acc) == reader
    return is_call(reader, *PRODUCTS) and is_integer_product(reader)
