"""What errors of TVM's RPC mean."""

from __future__ import annotations

import pytest

from tvm_probq.board.words import DIED, EXPIRED, FAILED, NO_KEY
from tvm_probq.board.worker import Worker, kind_of, last_line


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("InternalError: Check failed: (code == RPCCode::kReturn) is false: code=kShutdown", DIED),
        ("InternalError: Check failed: (code == RPCCode::kReturn) is false: code=1", DIED),
        ("Check failed: (HandleUntilReturnEvent(true, f) == RPCCode::kReturn) is false: ", DIED),
        ("InternalError: Socket SockChannel::Send Error:Broken pipe", DIED),
        ("InternalError: Socket SockChannel::Recv Error:Connection reset by peer", DIED),
        ("RPCSessionTimeoutError: the session has used up its 2 s", EXPIRED),
        ("InternalError: URL pi:1 cannot find server that matches key=client:x", NO_KEY),
        ("RPCError: Check failed: shapes differ", FAILED),
        ("OSError: the upload arrived damaged", FAILED),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_the_last_sentence_of_a_traceback() -> None:
    assert last_line("Traceback:\n  File x\n\nthe reason\n\n") == "the reason"
    assert last_line("") == ""


def test_what_goes_wrong_is_an_answer() -> None:
    answer, arrays = Worker().answer({"do": "run", "name": "nothing"}, {})
    assert (answer["failure"], arrays) == (FAILED, {})
    assert "nothing" in answer["why"]
