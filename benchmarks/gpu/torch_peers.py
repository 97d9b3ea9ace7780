"""PyTorch on the same GPU: whole networks in float16, products of matrices in int8."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

WARM_UP, ROUNDS, CALLS = 3, 21, 20
WAIT_CYCLES = 1 << 20
Call = Callable[[], object]


def network(name: str, batch: int, side: int, warm_up: int) -> dict[str, Call]:
    """A network in float16, channels last, in a CUDA graph; nothing where it has no such model."""
    try:
        import torch
        import torchvision
    except ImportError:
        print("PyTorch is not measured: torch and torchvision are not installed")
        return {}
    make = getattr(torchvision.models, name, None)
    if make is None:
        print(f"PyTorch is not measured: torchvision has no {name}")
        return {}
    kind = {"dtype": torch.float16, "memory_format": torch.channels_last}
    model = make().eval().to("cuda", **kind)
    x = torch.randn(batch, 3, side, side, device="cuda").to(**kind)
    with torch.no_grad():
        for _ in range(warm_up):
            model(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(x)

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return {"PyTorch float16": run}


def int8_products() -> Callable[[tuple[int, int, int]], float] | None:
    """What times `torch._int_mm` in microseconds; None without PyTorch or its view of the GPU.

    The second matrix is stored by columns, which cuBLAS prefers.  Its sums are stored as int32:
    there is no epilogue in it.
    """
    try:
        import torch
    except ImportError:
        print("torch._int_mm is not measured: torch is not installed")
        return None
    if not torch.cuda.is_available():
        print("torch._int_mm is not measured: this PyTorch has no CUDA device")
        return None
    return lambda sizes: _product(torch, *sizes)


def _product(torch: Any, rows: int, depth: int, columns: int) -> float:
    def codes(*shape: int) -> Any:
        return torch.randint(-128, 128, shape, dtype=torch.int8, device="cuda")

    a, b = codes(rows, depth), codes(columns, depth).t()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    times = []
    for turn in range(WARM_UP + ROUNDS):
        torch.cuda._sleep(WAIT_CYCLES)  # calls are queued meanwhile, as ours are
        events[0].record()
        for _ in range(CALLS):
            torch._int_mm(a, b)
        events[1].record()
        torch.cuda.synchronize()
        if turn >= WARM_UP:
            times.append(events[0].elapsed_time(events[1]) * 1e3 / CALLS)
    return float(statistics.median(times))
