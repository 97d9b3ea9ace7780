"""The smooth activations as device code: the same steps as on CPUs, written in C++."""

from __future__ import annotations

import numpy as np

from tvm_probq.kernels.smooth import emit_smooth
from tvm_probq.simulator.smooth import SMOOTH


class _Text:
    """An expression of C++."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __add__(self, other: _Text) -> _Text:
        return _Text(f"sum({self.text}, {other.text})")

    def __sub__(self, other: _Text) -> _Text:
        return _Text(f"sum({self.text}, -{other.text})")

    def __mul__(self, other: _Text) -> _Text:
        return _Text(f"product({self.text}, {other.text})")

    def __truediv__(self, other: _Text) -> _Text:
        return _Text(f"quotient({self.text}, {other.text})")


class _Steps:
    """`tvm_probq.kernels.smooth.Steps` that write lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def const(self, value: float, like: _Text) -> _Text:
        return _Text(f"{float(np.float32(value)).hex()}f")

    def keep(self, value: _Text) -> _Text:
        return self._named("float", value.text)

    def fma(self, a: _Text, b: _Text, c: _Text) -> _Text:
        return _Text(f"fma({a.text}, {b.text}, {c.text})")

    def bounded(self, value: _Text, limit: float) -> _Text:
        return _Text(f"bounded({value.text}, {self.const(limit, value).text})")

    def whole(self, value: _Text) -> tuple[_Text, _Text]:
        integer = self._named("int", f"whole({value.text})")
        return _Text(f"(float){integer.text}"), integer

    def power(self, exponent: _Text) -> _Text:
        return _Text(f"power({exponent.text})")

    def _named(self, kind: str, text: str) -> _Text:
        name = f"v{len(self.lines)}"
        self.lines.append(f"    const {kind} {name} = {text};")
        return _Text(name)


def smooth_source() -> str:
    """A class for each smooth activation."""
    return "\n".join(["namespace probq {", *map(_class_of, SMOOTH), "}  // namespace probq", ""])


def _class_of(kind: str) -> str:
    steps = _Steps()
    result = emit_smooth(kind, _Text("v"), steps)
    lines = [
        "",
        f"struct {kind.capitalize()} {{",
        "  static constexpr bool linear = false;",
        "  static constexpr bool sixth = false;",
        "  static __device__ float apply(float v) {",
        *steps.lines,
        f"    return {result.text};",
        "  }",
        "};",
    ]
    return "\n".join(lines)
