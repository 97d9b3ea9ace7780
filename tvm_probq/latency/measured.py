"""Measured kernels of a target: a file that grows, and what it knows of a kernel."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from tvm_probq.errors import TargetError
from tvm_probq.files import write_file
from tvm_probq.latency.kernels import COUNTS, KernelCall
from tvm_probq.latency.ticked import CallTime

FORMAT = 1
WHAT = "the file of measured kernels"
SHIPPED, FOLDER = "tvm_probq.targets", "measured"
DIGITS = 4


@dataclass(frozen=True)
class Measurement:
    """A kernel and its time.

    Attributes
    ----------
    network : str
        Which network it is of: kernels of one network are held out of training together.
    kernel : KernelCall
        What was measured.
    us : float
        Median time of a call in microseconds.
    """

    network: str
    kernel: KernelCall
    us: float


@dataclass
class MeasuredKernels:
    """All measured kernels of a target.

    Attributes
    ----------
    target : str
        Name of the profile.
    machine : str
        Where they were measured.
    networks : dict
        By network, and what was built of it (such as ``w8a8 predicted``), its measurements.
    """

    target: str
    machine: str
    networks: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)

    def has(self, network: str, variant: str) -> bool:
        """Whether a network was measured already."""
        return variant in self.networks.get(network, {})

    def add(
        self, network: str, variant: str, calls: Iterable[KernelCall], times: Iterable[CallTime]
    ) -> None:
        """Note what was measured of a network."""
        found = [
            Measurement(network, call, float(f"{time.us:.{DIGITS}g}"))
            for call, time in zip(calls, times, strict=True)
        ]
        self.networks.setdefault(network, {})[variant] = found

    @property
    def measurements(self) -> list[Measurement]:
        """All of them."""
        return [m for vs in self.networks.values() for found in vs.values() for m in found]

    def by_counts(self) -> dict[tuple[float, ...], float]:
        """Median time of kernels that do the same work, by their counts."""
        found: dict[tuple[float, ...], list[float]] = {}
        for m in self.measurements:
            found.setdefault(m.kernel.counts, []).append(m.us)
        return {counts: statistics.median(times) for counts, times in found.items()}

    def save(self, path: Path) -> None:
        """Write as JSON, all or nothing; kernels that occur again are written once."""
        kernels: dict[tuple[Any, ...], int] = {}
        networks = {
            network: {
                variant: [[kernels.setdefault(_row(m.kernel), len(kernels)), m.us] for m in found]
                for variant, found in variants.items()
            }
            for network, variants in self.networks.items()
        }
        head = {"format": FORMAT, "target": self.target, "machine": self.machine}
        rows = ",\n  ".join(json.dumps(row) for row in kernels)
        lines = [
            json.dumps(head)[:-1] + ',\n"counts": ' + json.dumps(COUNTS),
            '"kernels": [\n  ' + rows + "\n ]",
            '"networks": ' + json.dumps(networks),
        ]
        write_file(path, (",\n".join(lines) + "}\n").encode(), what=WHAT, kind=TargetError)

    @classmethod
    def load(cls, path: Path) -> MeasuredKernels:
        """Read what `save` wrote.

        Raises
        ------
        TargetError
            If the file cannot be read or is damaged.
        """
        try:
            return cls.from_text(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TargetError(
                f"{WHAT} cannot be read", where=str(path), why=error.strerror or str(error),
                fix="make one with `tvm-probq measure`",
            ) from error  # fmt: skip
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise TargetError(
                f"{WHAT} is damaged", where=str(path), why=f"{type(error).__name__}: {error}",
                fix="delete it and measure anew",
            ) from error  # fmt: skip

    @classmethod
    def from_text(cls, text: str) -> MeasuredKernels:
        """Read the content of a file; a ValueError, KeyError or TypeError if it is none."""
        data = json.loads(text)
        if data["format"] != FORMAT or tuple(data["counts"]) != COUNTS:
            raise ValueError("another version of tvm_probq wrote it")
        kernels = [_kernel(row) for row in data["kernels"]]
        networks = {
            network: {
                variant: [Measurement(network, kernels[i], float(us)) for i, us in found]
                for variant, found in variants.items()
            }
            for network, variants in data["networks"].items()
        }
        return cls(str(data["target"]), str(data["machine"]), networks)


def shipped_measurements(target: str) -> MeasuredKernels | None:
    """The measurements that come with a target, None where nobody measured."""
    file = resources.files(SHIPPED) / FOLDER / f"{target}.json"
    return MeasuredKernels.from_text(file.read_text(encoding="utf-8")) if file.is_file() else None


def _row(kernel: KernelCall) -> tuple[Any, ...]:
    whole = [int(c) if float(c).is_integer() else c for c in kernel.counts]
    kind = kernel.name.rstrip("0123456789")  # the number only tells functions of a module apart
    return (kind, kernel.instruction, *whole)


def _kernel(row: list[Any]) -> KernelCall:
    name, instruction, *counts = row
    if len(counts) != len(COUNTS):
        raise ValueError(f"a kernel has {len(counts)} counts")
    return KernelCall(str(name), str(instruction), tuple(map(float, counts)))
