"""The entry point: a layer's specification and a target to a scheduled kernel."""

from __future__ import annotations

import tvm
from tvm.target.codegen import target_has_features

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arm.maker import ArmMaker
from tvm_probq.kernels.checks import check_spec
from tvm_probq.kernels.codes import Codes, Packed, check_codes
from tvm_probq.kernels.cuda.maker import CudaMaker
from tvm_probq.kernels.cuda.unit import is_cuda
from tvm_probq.kernels.maker import Maker
from tvm_probq.kernels.small.machine import is_arm
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.kernels.x86.maker import X86Maker


def layer_kernel(spec: LayerSpec, target: tvm.target.Target, tile: Tile | None = None) -> Kernel:
    """The kernel of one layer.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        A CPU, x86 or 64-bit ARM, or a CUDA device.
    tile : Tile, optional
        Loop sizes; without them a fixed rule decides.

    Returns
    -------
    kernel : Kernel
        Its arguments are listed by `tvm_probq.kernels.arguments.argument_shapes`.

    Raises
    ------
    KernelError
        For a specification that no kernel can compute, or another architecture.
    """
    check_spec(spec)
    maker = layer_maker(target)
    return maker.kernel(spec, tile or maker.default_tile(spec))


def pack_weights(
    spec: LayerSpec, weights: Codes, target: tvm.target.Target, tile: Tile | None = None
) -> Packed:
    """Weight codes in the layout of the kernel's argument W.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    weights : ndarray of int8, shape [OC, KH, KW, IC / groups]
        The codes; of no more bits than ``spec.weight_bits``.
    target : tvm.target.Target
        The target of the kernel.
    tile : Tile, optional
        The tile given to `layer_kernel`.

    Returns
    -------
    packed : ndarray of int8 or uint8
        Of the shape and dtype of `packed_shape`.

    Raises
    ------
    KernelError
        When the codes are not those of the layer.
    """
    check_spec(spec)
    check_codes(spec, weights)
    maker = layer_maker(target)
    return maker.pack(spec, weights, tile or maker.default_tile(spec))


def packed_shape(
    spec: LayerSpec, target: tvm.target.Target, tile: Tile | None = None
) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the kernel's argument W.

    Parameters
    ----------
    spec, target, tile
        As for `pack_weights`.

    Returns
    -------
    shape : tuple of int
    dtype : str
        "int8", or "uint8" where codes share bytes.
    """
    maker = layer_maker(target)
    return maker.packed_shape(spec, tile or maker.default_tile(spec))


def layer_maker(target: tvm.target.Target) -> Maker:
    """What makes kernels for a target.

    Raises
    ------
    KernelError
        For a target of an architecture without integer kernels.
    """
    if is_cuda(target):
        return CudaMaker(target)
    if target_has_features("sse2", target):
        return X86Maker(target)
    if is_arm(target):
        return ArmMaker(target)
    raise KernelError(
        "no integer kernels for this target",
        where=str(target),
        why="its instruction set is neither x86 nor 64-bit ARM, nor that of a CUDA device",
        fix='use a target such as {"kind": "llvm", "mcpu": "znver4"}',
    )
