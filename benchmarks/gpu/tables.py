"""Times of layers beside the peak, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from gpu.layers import LayerTime

HEADERS = (
    "layer", "times", "MMAC", "instruction", "us", "TMAC/s", "of the peak", "torch._int_mm us",
    "ours / torch",
)  # fmt: skip
TENSOR = "mma.sync"


def rows_of(times: Sequence[LayerTime], peak: float | None) -> list[list[str]]:
    """Rows under `HEADERS`: the layers as they come, then all of one instruction together.

    Parameters
    ----------
    times : sequence of LayerTime
        What was measured.
    peak : float or None
        Of `mma.sync`, in 1e12 multiply-accumulates a second, where the device has it.
    """
    rows = [_row(t.task.key, t.task.count, _once(t), t.instruction, peak) for t in times]
    for instruction in dict.fromkeys(t.instruction for t in times):
        group = [t for t in times if t.instruction == instruction]
        count = sum(t.task.count for t in group)
        rows.append(_row("all", count, _together(group), instruction, peak))
    return rows


def tensor_share(times: Sequence[LayerTime], peak: float | None) -> float | None:
    """The share of the peak of all layers on tensor cores together, weighted by time."""
    macs, us, *_ = _together([t for t in times if t.instruction == TENSOR])
    return macs / us * 1e-6 / peak if us and peak else None


def percent(macs: float, us: float, peak: float | None) -> str:
    """The share of the peak of so many multiply-accumulates in so much time, in words."""
    return f"{100 * macs / us * 1e-6 / peak:.1f} %" if peak else ""


Sums = tuple[float, float, float, float]  # MACs and us; of layers with a peer, our us and its


def _once(time: LayerTime) -> Sums:
    peer = time.peer_us or 0.0
    return time.task.spec.macs, time.us, time.us if peer else 0.0, peer


def _together(times: Sequence[LayerTime]) -> Sums:
    macs, us, compared, peer = 0.0, 0.0, 0.0, 0.0
    for time in times:
        once = [time.task.count * value for value in _once(time)]
        macs, us, compared, peer = macs + once[0], us + once[1], compared + once[2], peer + once[3]
    return macs, us, compared, peer


def _row(name: str, count: int, sums: Sums, instruction: str, peak: float | None) -> list[str]:
    macs, us, compared, peer = sums
    theirs = [f"{peer:.2f}", f"{compared / peer:.2f}"] if peer else ["", ""]
    return [
        name, str(count), f"{macs * 1e-6:.2f}", instruction or "none", f"{us:.2f}",
        f"{macs / us * 1e-6:.2f}", percent(macs, us, peak), *theirs,
    ]  # fmt: skip
