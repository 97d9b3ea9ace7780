"""Time a batch of CUDA kernels on this machine's GPU, and write the results as JSON.

    python measure.py -o results.json

It stands in the folder of the batch, and needs Python, NumPy and TVM's runtime alone.  It may be
interrupted: the same command continues.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
BATCH, LIBRARY, IMAGE = "batch.json", "kernels.so", "kernels.fatbin"
ARGUMENTS, WANTED, WAIT = "arguments.npz", "wanted", "wait"
COMPILE = "tvm_callback_cuda_compile"
ROUNDS, CONFIRMING_ROUNDS, WARM_UP_ROUNDS = 11, 41, 2
CALLS = 20  # of a kernel, timed together
ENDED = "the process ended while its kernels ran"
RUNTIME = "libcudart.so.13"


class Problem(Exception):  # noqa: N818 - a sentence for the user
    """Why nothing can be measured."""


class Clock:
    """Times what a device does, by events of the CUDA runtime on its default stream."""

    def __init__(self, device: Any) -> None:
        try:
            self._cuda = ctypes.CDLL(RUNTIME)
        except OSError as error:
            raise Problem(f"the CUDA runtime is missing ({RUNTIME} cannot be loaded)") from error
        self._device = device
        self._events = [ctypes.c_void_p(), ctypes.c_void_p()]
        for event in self._events:
            self._check(self._cuda.cudaEventCreate(ctypes.byref(event)))

    def nanoseconds(self, wait: Any, call: Any) -> int:
        """Time of `call` on the device, which gets its work while it is busy with `wait`."""
        start, end = self._events
        wait()
        self._check(self._cuda.cudaEventRecord(start, None))
        for _ in range(CALLS):
            call()
        self._check(self._cuda.cudaEventRecord(end, None))
        self._device.sync()
        found = ctypes.c_float()
        self._check(self._cuda.cudaEventElapsedTime(ctypes.byref(found), start, end))
        return max(1, round(found.value * 1e6 / CALLS))

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise Problem(f"the CUDA runtime fails with error {status}")


class Layer:
    """The kernels of one layer, loaded.

    Parameters
    ----------
    folder : Path
        Of the layer.
    layer : dict
        What the batch says of it.
    device : Device
        TVM's.
    """

    def __init__(self, folder: Path, layer: dict[str, Any], device: Any, clock: Clock) -> None:
        import tvm

        with np.load(folder / ARGUMENTS) as found:
            arrays = dict(found)
        self._wanted = arrays[WANTED]
        self._garbage = arrays[layer["order"][-1]]
        self._tensors = [tvm.runtime.tensor(arrays[k], device=device) for k in layer["order"]]
        self._library = tvm.runtime.load_module(str(folder / LIBRARY))
        self._done = tvm.runtime.tensor(np.zeros(1, np.int32), device=device)
        self._clock = clock

    def failure(self, name: str) -> str:
        """Why a kernel is not to be timed; empty if it gives the simulator's output."""
        output = self._tensors[-1]
        output.copyfrom(self._garbage)
        self._library[name](*self._tensors)
        found = output.numpy().reshape(self._wanted.shape)
        wrong = int((found.view(np.uint8) != self._wanted.view(np.uint8)).sum())
        return f"{wrong} bytes differ from the simulator's output" if wrong else ""

    def times(self, names: list[str], rounds: int) -> dict[str, list[int]]:
        """Nanoseconds of each kernel in each round; each round begins with another one."""
        times: dict[str, list[int]] = {name: [] for name in names}
        wait = functools.partial(self._library[WAIT], self._done)
        for turn in range(-WARM_UP_ROUNDS, rounds):
            for place in range(len(names)):
                name = names[(place + turn) % len(names)]
                call = functools.partial(self._library[name], *self._tensors)
                found = self._clock.nanoseconds(wait, call)
                if turn >= 0:
                    times[name].append(found)
        return times


