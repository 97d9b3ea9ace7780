"""Latency on one thread: static, dynamic, predicted and float against ONNX Runtime.

    python benchmarks/latency.py path/to/card.toml path/to/model.onnx --surrogate-share

A card gives its calibration images; a bare ONNX file is calibrated on random inputs, which is
enough for latency. Every contestant runs in this process, on one thread, one after the other in
each turn; the table gives medians of the thread's CPU time and of the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime_peers
import timing

from tvm_probq.errors import ProbqError

if TYPE_CHECKING:
    from tvm_probq.target.profile import TargetProfile

REFERENCE = "predicted"
RARE = ("float",)  # TVM's default code without schedules is a hundred times slower
MIN_TURNS = 20  # of which every tenth is a rare contestant's


def main() -> None:
    """Measure and print."""
    args = _arguments()
    cpus = timing.use_one_thread()
    if not args.no_peers:
        onnxruntime_peers.check_installed()
    try:
        results = [measure(path, args) for path in args.models]
    except ProbqError as error:
        raise SystemExit(f"error: {error}") from None
    facts = {**timing.machine(), "cpus_available": cpus, "turns": args.turns}
    print("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.json is not None:
        text = json.dumps({"machine": facts, "models": results}, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")


def measure(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one model and print its table."""
    # Imported here: TVM reads the number of threads once.
    import ours

    from tvm_probq.target.profile import host_profile, load_profile

    profile: TargetProfile = load_profile(args.target) if args.target else host_profile()
    subject = ours.load_subject(path, args.samples)
    _say(f"{subject.name}: calibrating on {len(subject.samples)} inputs")
    record = ours.calibrate(subject)
    _say(f"{subject.name}: compiling for {profile.name}")
    compiled = ours.compile_modes(subject, record, args.scheme, profile)
    x = subject.samples[0]
    calls = {mode: ours.caller(item, x) for mode, item in compiled.items()}
    with tempfile.TemporaryDirectory(prefix="tvm-probq-benchmark-") as folder:
        if not args.no_peers:
            _say(f"{subject.name}: preparing ONNX Runtime")
            calls |= onnxruntime_peers.peers(subject.onnx, subject.samples, Path(folder))
        _say(f"{subject.name}: timing {len(calls)} contestants, {args.turns} turns")
        times = timing.interleaved(calls, args.turns, rare=RARE)
    result = {
        "model": subject.name,
        "scheme": args.scheme,
        "target": profile.name,
        "random_calibration": subject.random,
        "contestants": {name: _row(t, times[REFERENCE]) for name, t in times.items()},
        "peak_activation_bytes": {m: c.peak_activation_bytes for m, c in compiled.items()},
        "parameter_bytes": {m: c.parameter_bytes for m, c in compiled.items()},
    }
    print(f"\n### {subject.name}, {args.scheme}, {profile.name}\n\n{_table(result)}")
    if args.surrogate_share:
        kinds = (ours.PREDICTION_KERNELS, ours.OBSERVING_KERNELS)
        share = surrogate_share(
            times, *(ours.kernels_ms(compiled[REFERENCE], profile, x, kind) for kind in kinds)
        )
        result["surrogate_share"] = share
        print(f"\n{_show_share(share)}")
    return result


def surrogate_share(
    times: dict[str, timing.Timing], kernels_ms: dict[str, float], observing_ms: dict[str, float]
) -> dict[str, Any]:
    """Share of the run that the prediction takes, measured in two ways."""
    whole, static = times[REFERENCE], times["static"]
    alone = sum(kernels_ms.values())
    return {
        "by_difference": 1 - static.cpu_ms / whole.cpu_ms,
        "by_kernels": alone / whole.cpu_ms,
        "kernels_ms": alone,
        "kernel_calls": len(kernels_ms),
        "measuring_input_ms": sum(observing_ms.values()),
    }


def _row(times: timing.Timing, reference: timing.Timing) -> dict[str, float]:
    low, high = times.cpu_quartiles_ms
    return {
        "cpu_ms": times.cpu_ms,
        "cpu_ms_first_quartile": low,
        "cpu_ms_third_quartile": high,
        "wall_ms": times.wall_ms,
        "ratio_to_predicted": times.cpu_ms / reference.cpu_ms,
    }


def _table(result: dict[str, Any]) -> str:
    headers = (
        "", "CPU ms", "wall ms", "times predicted", "peak activation bytes", "parameter bytes",
    )  # fmt: skip
    sizes = (result["peak_activation_bytes"], result["parameter_bytes"])
    rows = [
        (
            name,
            f"{row['cpu_ms']:.3f}",
            f"{row['wall_ms']:.3f}",
            f"{row['ratio_to_predicted']:.2f}",
            *(f"{size[name]:,}".replace(",", " ") if name in size else "-" for size in sizes),
        )
        for name, row in result["contestants"].items()
    ]
    return timing.table(headers, rows)


def _show_share(share: dict[str, Any]) -> str:
    return (
        f"surrogate's share: {100 * share['by_difference']:.1f} % as 1 - static / predicted "
        f"(medians above), in which measuring the network's input takes "
        f"{1e3 * share['measuring_input_ms']:.1f} us; {100 * share['by_kernels']:.1f} % as the sum "
        f"of the {share['kernel_calls']} prediction kernels timed alone "
        f"({1e3 * share['kernels_ms']:.1f} us) over predicted"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return whole


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="cards (.toml) or ONNX files")
    parser.add_argument(
        "--turns", type=_at_least(MIN_TURNS), default=200, help="default %(default)s"
    )
    parser.add_argument(
        "--samples", type=_at_least(2), default=64, help="calibration inputs (default %(default)s)"
    )
    parser.add_argument("--scheme", default="w8a8", help="default %(default)s")
    parser.add_argument("--target", help="a profile (default: the best for this machine)")
    parser.add_argument("--no-peers", action="store_true", help="only this project's modes")
    parser.add_argument(
        "--surrogate-share", action="store_true", help="also what the prediction costs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
