"""Predicted bits from the command line to the report, on and off distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from picture_card import picture_card

from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.plan.plan import plan_of

WIDTHS = {str(bits) for bits in range(2, 9)}


@pytest.fixture
def card(onnx_net: Any, tmp_path: Path) -> Path:
    """A card of a small network with images of full contrast."""
    net = onnx_net(3, 8, 8)
    y = net("Relu", net.conv(net("Relu", net.conv("x", 3, 8)), 8, 8))
    net.gemm(net("Flatten", net("GlobalAveragePool", y)), 8, 4)
    model = net.save(tmp_path, net.nodes[-1].output[0])
    return picture_card(tmp_path, model)


def picks(layers: list[dict[str, Any]], shift: str) -> dict[str, dict[str, int]]:
    """Samples by width of each layer whose bits are predicted."""
    return {row["name"]: row["measured"][shift]["samples_by_bits"] for row in layers if row["bits"]}


def test_the_distribution_on_and_off_the_calibrated_inputs(
    run: Any, card: Path, tmp_path: Path
) -> None:
    artefact = tmp_path / "small.probq"
    compiled = run("compile", "--card", card, "-o", artefact, "--bits", "predicted")
    assert compiled.status == 0
    done = run("debug", artefact, "--card", card, "--limit", "6", "--no-layers-alone",
               "--corrupt", "contrast:5")  # fmt: skip
    assert done.status == 0
    clean, shifted = (picks(done.json["layers"], shift) for shift in ("clean", "contrast:5"))
    assert set(clean) == set(shifted) == {"Conv_0", "Conv_2"}
    for counts in (*clean.values(), *shifted.values()):
        assert set(counts) <= WIDTHS
        assert sum(counts.values()) == 6
    means = done.json["mean_bits"]
    assert 2 <= means["contrast:5"] < means["clean"] < 8
    (row,) = (row for row in done.json["layers"] if row["name"] == "x")
    assert (row["bits"], row["measured"]["clean"]["samples_by_bits"]) == ("", {"8": 6})
    assert "predicted bits" in done.out
    assert f"all values, contrast:5: {means['contrast:5']:.2f} bits" in done.out


def test_a_plan_file_and_inspect(run: Any, card: Path, tmp_path: Path) -> None:
    plan, artefact = tmp_path / "plan.toml", tmp_path / "small.probq"
    plan.write_text('[default]\nbits = "4,6"\n\n[layers.Conv_2]\nbits = "fixed"\n', "utf-8")
    assert run("compile", "--card", card, "-o", artefact, "--plan", plan).status == 0
    done = run("inspect", artefact)
    bits = {layer["name"]: layer["bits"] for layer in done.json["layers"] if layer["macs"]}
    assert bits == {"Conv_0": "4,6,8", "Conv_2": "", "Gemm_6": ""}
    assert "8/4,6,8" in done.out


def test_a_larger_tolerance_takes_fewer_bits(run: Any, card: Path, tmp_path: Path) -> None:
    means = []
    for tolerance in ("0", "9", "20"):
        artefact = tmp_path / f"{tolerance}.probq"
        options = ["--bits", "*=predicted", "--tolerance-db", tolerance]
        assert run("compile", "--card", card, "-o", artefact, *options).status == 0
        done = run("debug", artefact, "--card", card, "--limit", "4", "--no-layers-alone")
        means.append(done.json["mean_bits"]["clean"])
    assert means == sorted(means, reverse=True)
    assert means[0] > means[1] > means[2]


def test_without_predicted_bits_there_is_no_table(
    run: Any, artefact_path: Path, digits: Path
) -> None:
    done = run("debug", artefact_path, "--card", digits / "card.toml", "--limit", "2",
               "--no-layers-alone")  # fmt: skip
    assert done.json["mean_bits"] == {"clean": None}
    assert "predicted bits" not in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "9"], "bits is '9'"),
        (["--bits", "many"], "bits is 'many'"),
        (["--bits", "predicted", "--mode", "static"], "but the mode is static"),
        (["--bits", "4,6", "--mode", "dynamic"], "but the mode is dynamic"),
        (["--bits", "predicted", "--per-channel"], "per-channel ranges go with"),
        (["--bits", "nothing=predicted"], "--bits nothing matches no layer"),
        (["--bits", "predicted", "--tolerance-db", "-3"], "tolerance_db is -3.0"),
    ],
)  # fmt: skip
def test_mistakes(
    options: list[str], message: str, run: Any, record_path: Path, tmp_path: Path
) -> None:
    output = tmp_path / "none.probq"
    done = run("compile", MODEL_PATH, "--calibration", record_path, "-o", output, *options)
    assert done.status == 2
    assert message in done.error
    assert not output.exists()


def test_the_text_of_a_plan_says_the_bits() -> None:
    text = plan_of("w8a8", bits="predicted").to_toml()
    assert 'bits = "predicted"\ntolerance_db = ' in text
