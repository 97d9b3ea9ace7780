"""TVM itself in float32: packed weights and register tiles, or MetaSchedule's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm_probq.bench.peers.job import Contestant, Job

if TYPE_CHECKING:
    from tvm.ir import IRModule

NAME = "tvm-fp32"
PACKAGES = ("tvm",)


def contestant(job: Job) -> Contestant:
    """Compile the float model, tuned if there are trials."""
    import tvm
    from tvm import relax

    from tvm_probq.bench.peers.tvm_graph import float_kernels
    from tvm_probq.bench.peers.tvm_schedule import schedule_all, target_of
    from tvm_probq.target.profile import host_profile

    target = target_of(host_profile().target(), job.threads)
    mod = float_kernels(job.model.mod)
    details: dict[str, Any] = {}
    if job.trials:
        from tvm_probq.bench.peers.tvm_tuning import tuned

        mod, details = tuned(mod, target, job)
    mod, scheduled, total = schedule_all(mod)
    how = f"register tiles, no tuning: {scheduled} of {total} kernels"
    details["schedule"] = f"{details.get('schedule', '')}, else {how}" if details else how
    main = relax.VirtualMachine(compile_kernels(mod, target), tvm.cpu())["main"]
    x = tvm.runtime.tensor(job.x)
    return Contestant(lambda: main(x), details)


def compile_kernels(mod: IRModule, target: Any) -> Any:
    """Compile a module of scheduled kernels, without the passes before memory planning."""
    import tvm

    from tvm_probq.passes.pipeline import build_passes

    pipeline = tvm.transform.Sequential(build_passes(target))
    return tvm.compile(mod, target, relax_pipeline=pipeline)
