"""The process that speaks to the board: TVM's RPC client knows no deadline, but it can be killed.

Started as ``python -m tvm_probq.board.worker``: requests come on standard input, answers go to
standard output.  It ends with the process that started it, whatever it waits for.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import sys
import threading
from typing import IO, Any

import numpy as np
import tvm
from tvm import rpc
from tvm.runtime import vm

from tvm_probq.board.wire import Arrays, receive, send
from tvm_probq.board.words import DIED, EXPIRED, FAILED, NO_KEY

Message = dict[str, Any]
MAIN, TIMED = "main", "probq_timed"
KERNELS = "probq.board.kernels."
# TVM's words for a connection that ends: while it waits for an answer, and while it sends.
BROKEN = ("RPCCode::kReturn) is false", "RPCCode::kCopyAck) is false", "Socket SockChannel")


class Worker:
    """One session, and the models that are loaded in it."""

    def __init__(self) -> None:
        self._session: Any = None
        self._models: dict[str, vm.VirtualMachine] = {}

    def answer(self, message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """Do what a message asks; what goes wrong is the answer's ``failure``."""
        try:
            answer: tuple[Message, Arrays] = getattr(self, f"do_{message['do']}")(message, arrays)
            return answer
        # TVM raises what it likes: it is told, and judged by the other end.
        except Exception as error:  # noqa: BLE001
            text = f"{type(error).__name__}: {error}"
            return {"failure": kind_of(text), "why": last_line(str(error) or text)}, {}

    def do_connect(self, message: Message, _arrays: Arrays) -> tuple[Message, Arrays]:
        """Begin a session; waits for the board while others have it."""
        self._forget()
        self._session = rpc.connect(message["host"], message["port"], message["key"])
        return {"number": int(self._session.get_function("probq.board.session")())}, {}

    def do_load(self, message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """Upload a library, compare it with what has arrived, load it, and remove the file."""
        name = self._upload_library(message, arrays)
        module = self._session.load_module(name)
        # A mapped library needs its file's name no longer.
        self._session.remove(name)
        self._models[message["name"]] = vm.VirtualMachine(module, self._session.cpu(0))
        return {}, {}

    def do_run(self, message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """Run one batch; the arrays are in the order of the inputs."""
        model = self._models[message["name"]]
        model.set_input(MAIN, *self._tensors(arrays))
        model.invoke_stateful(MAIN)
        outputs = model.get_outputs(MAIN)
        outputs = [outputs] if isinstance(outputs, tvm.runtime.Tensor) else list(outputs)
        return {}, {str(index): output.numpy() for index, output in enumerate(outputs)}

    def do_prepare(self, message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """Set the inputs that are timed."""
        model = self._models[message["name"]]
        model.save_function(MAIN, TIMED, *self._tensors(arrays), include_return=False)
        return {}, {}

    def do_time(self, message: Message, _arrays: Arrays) -> tuple[Message, Arrays]:
        """Time prepared inputs on the board's clock."""
        timer = self._models[message["name"]].time_evaluator(
            TIMED, self._session.cpu(0), number=message["number"], repeat=message["repeat"]
        )
        return {"seconds": [float(value) for value in timer().results]}, {}

    def do_threads(self, message: Message, _arrays: Arrays) -> tuple[Message, Arrays]:
        """Set the threads of the session."""
        big_cores = 1
        self._session.get_function("runtime.config_threadpool")(big_cores, message["count"])
        return {}, {}

    def do_share(self, _message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """Set the arrays that all kernels take."""
        self._upload_arrays("shared.npz", arrays)
        self._kernels("share")("shared.npz")
        self._session.remove("shared.npz")
        return {}, {}

    def do_kernel(self, message: Message, arrays: Arrays) -> tuple[Message, Arrays]:
        """Upload a kernel with the arguments that it shares with no other, and load it."""
        files = [self._upload_library(message, arrays), f"{message['name']}.npz"]
        self._upload_arrays(files[1], {k: v for k, v in arrays.items() if k != "library"})
        self._kernels("load")(message["name"], message["order"])
        for file in files:
            self._session.remove(file)
        return {}, {}

    def do_output(self, message: Message, _arrays: Arrays) -> tuple[Message, Arrays]:
        """Run a kernel once; what it gives."""
        content = bytes(self._kernels("run")(message["name"]))
        return {}, {"output": np.load(io.BytesIO(content))}

    def do_rounds(self, message: Message, _arrays: Arrays) -> tuple[Message, Arrays]:
        """Time kernels in turn."""
        names, rounds, threads = (message[key] for key in ("names", "rounds", "threads"))
        return {"times": json.loads(str(self._kernels("time")(names, rounds, threads)))}, {}

    def do_close(self, _message: Message, _arrays: Arrays) -> tuple[Message, Arrays]:
        """End the session; the board is free at once."""
        self._forget()
        return {}, {}

    def _tensors(self, arrays: Arrays) -> list[tvm.runtime.Tensor]:
        device = self._session.cpu(0)
        return [tvm.runtime.tensor(array, device) for array in arrays.values()]

    def _kernels(self, name: str) -> Any:
        return self._session.get_function(KERNELS + name)

    def _upload_library(self, message: Message, arrays: Arrays) -> str:
        """Upload a library, and compare it with what has arrived; gives its name there."""
        name = f"{message['name']}.so"
        self._session.upload(bytearray(arrays["library"].tobytes()), name)
        arrived = str(self._session.get_function("probq.board.sha256")(name))
        if arrived != message["sha256"]:
            raise OSError("the upload arrived damaged or cut short, as on a full disk")
        return name

    def _upload_arrays(self, name: str, arrays: Arrays) -> None:
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        self._session.upload(bytearray(content.getvalue()), name)

    def _forget(self) -> None:
        self._models.clear()
        session, self._session = self._session, None
        if session is not None:
            # Otherwise the board is busy until Python has collected all that refers to the session.
            with contextlib.suppress(RuntimeError):
                session._sess["CloseRPCConnection"]()


def kind_of(text: str) -> str:
    """Say what an error of TVM's RPC means."""
    if "RPCSessionTimeoutError" in text:
        return EXPIRED
    if any(sign in text for sign in BROKEN):
        return DIED
    return NO_KEY if "cannot find server that matches key" in text else FAILED


def last_line(text: str) -> str:
    """Give the sentence of an error that comes with a traceback of the board."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text


def main() -> None:
    """Serve standard input; what anything else prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.SimpleQueue[tuple[Message, Arrays]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    worker = Worker()
    send(answers, {"ready": True}, {})
    while True:
        send(answers, *worker.answer(*requests.get()))


def _listen(stream: IO[bytes], requests: queue.SimpleQueue[tuple[Message, Arrays]]) -> None:
    """Pass requests on, and end the process with its parent, also while a call to TVM waits."""
    with contextlib.suppress(EOFError):
        while True:
            requests.put(receive(stream))
    os._exit(0)


if __name__ == "__main__":
    main()
