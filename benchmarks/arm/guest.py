"""Runs on the emulated board: infer images, then run one again and again between marks.

    board-python guest.py ENGINE MODEL INPUTS.npz RESULT

writes ``RESULT.npz`` (the outputs) and ``RESULT.maps`` (where the files lie in memory). It needs
only what the board has: NumPy and the engine.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MARK = 0x50524F42  # see count_blocks.c
WARM_UPS = 2
SECTIONS = ((1, 5), (1, 5))  # calls between marks: the difference of a pair is four inferences


def main() -> None:
    """Infer, count, and say where the files lie."""
    engine, model, inputs, result = sys.argv[1:]
    start, call, output = {"tvm": _tvm, "tflite": _tflite}[engine](model)
    images = np.load(inputs)["x"]
    outputs = []
    for image in images:
        start(image[None])
        call()
        outputs.append(output())
    np.savez(f"{result}.npz", y=np.concatenate(outputs))
    start(images[:1])
    for _ in range(WARM_UPS):
        call()
    _mark(0)
    for label, calls in enumerate((n for pair in SECTIONS for n in pair), 1):
        for _ in range(calls):
            call()
        _mark(label)
    Path(f"{result}.maps").write_text(Path("/proc/self/maps").read_text())


def _mark(label: int) -> None:
    with contextlib.suppress(OSError):  # there is no such thing to ask for
        os.getpriority(MARK, label)


Engine = tuple[Callable[[Any], None], Callable[[], None], Callable[[], Any]]


def _tvm(model: str) -> Engine:
    import tvm
    from tvm.runtime.vm import VirtualMachine

    function = VirtualMachine(tvm.runtime.load_module(model), tvm.cpu())["main"]
    held: list[Any] = [None, None]

    def start(image: Any) -> None:
        held[0] = tvm.runtime.tensor(image)

    def call() -> None:
        held[1] = function(held[0])

    def output() -> Any:
        return (held[1] if hasattr(held[1], "numpy") else held[1][0]).numpy()

    return start, call, output


def _tflite(model: str) -> Engine:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    x = interpreter.get_input_details()[0]["index"]
    y = interpreter.get_output_details()[0]["index"]
    return (
        lambda image: interpreter.set_tensor(x, image),
        interpreter.invoke,
        lambda: interpreter.get_tensor(y),
    )


if __name__ == "__main__":
    main()
