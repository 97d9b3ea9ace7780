"""Data sets: streaming, and what is said about faulty ones."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tvm_probq.data.cards import load_card
from tvm_probq.data.corrupt import Corruption, corrupt
from tvm_probq.data.preprocess import preprocess
from tvm_probq.data.sets import model_inputs, open_set
from tvm_probq.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
Y = np.arange(10)


@pytest.fixture(params=[np.savez, np.savez_compressed], ids=["stored", "compressed"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A set without faults."""
    path = tmp_path / "set.npz"
    request.param(path, x=X, y=Y)
    return path


def test_batches_give_the_whole_set_in_order(path: Path) -> None:
    samples = open_set(str(path))
    assert samples.count == 10
    batches = list(samples.batches(4))
    assert [batch.start for batch in batches] == [0, 4, 8]
    assert np.array_equal(np.concatenate([batch.x for batch in batches]), X)
    assert np.array_equal(np.concatenate([b.y for b in batches if b.y is not None]), Y)
    assert all(batch.x.flags.writeable for batch in batches)


@pytest.mark.parametrize(
    ("size", "limit", "sizes"),
    [(4, 6, [4, 2]), (4, 4, [4]), (4, 99, [4, 4, 2]), (99, None, [10]), (1, 2, [1, 1])],
)
def test_batch_sizes(path: Path, size: int, limit: int | None, sizes: list[int]) -> None:
    assert [len(batch.x) for batch in open_set(path).batches(size, limit)] == sizes


def test_a_set_can_be_read_twice(path: Path) -> None:
    samples = open_set(path)
    first, second = (np.concatenate([b.x for b in samples.batches(3)]) for _ in range(2))
    assert np.array_equal(first, second)


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    path = tmp_path / "big.npz"
    np.savez_compressed(path, x=np.zeros((64, 1 << 18), np.uint8))  # 16 MiB of samples
    tracemalloc.start()
    total = sum(len(batch.x) for batch in open_set(path).batches(2))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 64
    assert peak_bytes < 6 << 20


def test_labels_are_optional(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=X)
    assert all(batch.y is None for batch in open_set(path).batches(4))


def test_big_endian_samples_come_in_native_order(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=np.arange(4, dtype=">f4"))
    (batch,) = open_set(path).batches(4)
    assert batch.x.dtype == np.dtype("=f4")
    assert np.array_equal(batch.x, np.arange(4))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X}, r"no array 'x', only \['images'\]"),
        ({"x": X[:0]}, "there are no samples"),
        ({"x": X[:, :0]}, "samples are empty"),
        ({"x": np.array(3)}, "a single number"),
        ({"x": X, "y": Y[:4]}, "10 samples but labels of shape"),
        ({"x": X, "y": np.array(1)}, "10 samples but labels of shape"),
        ({"x": X.astype(np.complex64)}, "element type complex64"),
        ({"x": np.array(["a", "b"])}, "element type <U1"),
    ],
)
def test_a_faulty_set_is_explained(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        open_set(path)
    assert str(path) in str(caught.value)


def test_python_objects_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=np.array([{}, []], dtype=object))
    with pytest.raises(DataError, match="nothing is ever unpickled"):
        open_set(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.npz"):
        open_set(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"no zip file at all", b"PK\x03\x04 hardly"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no valid npz"):
        open_set(path)


def test_a_truncated_file_is_refused(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        open_set(path)


def test_a_changed_byte_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(open_set(path).batches(4))


def test_column_order_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=np.asfortranarray(np.ones((4, 5))))
    with pytest.raises(DataError, match="Fortran"):
        list(open_set(path).batches(2))


@pytest.mark.parametrize(("size", "limit"), [(0, None), (-1, None), (2, 0)])
def test_sizes_must_be_positive(path: Path, size: int, limit: int | None) -> None:
    with pytest.raises(DataError, match="at least 1"):
        list(open_set(path).batches(size, limit))


def test_model_inputs_are_corrupted_then_preprocessed(card_path: Path) -> None:
    card = load_card(card_path)
    assert card.preprocess is not None
    with np.load(card.evaluation) as data:
        images, labels = data["x"], data["y"]
    corruption = Corruption("gaussian_noise", 3)
    batches = list(model_inputs(card, "evaluation", 2, corruption=corruption))
    expected = preprocess(corrupt(images, corruption), card.preprocess)
    assert np.array_equal(np.concatenate([batch.x for batch in batches]), expected)
    assert np.array_equal(np.concatenate([b.y for b in batches if b.y is not None]), labels)


def test_model_inputs_name_the_set_that_does_not_fit(card_path: Path) -> None:
    card = load_card(card_path)
    np.savez(card.calibration, x=X[..., :1])
    with pytest.raises(DataError, match=r"calibration\.npz: the images have 1 channels"):
        next(model_inputs(card, "calibration", 2))


def test_token_ids_pass_unchanged(shared_data: Path) -> None:
    card = load_card(shared_data / "cards" / "text_stories260k.toml")
    batch = next(model_inputs(card, "calibration", 4))
    with np.load(card.calibration) as data:
        assert np.array_equal(batch.x, data["x"][:4])
        assert batch.x.dtype == np.int64
