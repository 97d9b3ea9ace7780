"""Checks of operator arguments, with messages that name the operator and the argument."""

from typing import Any

from tvm import relax, tirx
from tvm.ir import Call

from tvm_probq.errors import KernelError

MAX_CODE = 255  # stored in 8 bits
MAX_WIDE_CODE = 32767  # stored in 16


def fail(call: Call, what: str, why: str = "", fix: str = "") -> KernelError:
    """Make the error to raise about `call`."""
    return KernelError(what, where=str(call.op.name).removeprefix("relax."), why=why, fix=fix)


def dtype_of_codes(call: Call, index: int) -> str:
    """dtype of tensor argument `index` of an operator that reads codes of 8 and of 16 bits."""
    type_ = call.args[index].ty if index < len(call.args) else None
    wide = isinstance(type_, relax.TensorType) and str(type_.dtype) == "int16"
    return "int16" if wide else "uint8"


def dims_of(call: Call, index: int, name: str, dtype: str, *ranks: int) -> list[Any]:
    """Read the dimensions of tensor argument `index`, integers where they are known.

    Parameters
    ----------
    call : Call
        The call under inference.
    index : int
        Position of the argument.
    name : str
        Its name in messages.
    dtype : str
        The data type it must have.
    *ranks : int
        The ranks it may have; any from 2 on when none is given.

    Raises
    ------
    KernelError
        When the argument is missing, no tensor, of unknown shape, or of another type or rank.
    """
    if index >= len(call.args):
        raise fail(call, f"argument {name} is missing", fix=f"give at least {index + 1} tensors")
    type_ = call.args[index].ty
    if not isinstance(type_, relax.TensorType) or not isinstance(type_.shape, relax.ShapeExpr):
        raise fail(call, f"{name} has the type {type_}", "it must be a tensor of known rank")
    if str(type_.dtype) != dtype:
        raise fail(call, f"{name} is {type_.dtype}", f"it must be {dtype}")
    dims = [int(d) if isinstance(d, tirx.IntImm) else d for d in type_.shape.values]
    if len(dims) not in ranks and (ranks or len(dims) < 2):
        wanted = " or ".join(map(str, ranks)) or "2 or more"
        raise fail(call, f"{name} has rank {len(dims)}", f"it must have rank {wanted}")
    return dims


def differ(a: Any, b: Any) -> bool:
    """Whether two dimensions are known to be different; symbolic ones may be equal."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def expect_dims(call: Call, name: str, dims: list[Any], *wanted: Any) -> None:
    """Check the shape of an argument against what follows from the others.

    Raises
    ------
    KernelError
        When the rank or a known dimension differs.
    """
    if len(dims) != len(wanted) or any(differ(a, b) for a, b in zip(dims, wanted, strict=True)):
        have, want = (f"[{', '.join(map(str, d))}]" for d in (dims, wanted))
        raise fail(call, f"{name} has the shape {have}", f"it must be {want}")


def expect_qparams(call: Call, index: int, name: str, batch: Any, channels: Any) -> Any:
    """Check parameters ``[N, 3, G]``, G being 1 or the number of channels; gives G."""
    dims = dims_of(call, index, name, "float32", 3)
    expect_dims(call, name, dims, batch, 3, dims[2])
    if differ(dims[2], 1) and differ(dims[2], channels):
        why = f"there must be one, or one for each of the {channels} channels"
        raise fail(call, f"{name} holds {dims[2]} ranges", why)
    return dims[2]


def expect_count(call: Call, count: int) -> None:
    """Check the number of arguments."""
    if len(call.args) != count:
        raise fail(call, f"{len(call.args)} tensors were given", f"it takes {count}")


def attribute(call: Call, name: str) -> Any:
    """Read an attribute of the call.

    Raises
    ------
    KernelError
        When it is missing.
    """
    if call.attrs is None or name not in call.attrs.keys():  # noqa: SIM118 - no __contains__
        raise fail(call, f"attribute {name} is missing")
    return call.attrs[name]


def positive(call: Call, *names: str) -> None:
    """Check that integer attributes are at least 1."""
    for name in names:
        value = attribute(call, name)
        if not isinstance(value, int) or value < 1:
            raise fail(call, f"{name} is {value}", "it must be an integer of at least 1")


def expect_qmax(call: Call, most: int = MAX_CODE) -> None:
    """Check the attribute `qmax`, the largest code of a tensor."""
    positive(call, "qmax")
    if attribute(call, "qmax") > most:
        raise fail(call, f"qmax is {attribute(call, 'qmax')}", f"codes end at {most}")


def codes_dtype(call: Call) -> str:
    """dtype of the codes that `call` writes, by its attribute `qmax`, which only wide ones have."""
    largest = largest_code(call)
    if largest > MAX_CODE:
        expect_qmax(call, MAX_WIDE_CODE)
    return "int16" if largest > MAX_CODE else "uint8"


def reads_packed(call: Call) -> bool:
    """Whether `call` reads bytes of two codes: its attribute `packed`, which only such calls have.

    See `tvm_probq.ops.packing_ops`.
    """
    named = call.attrs is not None and "packed" in call.attrs.keys()  # noqa: SIM118
    return named and bool(int(call.attrs["packed"]))


def channels_in(call: Call, dims: list[Any]) -> Any:
    """Channels of the codes that `call` reads from a tensor of the shape `dims`."""
    return dims[-1] * 2 if reads_packed(call) else dims[-1]


def largest_code(call: Call) -> int:
    """The largest code that `call` writes."""
    wide = call.attrs is not None and "qmax" in call.attrs.keys()  # noqa: SIM118
    return int(call.attrs["qmax"]) if wide else MAX_CODE


def tensor_type(dims: list[Any], dtype: str) -> Any:
    """Make the type of a result."""
    return relax.TensorType(dims, dtype)


def qparams_type(batch: Any, groups: Any = 1) -> Any:
    """Make the type of parameters ``[N, 3, G]``."""
    return relax.TensorType([batch, 3, groups], "float32")