def measured(folder: Path, layer: dict[str, Any], device: Any, clock: Clock) -> dict[str, Any]:
    """The results of a layer."""
    loaded = Layer(folder / layer["folder"], layer, device, clock)
    names = [candidate["function"] for candidate in layer["tiles"]]
    failures = {name: loaded.failure(name) for name in names}
    default, good = names[0], [name for name in names if not failures[name]]
    if failures[default]:
        return {"failure": f"the default kernel: {failures[default]}"}
    times = loaded.times(good, ROUNDS)
    found: dict[str, Any] = {"tiles": [], "refused": layer["refused"]}
    for candidate in layer["tiles"]:
        name = candidate["function"]
        more = {"failure": failures[name]} if failures[name] else {"times_ns": times[name]}
        found["tiles"].append({"tile": candidate["tile"], **more})
    others = [name for name in good if name != default]
    if others:
        best = min(others, key=lambda name: ratio(times[name], times[default]))
        again = loaded.times([default, best], CONFIRMING_ROUNDS)
        found["again"] = {
            "tile": layer["tiles"][names.index(best)]["tile"],
            "times_ns": again[best], "default_ns": again[default],
        }  # fmt: skip
    return found


def ratio(times: list[int], default: list[int]) -> float:
    """Median of the ratios to the default in the same round."""
    return statistics.median(a / b for a, b in zip(times, default, strict=True))


def device_of(arch: str) -> Any:
    """The GPU, if it can run an architecture's code."""
    import tvm

    device = tvm.cuda(0)
    if not device.exist:
        raise Problem("TVM finds no CUDA device: see that `nvidia-smi` names a GPU and a driver")
    here = str(device.compute_version).replace(".", "")
    if int(here) < int("".join(c for c in arch if c.isdigit())):
        raise Problem(f"the batch is for {arch}, this device is sm_{here}")
    return device


def use_images(folder: Path, batch: dict[str, Any]) -> None:
    """Have TVM's runtime take the batch's device code, where nvcc has made it."""
    import tvm_ffi

    images = {layer["source"]: folder / layer["folder"] / IMAGE for layer in batch["layers"]}
    images = {source: path for source, path in images.items() if path.is_file()}
    before = tvm_ffi.get_global_func(COMPILE, allow_missing=True)

    def image(code: str) -> Any:
        known = images.get(hashlib.sha256(code.encode()).hexdigest())
        if known is not None:
            return known.read_bytes()
        if before is None:
            raise RuntimeError("the batch has no device code: build it on a machine with nvcc")
        return before(code)

    tvm_ffi.register_global_func(COMPILE, image, override=True)


def write(path: Path, results: dict[str, Any]) -> None:
    """Write the results, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1), encoding="utf-8")
    part.replace(path)


def results_so_far(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """The results to continue, or new ones."""
    if not path.exists():
        return head
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or any(found.get(k) != head[k] for k in ("id", "machine")):
        raise Problem(f"{path} holds something else than results of this batch and GPU: delete it")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("results.json"))
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="the batch (default: this one)"
    )
    args = parser.parse_args(arguments)
    try:
        run(args.folder, args.output)
    except Problem as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(folder: Path, output: Path) -> None:
    """Measure every layer that has no result yet."""
    try:
        batch = json.loads((folder / BATCH).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(f"{folder} is no batch: {error}") from error
    device = device_of(batch["arch"])
    use_images(folder, batch)
    head = {
        "format": FORMAT, "id": batch["id"], "target": batch["target"],
        "machine": str(device.device_name), "date": time.strftime("%Y-%m-%d"), "layers": {},
    }  # fmt: skip
    results, clock = results_so_far(output, head), Clock(device)
    for number, layer in enumerate(batch["layers"]):
        if layer["key"] in results["layers"]:
            continue
        # A kernel that ends the process costs its layer alone.
        results["layers"][layer["key"]] = {"failure": ENDED}
        write(output, results)
        found = measured(folder, layer, device, clock)
        results["layers"][layer["key"]] = found
        write(output, results)
        best = found.get("failure") or _share(found)
        print(f"{number + 1} of {len(batch['layers'])}  {layer['key']}: {best}", flush=True)
    print(f"{output}: give it to `tvm-probq tune --import`")


def _share(found: dict[str, Any]) -> str:
    again = found.get("again")
    if again is None:
        return "nothing beside the default"
    return f"{ratio(again['times_ns'], again['default_ns']):.3f} of the default's time"


if __name__ == "__main__":
    sys.exit(main())
