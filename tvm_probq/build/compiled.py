"""What compilation gives: an executable, and what there is to say about each layer."""

from dataclasses import asdict, dataclass
from typing import Any

from tvm.ir import IRModule

from tvm_probq.build.device_code import DeviceCode
from tvm_probq.ir.islands import Island


@dataclass(frozen=True)
class LayerReport:
    """One layer of a compiled model.

    Attributes
    ----------
    name, op : str
        Name from the ONNX file, and ``conv2d``, ``depthwise``, ``dense``, ``pool``, ``add``,
        ``concat``, ``rescale``, ``input`` or the operator that stayed float.
    weight_bits, activation_bits : int
        0 where there are none; 32 for float.
    mode : str
        ``static``, ``dynamic``, ``predicted`` or ``float``.
    surrogate : str
        Such as ``moments (mse)``, or where else parameters are from; empty without any.
    accumulator : str
        Such as ``int32: 27 bits needed``.
    workspace_bytes, scratch_bytes : int
        Buffers of 32 bits, and of 8 and 16 bits, inside the kernel.
    instruction : str
        The dot-product instruction found in the assembly, empty without one.
    tile : str
        Loop sizes of the kernel, where a tuning database gave them.
    stored_bytes : int
        Bytes of tensors of 32 bits stored between the layer and its requantization.
    macs : int
        Multiply-accumulates of one sample.
    reason : str
        Why the layer is as it is, where that needs saying.
    bits : str
        Widths that a prediction picks from for each input, such as ``2-8``; empty for a fixed one.
    weight_group : int
        Input channels that share a scale of weights; 0 for one scale an output channel.
    levels : int
        Codes that there are for values stored in 16 bits, 0 for others.
    packed : bool
        Whether two codes of the output share a byte.
    """

    name: str
    op: str
    weight_bits: int = 0
    activation_bits: int = 0
    mode: str = "predicted"
    surrogate: str = ""
    accumulator: str = ""
    workspace_bytes: int = 0
    scratch_bytes: int = 0
    instruction: str = ""
    tile: str = ""
    stored_bytes: int = 0
    macs: int = 0
    reason: str = ""
    bits: str = ""
    weight_group: int = 0
    levels: int = 0
    packed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Compiled:
    """A compiled model, not yet saved.

    Attributes
    ----------
    executable : tvm.relax.VMExecutable
        What ``tvm.compile`` gave; ``export_library(path)`` writes it.
    integer_module : IRModule
        The quantized graph before kernels: what the simulator runs.
    layers : tuple of LayerReport
        In graph order.
    peak_activation_bytes : int
        Largest sum of live activation tensors and kernel workspaces.
    parameter_bytes : int
        Bytes of all constants.
    mode, scheme : str
        Such as ``predicted`` and ``w8a8``.
    inputs, outputs : tuple of (name, shape, dtype)
        As in the ONNX file, batch fixed.
    target : str
        Name of the target profile.
    macs, integer_macs : int
        Multiply-accumulates of a call of the float model, and those of them that are done in
        integers.
    islands : tuple of Island
        What stays float, and why.
    device : DeviceCode, optional
        For a CUDA device.
    """

    executable: Any
    integer_module: IRModule
    layers: tuple[LayerReport, ...]
    peak_activation_bytes: int
    parameter_bytes: int
    mode: str
    scheme: str
    inputs: tuple[tuple[str, tuple[int, ...], str], ...]
    outputs: tuple[tuple[str, tuple[int, ...], str], ...]
    target: str
    macs: int = 0
    integer_macs: int = 0
    islands: tuple[Island, ...] = ()
    device: DeviceCode | None = None
