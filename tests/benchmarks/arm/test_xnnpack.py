"""That XNNPACK ran the whole graph is told from the functions that were counted."""

from __future__ import annotations

import numpy as np
import pytest
from arm import xnnpack
from arm.counting import Count

from tvm_probq.errors import UsageError

COUNT = Count(1000.0, 0.0, {}, "", np.zeros((1, 1)))
LITERT = "libpywrap_litert_common.so"


@pytest.mark.parametrize(
    ("functions", "complaint"),
    [
        ({("xnn_gemm", LITERT): 990, ("main", "python3.11"): 10}, ""),
        ({("xnn_gemm", LITERT): 700, ("f", "python3.11"): 300}, "70.0% of the instructions"),
        ({("ruy::Kernel", LITERT): 1000}, "XNNPACK did not run"),
        (
            {("xnn_gemm", LITERT): 990, ("tflite::ops::builtin::pad::Eval", LITERT): 10},
            "pad::Eval ran",
        ),
    ],
)
def test_a_graph_that_is_not_whole_is_refused(
    functions: dict[tuple[str, str], float], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xnnpack, "by_function", lambda *_: functions)
    if not complaint:
        xnnpack.check_delegated(COUNT)
        return
    with pytest.raises(UsageError) as error:
        xnnpack.check_delegated(COUNT)
    assert complaint in str(error.value)
