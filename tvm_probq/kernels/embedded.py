"""Constants inside the compiled code: read-only memory of the library, and no copy of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir import StringImm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arena import ALIGNMENT
from tvm_probq.simulator.arithmetic import Array

PRINTABLE = range(32, 127)
QUOTED = b'"\\'
# How LLVM IR writes each byte in a string.
_TEXT = np.array(
    [bytes([b]) if b in PRINTABLE and b not in QUOTED else b"\\%02X" % b for b in range(256)]
)


@dataclass(frozen=True)
class Embedded:
    """Memory that the code generator takes from a file of LLVM IR.

    Attributes
    ----------
    buffer : tirx.Buffer
        uint8, the memory as code sees it.
    symbol : str
        Of the function that gives its address.
    path : Path
        The file, which must be there until code has been generated.
    """

    buffer: tirx.Buffer
    symbol: str
    path: Path

    @staticmethod
    def write(memory: Array, folder: Path) -> "Embedded":
        """Write uint8 `memory` to a file in `folder`, under a name that no other file there has.

        Raises
        ------
        KernelError
            If the file cannot be written.
        """
        content = memory.tobytes()
        others = sum(1 for _ in folder.glob("*.ll"))
        symbol = f"probq_constants_{hashlib.sha256(content).hexdigest()[:16]}_{others}"
        text = _TEXT[memory].tobytes().translate(None, b"\0")
        name, path = symbol.encode(), folder / f"{symbol}.ll"
        start = b'@%s_data = hidden constant [%d x i8] c"' % (name, len(content))
        end = b'", align %d\ndefine hidden ptr @%s() { ret ptr @%s_data }\n'
        try:
            path.write_bytes(start + text + end % (ALIGNMENT, name, name))
        except OSError as error:
            raise KernelError(
                "the constants cannot be written for the code generator",
                where=str(path),
                why=error.strerror or str(error),
                fix="see that the temporary folder (TMPDIR) has free space",
            ) from error
        return Embedded(tirx.decl_buffer((len(content),), "uint8", "constants"), symbol, path)

    def around(self, body: tirx.Stmt) -> tirx.Stmt:
        """`body`, in which `buffer` is that memory."""
        pointer = tirx.Var("constants", self.buffer.data.ty)
        bind = tirx.Bind(pointer, tirx.call_extern(pointer.ty, self.symbol))
        inside: Any = tirx.SeqStmt([bind, tirx.DeclBuffer(self.buffer, data=pointer), body])
        zero = tirx.const(0, "int32")
        return tirx.AttrStmt(zero, "pragma_import_llvm", StringImm(str(self.path)), inside)
