"""Messages with arrays."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tvm_probq.board.wire import receive, send

ARRAYS = {
    "image": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
    "number": np.asarray(3, np.int64),
    "none": np.empty((0, 4), np.uint8),
    "flags": np.asarray([True, False]),
    "half": np.asarray([0.5, np.nan], np.float16),
}


def test_what_is_sent_arrives() -> None:
    stream = io.BytesIO()
    send(stream, {"do": "run", "name": "ä"}, ARRAYS)
    send(stream, {"do": "close"}, {})
    stream.seek(0)
    message, arrays = receive(stream)
    assert message == {"do": "run", "name": "ä"}
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        assert np.array_equal(array, ARRAYS[name], equal_nan=name == "half")
        assert array.shape == ARRAYS[name].shape
    assert receive(stream) == ({"do": "close"}, {})


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_a_message_that_is_cut_short(kept: int) -> None:
    stream = io.BytesIO()
    send(stream, {"do": "run"}, ARRAYS)
    with pytest.raises(EOFError):
        receive(io.BytesIO(stream.getvalue()[:kept]))
