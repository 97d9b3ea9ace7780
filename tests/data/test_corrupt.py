"""Corruptions: byte for byte the reference's, batch by batch."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tvm_probq.data.corrupt import Corruption, corrupt, parse_corruption
from tvm_probq.data.corruption_kinds import KINDS
from tvm_probq.errors import DataError, UsageError

ALL = [Corruption(kind, severity) for kind in KINDS for severity in range(1, 6)]
SMALL = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
# Not square, and above the side where the second table of amounts begins.
LARGE = np.random.default_rng(2).integers(0, 256, (2, 80, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> ModuleType:
    """The definition of the corruptions, beside the shared sets."""
    spec = importlib.util.spec_from_file_location("reference", shared_data / "corrupt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("corruption", ALL, ids=str)
def test_bytes_equal_the_references(reference: ModuleType, corruption: Corruption) -> None:
    images = [SMALL] if corruption.kind == "fog" else [SMALL, LARGE]
    for x in images:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = reference.corrupt(x, corruption.kind, corruption.severity)
        result = corrupt(x, corruption)
        assert result.dtype == np.uint8
        assert np.array_equal(result, expected)


def test_shared_images_equal_the_references(reference: ModuleType, shared_data: Path) -> None:
    with np.load(shared_data / "sets" / "imagenet1k_224_calib.npz") as data:
        x = data["x"][:1]
    for kind in KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = reference.corrupt(x, kind, 3)
        assert np.array_equal(corrupt(x, Corruption(kind, 3)), expected)


def test_the_kinds_are_the_references(reference: ModuleType) -> None:
    assert KINDS == reference.KINDS


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("contrast", "0b1924eead845fc6"),
        ("darkness", "18a8c8dd0417958c"),
        ("impulse_noise", "e3ddb0e28d5c7166"),
    ],
)
def test_bytes_are_known_without_the_reference(kind: str, digest: str) -> None:
    result = corrupt(SMALL, Corruption(kind, 3))
    assert hashlib.sha256(result.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("corruption", ALL[::5], ids=str)
def test_batches_give_what_the_whole_set_gives(corruption: Corruption) -> None:
    parts = [corrupt(SMALL[:1], corruption), corrupt(SMALL[1:], corruption, first=1)]
    assert np.array_equal(np.concatenate(parts), corrupt(SMALL, corruption))


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_are_not_square_keep_their_shape(kind: str) -> None:
    assert corrupt(LARGE, Corruption(kind, 5)).shape == LARGE.shape


def test_severity_zero_gives_an_unchanged_copy() -> None:
    result = corrupt(SMALL, Corruption("fog", 0))
    assert np.array_equal(result, SMALL)
    assert not np.shares_memory(result, SMALL)


def test_inputs_stay_as_they_are() -> None:
    before = SMALL.copy()
    for kind in KINDS:
        corrupt(SMALL, Corruption(kind, 5))
    assert np.array_equal(SMALL, before)


@pytest.mark.parametrize("x", [SMALL.astype(np.float32), SMALL[0], SMALL[..., :1]])
def test_other_data_is_refused(x: np.ndarray) -> None:
    with pytest.raises(DataError, match="cannot be corrupted"):
        corrupt(x, Corruption("fog", 1))


def test_parsing() -> None:
    assert parse_corruption("contrast:3") == Corruption("contrast", 3)
    assert str(parse_corruption("gaussian_noise:0")) == "gaussian_noise:0"


@pytest.mark.parametrize(
    "text", ["", "fog", "fog:", "fog:6", "fog:-1", "fog:1.5", "fog:x", "fogg:1", "fog:1:2", ":1"]
)
def test_a_faulty_corruption_lists_the_kinds(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_corruption(text)
    message = str(caught.value)
    assert all(kind in message for kind in KINDS)
    assert repr(text) in message
