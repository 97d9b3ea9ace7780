"""Make sure that every kernel kept the instruction it was made for."""

import re
from typing import Any

from tvm import tirx
from tvm.ir import IRModule

from tvm_probq.errors import KernelError
from tvm_probq.kernels.assembly import count_instruction

INSTRUCTION = "probq.instruction"
_DATA = re.compile(r"^\s+\.asciz?\s.*\n", re.MULTILINE)  # embedded constants: long, and no code


def check_instructions(lowered: IRModule, executable: Any) -> dict[str, int]:
    """Occurrences of its instruction in each kernel's assembly, by kernel name.

    Raises
    ------
    KernelError
        When a kernel has none: the code generator dropped a tensor intrinsic silently.
    """
    expected = {
        str(var.name_hint): str(func.attrs[INSTRUCTION])
        for var, func in lowered.functions_items()
        if isinstance(func, tirx.PrimFunc) and func.attrs and func.attrs.get(INSTRUCTION, "")
    }
    if not expected:
        return {}
    sections = functions_of(assembly(executable))
    found = {name: _count(sections, name, mnemonic) for name, mnemonic in expected.items()}
    lost = sorted(name for name, count in found.items() if not count)
    if lost:
        raise KernelError(
            f"no {expected[lost[0]]} in the assembly of the kernel {lost[0]}",
            why="the code generator replaced the tensor intrinsic by plain code",
            fix="report it with the TVM and LLVM versions that `tvm-probq doctor` prints",
        )
    return found


def assembly(executable: Any) -> str:
    """Assembly of all kernels of an executable."""
    texts = []
    pending = [executable.mod if hasattr(executable, "mod") else executable]
    while pending:
        module = pending.pop()
        pending += list(module.imports)
        if module.kind == "llvm":
            texts.append(_DATA.sub("", str(module.inspect_source("asm"))))
    return "\n".join(texts)


def functions_of(text: str) -> dict[str, str]:
    """Assembly by function symbol."""
    parts = re.split(r"^([A-Za-z_][\w.$]*):", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _count(sections: dict[str, str], name: str, mnemonic: str) -> int:
    """Count in a kernel's own symbol and in those outlined from it."""
    own = re.compile(rf"(__tvm_ffi_)?{re.escape(name)}(_compute_|\.\w+|__tvm_parallel_lambda.*)*")
    return sum(
        count_instruction(body, mnemonic) for s, body in sections.items() if own.fullmatch(s)
    )
