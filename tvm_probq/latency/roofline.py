"""A bound on a kernel's time from a profile's peak figures, for hardware that nobody measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt

from tvm_probq.errors import TargetError
from tvm_probq.latency.kernels import BYTES, KernelCall
from tvm_probq.target.profile import TargetProfile

F64 = npt.NDArray[np.float64]
PER_US = 1e3  # of what is counted in 10^9 a second


@dataclass(frozen=True)
class Roofline:
    """Time is that of the products or that of the bytes, whichever is longer, and of the call.

    Attributes
    ----------
    int8_gmacs : float
        10^9 multiply-accumulates of 8 bits a second.
    memory_gbps : float
        10^9 bytes a second from where weights lie.
    launch_us : float
        Microseconds of a call.
    """

    int8_gmacs: float
    memory_gbps: float
    launch_us: float = 0.0
    measured = False

    @classmethod
    def of(cls, profile: TargetProfile) -> Roofline | None:
        """The figures in a profile; None if it has none.

        Raises
        ------
        TargetError
            If they are incomplete or no positive numbers.
        """
        if not profile.roofline:
            return None
        where = f"target profile {profile.name}, [roofline]"
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(profile.roofline) - set(names))
        missing = sorted({"int8_gmacs", "memory_gbps"} - set(profile.roofline))
        if unknown or missing:
            raise TargetError(
                f"its key {(unknown or missing)[0]!r} is {'unknown' if unknown else 'missing'}",
                where=where, fix=f"give {', '.join(names)}",
            )  # fmt: skip
        for name, value in profile.roofline.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise TargetError(f"{name} is {value!r}", where=where, fix="give a number above 0")
        found = cls(**{name: float(value) for name, value in profile.roofline.items()})
        if not (found.int8_gmacs and found.memory_gbps):
            raise TargetError("a rate is 0", where=where, fix="give a number above 0")
        return found

    @property
    def identity(self) -> str:
        """What estimates depend on."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    @property
    def source(self) -> str:
        """What to say of estimates."""
        return "roofline of the profile's peak figures, nothing measured"

    def spread_us(self, kernels: Sequence[KernelCall]) -> None:
        """Nothing is known of it: the sum is a bound."""

    def us(self, kernels: Sequence[KernelCall], macs: Sequence[float]) -> F64:
        """Least time of each kernel in microseconds, `macs` its multiply-accumulates."""
        moved = [sum(k.count(name) for name in BYTES) for k in kernels]
        compute = np.asarray(macs, np.float64) / (self.int8_gmacs * PER_US)
        memory = np.asarray(moved, np.float64) / (self.memory_gbps * PER_US)
        found: F64 = np.maximum(compute, memory) + self.launch_us
        return found
