# %% [markdown]
# # An ARM board over RPC
#
# Quantize on a workstation, run on a 64-bit ARM board. Nothing here needs hardware: without an
# address the board is an emulated one (`make board` makes it, once). With the address of a real
# board, on which `tvm-probq board serve` runs, the same code runs there:
#
#     python tutorials/04_arm_rpc.py 127.0.0.1:9090
#
# The server listens on the board's own loopback, for TVM's RPC knows no password: reach it through
# an ssh tunnel, `ssh -N -L 9090:127.0.0.1:9090 USER@BOARD`.

# %%
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tvm_probq.board.address import Address, parse
from tvm_probq.board.runner import RemoteRunner
from tvm_probq.build.artefact import load_artefact, save_artefact
from tvm_probq.build.compile import compile_model, quantized
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.errors import BoardError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.runtime.runner import Runner
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import host_profile, load_profile

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else ""
TARGET = sys.argv[2] if len(sys.argv) > 2 else "arm-a76"  # `tvm-probq targets` lists the others
REPOSITORY = Path(__file__).resolve().parents[1]

# %% [markdown]
# ## Compile for the board
#
# Calibration does not depend on the target: one record serves all. The profile says which
# instructions the code may use; here the dot product `sdot`, which a Raspberry Pi 5 has. A linker
# for the board must be installed here (`gcc-aarch64-linux-gnu`, or `pip install ziglang`).

# %%
calibration_images, images, labels = load_split()
model = load_model(MODEL_PATH)
record = CalibrationRecord(model.sha256, "digits")
collect(model.mod, (image[None] for image in calibration_images), record)
plan = plan_of("w8a8p")
folder = tempfile.TemporaryDirectory()
artefacts = []
for profile in (load_profile(TARGET), host_profile()):
    compiled = compile_model(model, plan, record, profile)
    path = Path(folder.name, f"{profile.name}.probq")
    save_artefact(compiled, plan, record, profile, path, model_sha256=model.sha256)
    artefacts.append(load_artefact(path, to_run=False))
ours, here = artefacts
instructions = {layer.instruction for layer in ours.manifest.layers if layer.instruction}
print(f"{TARGET}: a library of {len(ours.library)} bytes, products by {sorted(instructions)}")

# %% [markdown]
# ## A board
#
# The emulated one is a process that speaks TVM's RPC, as a real board does. It ends with its
# standard input, so it cannot be forgotten.

# %%
server = None
if not ADDRESS:
    board = Path(os.environ.get("PROBQ_BOARD", REPOSITORY / ".board"))
    if not (board / "board-python").exists():
        sys.exit(f"there is no emulated board in {board}: run `make board`, or give HOST:PORT")
    port = Path(folder.name, "port")
    cpu = {"arm-a53": "cortex-a53", "arm-a72": "cortex-a72", "arm-v1": "max"}
    program = REPOSITORY / "tvm_probq" / "board" / "server"
    server = subprocess.Popen(
        [board / "board-python", program, "--port", "0", "--port-file", port, "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ARM_BOARD_CPU": cpu.get(TARGET, "cortex-a76")},
    )
    end = time.monotonic() + 60
    while not port.exists() and time.monotonic() < end and server.poll() is None:
        time.sleep(0.1)
    ADDRESS = f"127.0.0.1:{port.read_text()}"
address = Address(*parse(ADDRESS))

# %% [markdown]
# ## Run
#
# Before anything is uploaded, the client asks what the board is and compares it with the artefact:
# architecture, features of its CPU, version of TVM. Every call has a deadline. `RemoteRunner` has
# the interface of `Runner`, and the board gives the same bits as this machine and as the NumPy
# simulator.

# %%
count = 64
with RemoteRunner(ours, address) as remote, Runner(here) as local:
    print(
        f"the board is {remote.facts.architecture} with {', '.join(sorted(remote.facts.features))}"
    )
    (there,), (reference,) = remote.run(images[:count]), local.run(images[:count])
    accuracy = np.mean(there.argmax(1) == labels[:count])
    times = remote.latency_s({remote.inputs[0][0]: images[:1]}, repeat=5)
print(f"{count} images: {accuracy:.1%} right, median {1e3 * statistics.median(times):.2f} ms each")
assert np.array_equal(there, reference), "the board gives the bits of this machine"
simulated = Simulator(quantized(model, plan, record))(images[:1])
assert np.array_equal(simulated, there[:1]), "and those of the simulator"

# %% [markdown]
# ## What does not fit is refused
#
# An artefact for this machine never reaches the board. `tvm-probq deploy` does all of this in one
# command; see docs/boards.md for what goes wrong and what is said then.

# %%
try:
    RemoteRunner(here, address)
except BoardError as error:
    print(f"refused: {error}")
    refused = True
else:
    refused = False
assert refused == (here.manifest.target.architecture != ours.manifest.target.architecture)

# %%
if server is not None:
    server.stdin.close()
    server.wait()
folder.cleanup()
