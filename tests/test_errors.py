"""The error hierarchy and its messages."""

from __future__ import annotations

import inspect
import pickle

import pytest

from tvm_probq import errors
from tvm_probq.errors import DataError, ModelError, ProbqError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ProbqError) and kind is not ProbqError
]


def test_message_joins_every_part() -> None:
    error = ModelError("the file is cut short", where="m.onnx", why="byte 9", fix="copy it again")
    assert str(error) == "m.onnx: the file is cut short: byte 9. What to do: copy it again"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "it broke"),
        ({"where": "here"}, "here: it broke"),
        ({"why": "a reason"}, "it broke: a reason"),
        ({"fix": "mend it"}, "it broke. What to do: mend it"),
        ({"why": "a sentence.", "fix": "mend it"}, "it broke: a sentence. What to do: mend it"),
    ],
)
def test_missing_parts_leave_no_trace(parts: dict[str, str], message: str) -> None:
    assert str(ProbqError("it broke", **parts)) == message


def test_full_stops_are_not_doubled() -> None:
    assert str(ProbqError("It broke.", why="so")) == "It broke: so"


def test_parts_stay_readable() -> None:
    error = DataError("what", where="where", why="why", fix="fix")
    assert (error.what, error.where, error.why, error.fix) == ("what", "where", "why", "fix")


def test_the_twelve_kinds_are_all_there_and_say_what_they_are() -> None:
    assert {kind.__name__ for kind in KINDS} == {
        "EnvironmentProblem",
        "ModelError",
        "UnsupportedError",
        "DataError",
        "CalibrationError",
        "PlanError",
        "TargetError",
        "KernelError",
        "TuningError",
        "ArtefactError",
        "BoardError",
        "UsageError",
    }
    assert all(kind.__doc__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_pass_between_processes(kind: type[ProbqError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="where", why="why", fix="fix")))
    assert type(error) is kind
    assert str(error) == "where: what: why. What to do: fix"
