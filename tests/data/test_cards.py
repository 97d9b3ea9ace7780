"""Cards: what they give, and what is said about faulty ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_probq.data.cards import Preprocess, load_card
from tvm_probq.errors import DataError

MakeCard = Callable[[str], Path]


def test_a_card_gives_checked_absolute_paths(card_path: Path) -> None:
    card = load_card(str(card_path))
    assert card.name == "card"
    assert card.task == "classification"
    assert card.model == card_path.parent / "model.onnx"
    assert card.evaluation == card_path.parent / "evaluation.npz"
    assert card.preprocess == Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert (card.metric, card.float_value) == ("top1", 0.9)


def test_the_float_reference_is_optional(card_path: Path) -> None:
    text = card_path.read_text().split("[float_reference]")[0]
    card_path.write_text(text)
    card = load_card(card_path)
    assert (card.metric, card.float_value) == ("", None)


def test_a_language_model_needs_no_preprocessing(card_path: Path) -> None:
    text = card_path.read_text().split("[preprocess]")[0]
    card_path.write_text(text.replace("classification", "language-model"))
    assert load_card(card_path).preprocess is None


def test_factor_and_bgr_are_read(card_path: Path) -> None:
    text = card_path.read_text().replace("std", 'channels = "BGR"\nfactor')
    card_path.write_text(text)
    how = load_card(card_path).preprocess
    assert how is not None
    assert (how.channels, how.std, how.factor) == ("BGR", None, (0.2, 0.3, 0.4))


@pytest.mark.parametrize("key", ["task", "model", "calibration", "evaluation", "mean", "std"])
def test_a_missing_key_is_named(card_path: Path, key: str) -> None:
    lines = card_path.read_text().splitlines()
    seen = [line for line in lines if line.startswith(f"{key} ")][:1]
    card_path.write_text("\n".join(line for line in lines if line not in seen))
    with pytest.raises(DataError, match=f"'{key}'"):
        load_card(card_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"classification"', '"clasification"', "unknown.*classification, detection"),
        ('"classification"', "3", "'task' is 3, which is no str"),
        ('"model.onnx"', '"nothing.onnx"', "'model' names .*nothing.onnx, which is no existing"),
        ('"calibration.npz"', '["a.npz"]', "'calibration' is .*no str"),
        ("[0.5, 0.4, 0.3]", "0.5", "'mean' is 0.5, which is no list"),
        ("[0.5, 0.4, 0.3]", "[]", "'mean' is .*list of numbers"),
        ("[0.5, 0.4, 0.3]", '["a", 0.4, 0.3]', "'mean' is .*list of numbers"),
        ("[0.5, 0.4, 0.3]", "[nan, 0.4, 0.3]", "'mean' is .*list of numbers"),
        ("[0.5, 0.4, 0.3]", "[true, 0.4, 0.3]", "'mean' is .*list of numbers"),
        ("[0.2, 0.3, 0.4]", "[0.2, 0.3]", "'std' must have 3 values"),
        ("[0.2, 0.3, 0.4]", "[0.2, 0.0, 0.4]", "'std' must have 3 values.*none of them 0"),
        ('"NCHW"', '"NHWC"', "'layout' is 'NHWC'"),
        ("layout", "resise = 8\nlayout", "'resise' is unknown.*resize"),
        ("layout", "resize = 0\nlayout", "'resize' is 0"),
        ("layout", 'resize = "8"\nlayout', "'resize' is '8', which is no int"),
        ("layout", "resize = true\nlayout", "'resize' is True, which is no int"),
        ("layout", "factor = [1, 1, 1]\nlayout", "'std' or factor.*only one"),
        ("evaluation = 0.9", 'evaluation = "good"', "'evaluation' is 'good', which is no number"),
        ("[preprocess]", "[processing]", "'preprocess' is missing"),
        ('task = "', "task = ", "no valid TOML.*line 1"),
    ],
)
def test_a_faulty_value_is_explained(card_path: Path, old: str, new: str, message: str) -> None:
    text = card_path.read_text()
    assert old in text
    card_path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        load_card(card_path)
    assert str(card_path) in str(caught.value)
    assert "What to do" in str(caught.value)


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_card(path)


def test_a_binary_file_is_no_card(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no valid TOML"):
        load_card(path)


def test_a_folder_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_card(tmp_path)


def test_every_shared_card_loads(shared_data: Path) -> None:
    cards = [load_card(path) for path in sorted((shared_data / "cards").glob("*.toml"))]
    assert {card.task for card in cards} == {"classification", "detection", "language-model"}
    assert all(card.float_value for card in cards)
