"""Where the threads of a block must wait for each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx

from tvm_probq.kernels.cuda.access import OWN, Access


@dataclass
class Barriers:
    """What has happened to shared memory since the threads last waited.

    Attributes
    ----------
    shared : callable set
        Buffers that threads share.
    pending : set of Access
        Accesses to them.
    """

    shared: set[Any]
    pending: set[Access] = field(default_factory=set)

    def before(self, accesses: Iterable[Access]) -> list[tirx.Stmt]:
        """What must stand before a statement with these accesses: a barrier, or nothing."""
        found = {a for a in accesses if a.buffer in self.shared}
        conflict = any(_conflict(a, b) for a in found for b in self.pending)
        if conflict:
            self.pending = set()
        self.pending |= found
        return [tirx.Evaluate(tirx.call_extern("int32", "__syncthreads"))] if conflict else []

    def again(self, accesses: Iterable[Access]) -> None:
        """Note that these accesses may have happened: a loop's body before its next turn."""
        self.pending |= {a for a in accesses if a.buffer in self.shared}


def _conflict(a: Access, b: Access) -> bool:
    """Whether two threads may meet; each has its own element of a vector from the start."""
    same = a.buffer.same_as(b.buffer) and (a.writes or b.writes)
    return bool(same) and not a.kind == b.kind == OWN
