"""A target profile: the TVM target and what its instructions can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.errors import TargetError
from tvm_probq.target.check import checked_fields, read_toml
from tvm_probq.target.cuda import device_problem
from tvm_probq.target.host import architecture_named, host_architecture, missing_features
from tvm_probq.target.llvm import check_cpu, check_features

if TYPE_CHECKING:
    from tvm.target import Target

ENTRY_POINTS = "tvm_probq.targets"
SHIPPED = "tvm_probq.targets"


@dataclass(frozen=True)
class TargetProfile:
    """One kind of hardware, as data.

    Attributes
    ----------
    name : str
        What ``--target`` takes.
    description : str
        One line for people.
    tvm_target : dict
        What ``tvm.target.Target`` takes: ``kind``, ``mcpu``, ``mtriple`` and so on.
    features : tuple of str
        CPU features that compiled code needs, in LLVM's names.
    instruction : str
        Mnemonic of the dot product that kernels of dense layers must contain; empty without one.
    weight_bits, activation_bits : tuple of int
        Widths that have kernels.
    weight_groups : tuple of int
        Numbers of input channels that may share a scale of weights, beside one for all.
    storages : tuple of str
        How outputs whose codes have at most 4 bits can be stored.
    threads : int
        Cores that kernels are shaped for; 0 for those of the machine.
    roofline : dict
        Peak figures of the data sheet, for hardware that nobody measured.
    """

    name: str
    description: str
    tvm_target: dict[str, Any]
    features: tuple[str, ...]
    instruction: str
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    weight_groups: tuple[int, ...] = ()
    storages: tuple[str, ...] = ("bytes",)
    threads: int = 0
    roofline: dict[str, Any] = field(default_factory=dict)

    @property
    def is_cuda(self) -> bool:
        """Whether it is a CUDA device, with a processor that starts its kernels."""
        return self.tvm_target.get("kind") == "cuda"

    @property
    def host(self) -> dict[str, Any]:
        """The processor's target: that of the device's host, or the target itself."""
        return dict(self.tvm_target.get("host", self.tvm_target))

    @property
    def architecture(self) -> str:
        """The first part of the target's triple, such as ``x86_64``; the host's without one."""
        triple = str(self.host.get("mtriple", ""))
        return architecture_named(triple.split("-")[0]) or host_architecture()

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run what is compiled for the profile."""
        here = self.architecture == host_architecture() and not missing_features(self.features)
        return here and not (self.is_cuda and device_problem())

    def target(self) -> Target:
        """Make the TVM target.

        Raises
        ------
        TargetError
            If TVM rejects the description, LLVM does not know the CPU or an attribute, or the CPU
            lacks a feature.
        """
        # Imported here, so that listing profiles does not wait for TVM.
        from tvm.target import Target

        config = dict(self.tvm_target)
        if self.threads:
            config.setdefault("num-cores", self.threads)
        where, is_llvm = f"target profile {self.name}", self.host.get("kind") == "llvm"
        if is_llvm:
            check_cpu(self.host, where)
        try:
            target = Target(config)
        except (ValueError, TypeError, RuntimeError) as error:
            raise TargetError(
                "TVM rejects the target",
                where=where,
                why=str(error),
                fix="correct [tvm_target] in the profile",
            ) from error
        if is_llvm:
            check_features(self.features, target.host or target, where)
        return target

    def require_bits(self, weight_bits: int, activation_bits: int, *, where: str = "") -> None:
        """Check that the target has kernels for these widths.

        Raises
        ------
        TargetError
            If it has not; the message lists what it has.
        """
        wanted = {"weight": weight_bits, "activation": activation_bits}
        for kind, bits in wanted.items():
            known: tuple[int, ...] = getattr(self, f"{kind}_bits")
            if bits not in known:
                raise self._lacking(f"{kind}s of {bits} bits", "one of", known, where)

    def require_group(self, group: int, *, where: str = "") -> None:
        """Check that the target has kernels for weights with a scale for every `group` inputs.

        Raises
        ------
        TargetError
            If it has not; the message lists what it has.
        """
        if group not in (0, *self.weight_groups):
            known = (0, *self.weight_groups)
            raise self._lacking(f"weights in groups of {group}", "weight_group =", known, where)

    def require_storage(self, storage: str, *, where: str = "") -> None:
        """Check that the target has kernels for outputs that are stored so.

        Raises
        ------
        TargetError
            If it has not; the message lists what it has.
        """
        if storage not in self.storages:
            raise self._lacking(f"storage = {storage!r}", "one of", self.storages, where)

    def _lacking(
        self, wanted: str, choice: str, known: Sequence[object], where: str
    ) -> TargetError:  # fmt: skip
        return TargetError(
            f"the target {self.name} has no kernels for {wanted}",
            where=where,
            fix=f"use {choice} {', '.join(map(str, known))}, or another target",
        )


def profile_names() -> tuple[str, ...]:
    """Name every profile that is shipped or that an installed package adds, sorted."""
    return tuple(sorted({*_shipped_names(), *(entry.name for entry in _entries())}))


def load_profile(name_or_path: str | Path) -> TargetProfile:
    """Load a profile by name or from a file.

    Parameters
    ----------
    name_or_path : str or Path
        A name of `profile_names`, or the path of a TOML file, which ends in ``.toml``. Shipped
        profiles come first, then those of the entry-point group ``tvm_probq.targets``, whose
        values are a path or a dict.

    Raises
    ------
    TargetError
        If there is none of this name, or its description is invalid.
    """
    name = str(name_or_path)
    if name.endswith(".toml"):
        return _read(Path(name))
    if name in _shipped_names():
        with resources.as_file(resources.files(SHIPPED) / f"{name}.toml") as path:
            return _read(path)
    for entry in _entries():
        if entry.name == name:
            return _from_entry(entry)
    fix = f"use one of {', '.join(profile_names())}, or the path of a .toml file"
    raise TargetError(f"there is no target profile {name!r}", fix=fix)


def host_profile() -> TargetProfile:
    """Pick the shipped profile that needs most of what this machine's CPU has.

    Raises
    ------
    TargetError
        If no shipped profile fits, as on another architecture.
    """
    shipped = map(load_profile, _shipped_names())
    fitting = [p for p in shipped if not p.is_cuda and p.runs_here]
    if not fitting:
        raise TargetError(
            f"no shipped target profile fits this machine ({host_architecture()})",
            fix=f"name one to compile for: {', '.join(profile_names())}, or write your own",
        )
    return max(fitting, key=lambda profile: len(profile.features))


def _shipped_names() -> tuple[str, ...]:
    files = resources.files(SHIPPED).iterdir()
    return tuple(sorted(f.name[: -len(".toml")] for f in files if f.name.endswith(".toml")))


def _entries() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=ENTRY_POINTS))


def _read(path: Path) -> TargetProfile:
    return TargetProfile(name=path.stem, **checked_fields(read_toml(path), str(path)))


def _from_entry(entry: metadata.EntryPoint) -> TargetProfile:
    where = f"entry point {entry.name} = {entry.value}"
    fix = "correct or uninstall the package that declares it"
    try:
        value = entry.load()
    except (ImportError, AttributeError) as error:
        what = "the target profile of an installed package cannot be loaded"
        raise TargetError(what, where=where, why=str(error), fix=fix) from error
    if isinstance(value, str | Path):
        profile = _read(Path(value))
        return replace(profile, name=entry.name)
    if isinstance(value, dict):
        return TargetProfile(name=entry.name, **checked_fields(value, where))
    what = f"the target profile is a {type(value).__name__}, neither a path nor a dict"
    raise TargetError(what, where=where, fix=fix)
