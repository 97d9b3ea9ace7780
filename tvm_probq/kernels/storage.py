"""How codes of activations lie in memory: shape and dtype of a tensor of codes.

====  =======  ====================================================================================
bits  dtype    a position's C channels
====  =======  ====================================================================================
8     uint8    one by one
4     uint8    C / 2 bytes: byte i holds channel i in its lower half, channel i + C / 2 in its upper
16    int16    one by one, none negative
====  =======  ====================================================================================
"""

from __future__ import annotations

from tvm_probq.kernels.spec import LayerSpec

STORED_BITS = (4, 8, 16)
STAGED_BYTES, STAGED_SHARE = 4096, 4
PACKED_CHANNELS = 8  # channels that share bytes come in such numbers: halves of whole words


def codes_dtype(bits: int) -> str:
    """dtype of a tensor of codes stored in `bits` bits."""
    return "int16" if bits == 16 else "uint8"


def bits_of_dtype(dtype: str) -> int:
    """Bits that a tensor of codes of this dtype is stored in, one by one."""
    return 16 if dtype == "int16" else 8


def codes_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Shape in memory of codes ``[..., C]`` stored in `bits` bits."""
    return (*shape[:-1], shape[-1] // 2) if bits == 4 else shape


def staged_bytes(spec: LayerSpec) -> int:
    """Codes that one task may pack, for which it has scratch: so many, or a quarter of them all."""
    codes = spec.out_height * spec.out_width * spec.out_channels
    return max(STAGED_BYTES, codes // STAGED_SHARE)
