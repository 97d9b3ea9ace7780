"""Times of layers beside the peak, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from gpu.layers import LayerTime

HEADERS = (
    "layer", "times", "MMAC", "instruction", "us", "TMAC/s", "of the peak", "torch._int_mm us",
    "ours / torch",
)  # fmt: skip
TENSOR = "mma.sync"


def rows_of(times: Sequence[LayerTime], peak: float) -> list[list[str]]:
    """Rows under `HEADERS`: the layers as they come, then all of one instruction together.

    Parameters
    ----------
    times : sequence of LayerTime
        What was measured.
    peak : float
        Of `mma.sync`, in 1e12 multiply-accumulates a second.
    """
    rows = [_row(t.task.key, t.task.count, _once(t), t.instruction, peak) for t in times]
    for instruction in dict.fromkeys(t.instruction for t in times):
        group = [t for t in times if t.instruction == instruction]
        count = sum(t.task.count for t in group)
        rows.append(_row("all", count, _together(group), instruction, peak))
    return rows


def summary(times: Sequence[LayerTime], peak: float) -> dict[str, float]:
    """The peak, and the share of it of all layers on tensor cores, weighted by time."""
    macs, us, *_ = _together([t for t in times if t.instruction == TENSOR])
    share = {"share_of_peak": macs / us * 1e-6 / peak} if us else {}
    return {"peak_tmacs": peak, **share}


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


def _row(name: str, count: int, sums: Sums, instruction: str, peak: float) -> list[str]:
    macs, us, compared, peer = sums
    tmacs = macs / us * 1e-6
    theirs = [f"{peer:.2f}", f"{compared / peer:.2f}"] if peer else ["", ""]
    return [
        name, str(count), f"{macs * 1e-6:.2f}", instruction or "none", f"{us:.2f}", f"{tmacs:.2f}",
        f"{100 * tmacs / peak:.1f} %", *theirs,
    ]  # fmt: skip
