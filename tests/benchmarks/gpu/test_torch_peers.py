"""PyTorch's part of the benchmark: skipped with a reason, and its calls on a made-up PyTorch."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from gpu import torch_peers


class Matrix:
    """Knows its shape, and whether it is stored by columns."""

    def __init__(self, shape: tuple[int, ...], by_columns: bool = False) -> None:
        self.shape, self.by_columns = shape, by_columns

    def t(self) -> Matrix:
        return Matrix(self.shape[::-1], not self.by_columns)


class Torch(ModuleType):
    """A PyTorch whose products take a microsecond each."""

    int8 = "int8"

    def __init__(self, available: bool = True) -> None:
        super().__init__("torch")
        self.products: list[tuple[Matrix, Matrix]] = []
        self.waits = 0
        now = self.products

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = len(now)

            def elapsed_time(self, end: Any) -> float:
                return (end.at - self.at) * 1e-3

        self.cuda = SimpleNamespace(
            is_available=lambda: available, Event=Event, synchronize=lambda: None, _sleep=self._wait
        )

    def _wait(self, cycles: int) -> None:
        assert cycles > 0
        self.waits += 1

    def randint(self, low: int, high: int, shape: Any, *, dtype: str, device: str) -> Matrix:
        assert (low, high, dtype, device) == (-128, 128, "int8", "cuda")
        return Matrix(shape)

    def _int_mm(self, a: Matrix, b: Matrix) -> None:
        self.products.append((a, b))


def test_products_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    peer = torch_peers.int8_products()
    assert peer is not None
    assert peer((64, 16, 32)) == pytest.approx(1.0)
    a, b = torch.products[0]
    assert (a.shape, b.shape, a.by_columns, b.by_columns) == ((64, 16), (16, 32), False, True)
    turns = torch_peers.WARM_UP + torch_peers.ROUNDS
    assert torch.waits == turns
    assert len(torch.products) == turns * torch_peers.CALLS


def test_without_a_device_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", Torch(available=False))
    assert torch_peers.int8_products() is None
    assert "no CUDA device" in capsys.readouterr().out


def test_without_pytorch_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert torch_peers.int8_products() is None
    assert torch_peers.network("resnet50", 1, 224, 1) == {}
    assert capsys.readouterr().out.count("not installed") == 2
