"""The passes in the order the graph meets them."""

from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.kernels.cuda.unit import is_cuda
from tvm_probq.passes.annotate_kept import AnnotateKept
from tvm_probq.passes.annotate_layers import AnnotateLayers
from tvm_probq.passes.bind_threads import BindThreads
from tvm_probq.passes.choose_storage import ChooseStorage
from tvm_probq.passes.convert_layout import ConvertLayout
from tvm_probq.passes.drop_unused_tuples import DropUnusedTuples
from tvm_probq.passes.equalize_channels import EqualizeChannels
from tvm_probq.passes.fold_batch_norm import FoldBatchNorm
from tvm_probq.passes.fold_constants import FoldConstants
from tvm_probq.passes.fuse_predictions import FusePredictions
from tvm_probq.passes.group_predictions import GroupPredictions
from tvm_probq.passes.insert_requantize import InsertRequantize
from tvm_probq.passes.insert_surrogates import InsertSurrogates
from tvm_probq.passes.insert_ticks import InsertTicks
from tvm_probq.passes.keep_parameters import KeepParameters
from tvm_probq.passes.leave_float import LeaveFloat
from tvm_probq.passes.lift_products import LiftProducts
from tvm_probq.passes.lower_layers import LowerLayers, Tiles
from tvm_probq.passes.lower_to_aot import LowerToAot
from tvm_probq.passes.pack_activations import PackActivations
from tvm_probq.passes.pack_constants import PackConstants
from tvm_probq.passes.propagate_quantized import PropagateQuantized
from tvm_probq.passes.quantize_weights import QuantizeWeights
from tvm_probq.passes.recover_operators import RecoverOperators
from tvm_probq.passes.reuse_residuals import ReuseResiduals
from tvm_probq.passes.share_code import ShareCode
from tvm_probq.passes.simplify_activations import SimplifyActivations
from tvm_probq.passes.split_ranges import SplitRanges
from tvm_probq.passes.split_transposed import SplitTransposed
from tvm_probq.passes.widen_accumulators import WidenAccumulators
from tvm_probq.plan.plan import Plan

Passes = list[tvm.transform.Pass]


def canonical_passes() -> Passes:
    """Phase 1: the imported module to its canonical, annotated float form."""
    return [
        KeepParameters(),
        RecoverOperators(),
        FoldConstants(),
        FoldBatchNorm(),
        SimplifyActivations(),
        ConvertLayout(),
        LiftProducts(),
        SplitTransposed(),
        SplitRanges(),
        AnnotateKept(),
        AnnotateLayers(),
    ]


def quantize_passes(plan: Plan, record: CalibrationRecord) -> Passes:
    """Phase 2: the annotated float module to the integer graph, which the simulator can run."""
    return [
        EqualizeChannels(record),
        LeaveFloat(plan),
        InsertSurrogates(plan, record),
        QuantizeWeights(plan, record),
        WidenAccumulators(),
        InsertRequantize(),
        PropagateQuantized(),
        ChooseStorage(plan),
    ]


def kernel_passes(target: tvm.target.Target, tiles: Tiles | None = None) -> Passes:
    """Phase 3: the integer graph to calls of scheduled kernels, with loop sizes from `tiles`."""
    layers, reuse = LowerLayers(target, tiles), ReuseResiduals()
    if is_cuda(target):  # a launch is one kernel: a layer and its predictions stay apart
        passes = [PackActivations(grouped=False), FusePredictions(target), layers, reuse]
    else:
        passes = [PackActivations(), FusePredictions(target), layers, GroupPredictions()]
        passes += [PackConstants(), reuse]
    return [_for_target(target, change) for change in passes]


def fusing_passes(target: tvm.target.Target) -> Passes:
    """Phase 4, first half: TVM's own kernels for what remains."""
    return [
        relax.backend.DispatchSampling(),
        relax.backend.DispatchSortScan(),
        _for_target(target, relax.transform.LegalizeOps()),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.RewriteDataflowReshape(),
        *([BindThreads(target)] if is_cuda(target) else []),
    ]


def build_passes(
    target: tvm.target.Target, folder: Path | None = None, *, ticks: bool = False
) -> Passes:
    """Phase 4: TVM's own lowering of what remains, and of memory.

    With a `folder` one function calls the kernels, ahead of time (`LowerToAot`), which needs our
    TIR pipeline (:mod:`tvm_probq.build.tir_pipeline`); without, any will do.  A CUDA device gets
    its launches from the virtual machine in any case.  With `ticks` the results are followed by
    the time of each kernel (`InsertTicks`).
    """
    ahead = [] if folder is None or is_cuda(target) else [LowerToAot(folder), ShareCode()]
    return [
        *fusing_passes(target),
        *([InsertTicks(target)] if ticks else []),
        *ahead,
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.CanonicalizeBindings(),
        DropUnusedTuples(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


def _for_target(target: tvm.target.Target, change: tvm.transform.Pass) -> tvm.transform.Pass:
    """A pass with the target in force, by which small kernels choose instructions."""

    def transform(mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        with target:
            return change(mod)

    made: tvm.transform.Pass = tvm.transform.module_pass(
        transform, opt_level=0, name=change.info.name
    )
    return made


def pipeline(
    plan: Plan, record: CalibrationRecord, target: tvm.target.Target, tiles: Tiles | None = None
) -> tvm.transform.Pass:
    """Everything from the imported float module to what TVM's code generator takes.

    Parameters
    ----------
    plan : Plan
        How each layer is quantized.
    record : CalibrationRecord
        Calibration of the same model.
    target : tvm.target.Target
        The target given to ``tvm.compile``.
    tiles : Tiles, optional
        Loop sizes of the kernels, such as a tuning database.

    Examples
    --------
    >>> tvm.compile(mod, target, relax_pipeline=pipeline(plan, record, target))  # doctest: +SKIP
    """
    passes = canonical_passes() + quantize_passes(plan, record)
    passes += kernel_passes(target, tiles) + build_passes(target)
    return tvm.transform.Sequential(passes, name="probq.pipeline")
