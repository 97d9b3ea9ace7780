"""The table of layers beside the peak."""

from __future__ import annotations

from gpu.layers import LayerTime
from gpu.tables import HEADERS, percent, rows_of, tensor_share
from layer_cases import layer

from tvm_probq.tuning.tasks import Task


def times() -> list[LayerTime]:
    first, second = layer(10, 10, 100, 100), layer(10, 10, 100, 50)  # 1 and 0.5 MMAC
    return [
        LayerTime(Task("first", first, 2), "mma.sync", 10.0, 20.0),
        LayerTime(Task("second", second, 1), "mma.sync", 20.0, None),
        LayerTime(Task("third", second, 1), "", 5.0, None),
    ]


def test_layers_come_first_and_instructions_behind() -> None:
    rows = rows_of(times(), 0.2)
    assert all(len(row) == len(HEADERS) for row in rows)
    assert rows == [
        ["first", "2", "1.00", "mma.sync", "10.00", "0.10", "50.0 %", "20.00", "0.50"],
        ["second", "1", "0.50", "mma.sync", "20.00", "0.02", "12.5 %", "", ""],
        ["third", "1", "0.50", "none", "5.00", "0.10", "50.0 %", "", ""],
        # 2 x 1 + 0.5 MMAC in 2 x 10 + 20 us; the peer's layer 2 x 10 us against 2 x 20 us
        ["all", "3", "2.50", "mma.sync", "40.00", "0.06", "31.2 %", "40.00", "0.50"],
        ["all", "1", "0.50", "none", "5.00", "0.10", "50.0 %", "", ""],
    ]


def test_the_share_is_that_of_tensor_cores() -> None:
    found = tensor_share(times(), 0.2)
    assert found is not None
    assert abs(found - 2.5 / 40 / 0.2) < 1e-12
    assert tensor_share(times()[2:], 0.2) is None


def test_a_device_without_tensor_cores_has_no_share() -> None:
    assert tensor_share(times(), None) is None
    assert [row[6] for row in rows_of(times(), None)] == [""] * 5
    assert percent(2e6, 10.0, None) == ""
    assert percent(2e6, 10.0, 0.4) == "50.0 %"
