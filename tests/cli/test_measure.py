"""``tvm-probq measure``: a file of measured kernels that continues, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.bench import threads
from tvm_probq.cli import measure
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.errors import ProbqError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.latency import suite, ticked
from tvm_probq.latency.kernels import KernelCall
from tvm_probq.latency.measured import MeasuredKernels
from tvm_probq.plan.plan import Plan

Run = Callable[..., Any]
TARGET = ("--target", "x86-64")
OTHER = "arm-a72"
PREDICTED = ("--variant", "w8a8 predicted")
STATIC = ("--variant", "w8a8 static")


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times need not be good; TVM is imported already."""
    monkeypatch.setattr(threads, "use_threads", lambda threads: threads)
    monkeypatch.setattr(ticked, "WARM_UP_RUNS", 1)
    monkeypatch.setattr(ticked, "LEAST_RUNS", 3)
    monkeypatch.setattr(ticked, "MOST_RUNS", 3)


@pytest.fixture
def kernels(run: Run, tmp_path: Path) -> Path:
    """The bundled network with w8a8, predicted."""
    path = tmp_path / "kernels.json"
    done = run("measure", MODEL_PATH, *TARGET, *PREDICTED, "-o", path)
    assert done.status == 0, done.error
    return path


def test_every_kernel_of_a_network_is_measured(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    done = run("measure", MODEL_PATH, *TARGET, *PREDICTED, *STATIC, "-o", path)
    assert done.status == 0, done.error
    found = MeasuredKernels.load(path)
    assert list(found.networks["digits"]) == ["w8a8 predicted", "w8a8 static"]
    assert all(m.us > 0 for m in found.measurements)
    assert sum(bool(m.kernel.instruction) for m in found.measurements) == 2 * 5
    assert done.json["measured"] == 2
    assert (done.json["target"], done.json["machine"]) == ("x86-64", found.machine)
    assert done.json["kernels"] == len(found.by_counts())
    assert "spearman" not in done.json  # one network cannot be told by others
    for row, measured in zip(done.json["networks"], found.networks["digits"].values(), strict=True):
        assert row["kernels"] == len(measured)
        assert row["us"] == pytest.approx(sum(m.us for m in measured))
        assert row["variant"] in done.out
    assert f"{path}: {done.json['kernels']} different kernels of x86-64, on " in done.out


def test_what_is_measured_is_kept(run: Run, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = MeasuredKernels.load(kernels).networks["digits"]["w8a8 predicted"]
    with monkeypatch.context() as patch:
        patch.setattr(measure, "_measure", None)  # nothing is left to measure
        again = run("measure", MODEL_PATH, *TARGET, *PREDICTED, "-o", kernels)
    assert again.json["measured"] == 0
    more = run("measure", MODEL_PATH, *TARGET, *PREDICTED, *STATIC, "-o", kernels)
    assert more.json["measured"] == 1
    assert "measuring digits, w8a8 static" in more.error
    assert "measuring digits, w8a8 predicted" not in more.error
    after = MeasuredKernels.load(kernels).networks["digits"]
    assert after["w8a8 predicted"] == before
    assert set(after) == {"w8a8 predicted", "w8a8 static"}


def test_an_interrupted_run_continues(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, timed, done = tmp_path / "kernels.json", ticked.time_kernels, 0

    def interrupted(run: ticked.Run, calls: Sequence[Sequence[KernelCall]]) -> Any:
        nonlocal done
        if done == 1:
            raise KeyboardInterrupt
        done += 1
        return timed(run, calls)

    command = ("measure", MODEL_PATH, *TARGET, *PREDICTED, *STATIC, "-o", path)
    with monkeypatch.context() as patch:
        patch.setattr(ticked, "time_kernels", interrupted)
        assert run(*command).status == 130
    kept = MeasuredKernels.load(path).networks["digits"]
    assert list(kept) == ["w8a8 predicted"]
    finished = run(*command)
    assert finished.json["measured"] == 1
    found = MeasuredKernels.load(path).networks["digits"]
    assert list(found) == ["w8a8 predicted", "w8a8 static"]
    assert found["w8a8 predicted"] == kept["w8a8 predicted"]


def test_cards_give_their_own_inputs(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[measure.Network] = []
    timed = measure._measure

    def noted(network: measure.Network, *rest: Any) -> None:
        taken.append(network)
        timed(network, *rest)

    monkeypatch.setattr(measure, "_measure", noted)
    path = tmp_path / "kernels.json"
    done = run("measure", digits / "card.toml", *TARGET, *PREDICTED, "-o", path)
    assert done.status == 0, done.error
    assert [row["name"] for row in done.json["networks"]] == ["card"]
    with np.load(digits / "inputs.npz") as arrays:
        (given,) = taken[0].inputs.values()
        np.testing.assert_allclose(given, arrays["image"][:1], atol=1 / 255)


def test_networks_of_many_kinds_are_the_default(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whole numbers as inputs, too: tokens."""
    small = {
        "tokens": lambda: suite._decoder(8, 16, 2, 1),
        "images": lambda: suite._separable(16, (8, 8), 2),
    }
    monkeypatch.setattr(suite, "SUITE", small)
    done = run("measure", *TARGET, *PREDICTED, "-o", tmp_path / "kernels.json")
    assert done.status == 0, done.error
    assert [row["name"] for row in done.json["networks"]] == ["tokens", "images"]


def test_all_networks_of_the_suite_are_read(tmp_path: Path) -> None:
    for name in suite.SUITE:
        content = suite.suite_model(name)
        assert content == suite.suite_model(name)
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        assert load_model(path).inputs[0][0] == "input"


def test_the_estimates_of_held_out_networks(
    run: Run, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up times that follow the work, of three networks: each is told by the others."""
    found = MeasuredKernels.load(kernels)
    rng = np.random.default_rng(0)
    (template,) = {m.kernel.name: m.kernel for m in found.measurements[:1]}.values()
    for name in ("a", "b", "c"):
        sizes = np.exp(rng.uniform(5, 12, 60)).round()
        calls = [
            KernelCall(template.name, template.instruction, (n,) * len(template.counts))
            for n in map(float, sizes)
        ]
        found.add(name, "w8a8 predicted", calls, [ticked.CallTime(n, n, n) for n in sizes / 100])
    found.networks.pop("digits")
    found.save(kernels)
    monkeypatch.setattr(measure, "_networks", lambda *_: [])
    done = run("measure", MODEL_PATH, *TARGET, *PREDICTED, "-o", kernels)
    assert done.status == 0, done.error
    assert done.json["spearman"] > 0.99
    assert "each network told by a model of the others: rank correlation " in done.out
    assert all(0.9 < row["total"] < 1.1 for row in done.json["networks"])


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("w8a8", "names no mode"),
        ("w8a8 float", "names no mode"),
        ("predicted", "names no mode"),
        ("w8a8p predicted", "names a mode"),
        ("w9a8 predicted", "is no scheme"),
        ("w8a8:correction=x predicted", "to choose"),
    ],
)
def test_what_is_no_variant(run: Run, tmp_path: Path, variant: str, said: str) -> None:
    path = tmp_path / "kernels.json"
    done = run("measure", MODEL_PATH, *TARGET, "--variant", variant, "-o", path)
    assert done.status == 2
    assert said in done.error
    assert "What to do" in done.error
    assert not path.exists()


def test_a_variant_is_an_option_for_all_layers() -> None:
    plan = measure.plan_of_variant("w4a8:correction=static dynamic")
    assert isinstance(plan, Plan)
    one = plan.layer("any")
    assert (one.weight_bits, one.correction, one.mode) == (4, "static", "dynamic")
    for variant in measure.VARIANTS:
        assert measure.plan_of_variant(variant).layer("any").mode == variant.split()[-1]


def test_names_tell_networks_apart(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other" / MODEL_PATH.name
    other.parent.mkdir()
    other.write_bytes(MODEL_PATH.read_bytes())
    path = tmp_path / "kernels.json"
    done = run("measure", MODEL_PATH, other, *TARGET, "-o", path)
    assert done.status == 2
    assert "two networks have the name digits" in done.error
    assert not path.exists()


@pytest.mark.parametrize("name", ["missing.onnx", "missing.toml"])
def test_a_missing_network_is_said_before_anything_is_measured(
    run: Run, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "kernels.json"
    done = run("measure", MODEL_PATH, tmp_path / name, *TARGET, *PREDICTED, "-o", path)
    assert done.status == 2
    assert name in done.error
    assert "measuring" not in done.error
    assert not path.exists()


@pytest.mark.parametrize(("key", "value"), [("target", "x86-avx2"), ("machine", "another machine")])
def test_times_of_different_machines_are_not_mixed(
    run: Run, kernels: Path, key: str, value: str
) -> None:
    data = json.loads(kernels.read_text())
    kernels.write_text(json.dumps({**data, key: value}))
    before = kernels.read_bytes()
    done = run("measure", MODEL_PATH, *TARGET, *STATIC, "-o", kernels)
    assert done.status == 2
    assert "kernels of another target or machine" in done.error
    assert value in done.error
    assert kernels.read_bytes() == before


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-20], lambda _: "[]", lambda text: text.replace("dots", "dot")]
)
def test_a_damaged_file(run: Run, kernels: Path, damage: Callable[[str], str]) -> None:
    kernels.write_text(damage(kernels.read_text()))
    before = kernels.read_bytes()
    done = run("measure", MODEL_PATH, *TARGET, *STATIC, "-o", kernels)
    assert done.status == 2
    assert "the file of measured kernels is damaged" in done.error
    assert "measure anew" in done.error
    assert kernels.read_bytes() == before


@pytest.mark.parametrize(
    ("target", "message"),
    [(OTHER, f"code for {OTHER} does not run on this machine"), ("cuda-sm80", "times CPUs alone")],
)
def test_a_target_that_does_not_run_here(
    run: Run, tmp_path: Path, target: str, message: str
) -> None:
    path = tmp_path / "kernels.json"
    done = run("measure", MODEL_PATH, "--target", target, "-o", path)
    assert done.status == 2
    assert message in done.error
    assert not path.exists()


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    done = run("measure", MODEL_PATH, *TARGET, "-o", tmp_path / "no" / "kernels.json")
    assert done.status == 2
    assert "the file of measured kernels cannot be written" in done.error


def test_threads_are_set_before_tvm_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvm_probq.errors import EnvironmentProblem

    def late(_threads: int) -> int:
        raise EnvironmentProblem("TVM is imported already", fix="run it as a program")

    monkeypatch.setattr(threads, "use_threads", late)
    done = run("measure", MODEL_PATH, *TARGET, "-o", tmp_path / "kernels.json")
    assert done.status == 2
    assert issubclass(EnvironmentProblem, ProbqError)
    assert "TVM is imported already" in done.error
