"""``debug`` names the layer that loses accuracy, and what would help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_card import picture_card

from tvm_probq.demo.digits import MODEL_PATH


@pytest.fixture(scope="module")
def ruined(digits: Path, record_path: Path) -> Path:
    """The network with one layer of 2-bit weights."""
    from tvm_probq.cli.main import main

    path = digits / "ruined.probq"
    options = ["--calibration", str(record_path), "--scheme", "pointwise=w2a8", "--quiet"]
    assert main(["compile", str(MODEL_PATH), "-o", str(path), *options]) == 0
    return path


def test_the_worst_layer_comes_first(run: Any, ruined: Path, digits: Path) -> None:
    done = run("debug", ruined, "--card", digits / "card.toml", "--limit", "6", "--suggest")
    assert done.status == 0
    layers = done.json["layers"]
    assert layers[0]["name"] == "pointwise"
    assert (layers[0]["weight_bits"], layers[1]["weight_bits"]) == (2, 8)
    assert layers[0]["alone_db"] < layers[1]["alone_db"] - 6
    assert [row["alone_db"] for row in layers[:6]] == sorted(row["alone_db"] for row in layers[:6])
    assert set(done.json["sqnr_db"]) == {"clean"}
    assert done.json["samples"] == 6
    tried = {row["option"]: row["gain_db"] for row in done.json["tried"]}
    assert tried["as it is"] == 0
    assert tried["--scheme pointwise=w8a8"] > 6
    assert tried["--skip pointwise"] > 6
    assert "worth trying: --" in done.out
    assert "--skip pointwise" in done.out.split("worth trying")[1]


def test_what_is_suggested_can_be_given_to_compile(
    run: Any, ruined: Path, digits: Path, record_path: Path, tmp_path: Path
) -> None:
    better = tmp_path / "better.probq"
    compiled = run("compile", MODEL_PATH, "--calibration", record_path, "-o", better,
                   "--scheme", "pointwise=w2a8", "--skip", "pointwise")  # fmt: skip
    assert compiled.status == 0
    found = [
        run(
            "eval", path, "--card", digits / "card.toml", "--reference", MODEL_PATH, "--limit", "50"
        )
        for path in (ruined, better)
    ]
    assert found[1].json["sqnr_db"] > found[0].json["sqnr_db"] + 6


def test_ready_inputs(run: Any, ruined: Path, digits: Path) -> None:
    done = run("debug", ruined, "--model", MODEL_PATH, "--data", digits / "inputs.npz",
               "--limit", "3", "--no-layers-alone")  # fmt: skip
    assert done.status == 0
    assert all(row["alone_db"] is None for row in done.json["layers"])
    sqnr = [row["measured"]["clean"]["sqnr_db"] for row in done.json["layers"]]
    assert sqnr == sorted(sqnr)
    assert "outputs, alone" not in done.out


def test_what_is_missing(run: Any, ruined: Path, digits: Path, tmp_path: Path) -> None:
    card = digits / "card.toml"
    cases = {
        "no model is given": [ruined],
        "no data is given": [ruined, "--model", MODEL_PATH],
        "--corrupt needs a card's images": [
            ruined, "--data", digits / "inputs.npz", "--corrupt", "contrast:1"
        ],
        "are defined for uint8 RGB images": [ruined, "--card", card, "--corrupt", "contrast:1"],
        "is of no known kind": [ruined, "--card", card, "--corrupt", "rain:3"],
    }  # fmt: skip
    for message, arguments in cases.items():
        done = run("debug", *arguments)
        assert done.status == 2, message
        assert message in done.error


def test_on_and_off_distribution(run: Any, onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 8, 8)
    y = net("Relu", net.conv(net("Relu", net.conv("x", 3, 8)), 8, 8, group=8))
    y = net("GlobalAveragePool", y)
    net.gemm(net("Flatten", y), 8, 4)
    model = net.save(tmp_path, net.nodes[-1].output[0])
    card = picture_card(tmp_path, model)
    artefact = tmp_path / "small.probq"
    compiled = run("compile", "--card", card, "-o", artefact, "--mode", "static")
    assert compiled.status == 0
    done = run("debug", artefact, "--card", card, "--limit", "4", "--corrupt", "contrast:5",
               "--suggest")  # fmt: skip
    assert done.status == 0
    assert set(done.json["sqnr_db"]) == {"clean", "contrast:5"}
    for row in done.json["layers"]:
        clean, shifted = (row["measured"][shift] for shift in ("clean", "contrast:5"))
        assert clean["sqnr_db"] != shifted["sqnr_db"]
    assert "inside, contrast:5" in done.out
    tried = {row["option"] for row in done.json["tried"]}
    assert {"--no-equalize", "--mode dynamic", "--weight-clip mse"} <= tried


def test_a_float_artefact(run: Any, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "float.probq"
    assert run("compile", MODEL_PATH, "--mode", "float", "-o", path).status == 0
    done = run("debug", path, "--card", digits / "card.toml")
    assert done.status == 2
    assert "the artefact has no calibration" in done.error


def test_another_model(run: Any, ruined: Path, digits: Path, onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(1, 8, 8)
    net.conv("x", 1, 4)
    other = net.save(tmp_path, net.nodes[-1].output[0])
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 8, 8), np.float32))
    done = run("debug", ruined, "--model", other, "--data", tmp_path / "x.npz")
    assert done.status == 2
    assert "the artefact is of another model" in done.error
