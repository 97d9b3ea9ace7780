"""Calibration samples and their identity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tvm_probq.cli import samples
from tvm_probq.data.cards import load_card
from tvm_probq.errors import DataError, UnsupportedError

FORM = ("image", (1, 1, 8, 8), "float32")


def test_a_card_and_ready_inputs_give_the_same_values(digits: Path) -> None:
    of_card = samples.of_card(load_card(digits / "card.toml"), FORM, 20)
    of_arrays = samples.of_arrays(digits / "inputs.npz", FORM, 20)
    pairs = list(zip(of_card.stream(), of_arrays.stream(), strict=True))
    assert len(pairs) == of_card.count == of_arrays.count == 20
    assert all(a.shape == b.shape == (1, 1, 8, 8) for a, b in pairs)
    assert all(np.allclose(a, b, atol=0.01) for a, b in pairs)


def test_a_stream_can_be_read_again(digits: Path) -> None:
    source = samples.of_arrays(digits / "inputs.npz", FORM, 5)
    first, second = list(source.stream()), list(source.stream())
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_more_than_there_are_is_all(digits: Path) -> None:
    source = samples.of_arrays(digits / "inputs.npz", FORM, 1000)
    assert source.count == len(list(source.stream())) == 40


def test_the_identity_is_of_the_values_not_of_their_number(digits: Path, tmp_path: Path) -> None:
    path = digits / "inputs.npz"
    few, many = (samples.of_arrays(path, FORM, n).identity for n in (3, 30))
    assert few == many
    np.savez(tmp_path / "other.npz", image=np.zeros((2, 1, 8, 8), np.float32))
    assert samples.of_arrays(tmp_path / "other.npz", FORM, 3).identity != few


def test_the_preprocessing_is_part_of_the_identity(digits: Path, tmp_path: Path) -> None:
    text = (digits / "card.toml").read_text().replace("std = [1.0]", "std = [2.0]")
    for name in ("calibration", "evaluation"):
        (tmp_path / f"{name}.npz").write_bytes((digits / f"{name}.npz").read_bytes())
    (tmp_path / "card.toml").write_text(text)
    cards = (load_card(folder / "card.toml") for folder in (digits, tmp_path))
    one, other = (samples.of_card(card, FORM, 3).identity for card in cards)
    assert one != other


def test_chance_is_the_same_every_time_and_marked() -> None:
    one, same, other = (samples.of_chance(FORM, 2, seed) for seed in (1, 1, 2))
    first, again, different = (np.concatenate(list(s.stream())) for s in (one, same, other))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, different)
    assert first.shape == (2, 1, 8, 8)
    assert first.dtype == np.float32
    assert one.identity == same.identity != other.identity
    assert one.identity.startswith(samples.RANDOM)


def test_chance_gives_no_indices() -> None:
    with pytest.raises(UnsupportedError, match="takes int64, for which random values cannot"):
        samples.of_chance(("ids", (1, 4), "int64"), 2, 0)


def test_several_inputs_or_a_fixed_batch_are_explained() -> None:
    assert samples.only_input((FORM,), "m") == FORM
    with pytest.raises(UnsupportedError, match=r"m: the model has 2 inputs \('image', 'b'\)"):
        samples.only_input((FORM, ("b", (1,), "float32")), "m")
    with pytest.raises(UnsupportedError, match="the input 'image' has the fixed batch 4"):
        samples.only_input((("image", (4, 3), "float32"),), "m")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x", np.zeros((3, 1, 8, 8), "f4"), r"no array 'image', only \['x'\].*store the model's"),
        ("image", np.zeros((3, 1, 9, 8), "f4"), r"float32 of shape \[1, 9, 8\].*shape \[1, 8, 8\]"),
        ("image", np.zeros((3, 1, 8, 8)), r"the samples are float64 .*'image' is float32"),
        ("image", np.full((3, 1, 8, 8), np.nan, "f4"), "sample 0 contains NaN, and 2 more"),
        ("image", np.full((3, 1, 8, 8), np.inf, "f4"), "sample 0 contains infinity"),
        ("image", np.zeros((0, 1, 8, 8), "f4"), "there are no samples"),
    ],
)
def test_bad_arrays_are_explained(
    tmp_path: Path, name: str, array: np.ndarray, message: str
) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, **{name: array})
    with pytest.raises(DataError, match=rf"inputs\.npz.*{message}"):
        list(samples.of_arrays(path, FORM, 10).stream())
