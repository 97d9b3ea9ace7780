"""TVM itself in float32: packed weights, register tiles, and MetaSchedule where it is faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm_probq.bench.peers.job import Contestant, Job

if TYPE_CHECKING:
    from tvm.ir import IRModule

NAME = "tvm-fp32"
PACKAGES = ("tvm",)


def contestant(job: Job) -> Contestant:
    """Compile the float model; with trials, each kernel by the faster of both schedules."""
    import tvm
    from tvm import relax

    from tvm_probq.bench.peers.tvm_graph import float_kernels
    from tvm_probq.bench.peers.tvm_schedule import schedule_all, target_of
    from tvm_probq.target.profile import host_profile

    target = target_of(host_profile().target(), job.threads)
    mod = float_kernels(job.model.mod)
    best, scheduled, total = schedule_all(mod)
    how = f"no tuning: register tiles for {scheduled} of {total} kernels"
    if job.trials:
        from tvm_probq.bench.peers.tvm_tuning import tuned

        found, trials = tuned(mod, target, job)
        best, taken = faster(schedule_all(found)[0], best, target, job.x)
        how = f"MetaSchedule, {trials} trials, for {taken} of {total} kernels, else register tiles"
    main = relax.VirtualMachine(compile_kernels(best, target), tvm.cpu())["main"]
    x = tvm.runtime.tensor(job.x)
    return Contestant(lambda: main(x), {"schedule": how})


def faster(found: IRModule, default: IRModule, target: Any, x: Any) -> tuple[IRModule, int]:
    """Give `default` with those kernels of `found` that are faster, and their number."""
    import tvm

    from tvm_probq.bench.kernels import kernel_times

    times = [
        {t.name: t.ms for t in kernel_times(compile_kernels(mod, target), x)}
        for mod in (found, default)
    ]
    result = tvm.IRModule(dict(default.functions_items()), attrs=default.attrs)
    taken = 0
    for var, func in found.functions_items():
        name = str(var.name_hint)
        if name in times[0] and times[0][name] < times[1][name]:
            result.update_func(default.get_global_var(name), func)
            taken += 1
    return result, taken


def compile_kernels(mod: IRModule, target: Any) -> Any:
    """Compile a module of scheduled kernels, each called by the virtual machine."""
    import tvm

    from tvm_probq.passes.pipeline import build_passes

    pipeline = tvm.transform.Sequential(build_passes(target))
    return tvm.compile(mod, target, relax_pipeline=pipeline)
