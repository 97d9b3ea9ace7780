# %% [markdown]
# # A CUDA device
#
# The same graph and the same numbers on an NVIDIA GPU: int8 tensor cores, and predictions that run
# on the device between the layers. Compiling needs no GPU, so this runs anywhere; with a GPU it
# also runs the network there.

# %%
import tempfile
from pathlib import Path

import numpy as np
import tvm

from tvm_probq.build.artefact import DEVICE_IMAGE, DEVICE_SOURCE, load_artefact, save_artefact
from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.errors import EnvironmentProblem
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.runtime.runner import Runner
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

# %% [markdown]
# ## Compile for a GPU
#
# A profile names the architecture: `cuda-sm75` (T4), `cuda-sm80` (A100), `cuda-sm86`, `cuda-sm89`,
# `cuda-sm90` (H100) and `cuda-orin`. Calibration does not depend on it.

# %%
calibration_images, images, _ = load_split()
model = load_model(MODEL_PATH)
record = CalibrationRecord(model.sha256, "digits")
collect(model.mod, (image[None] for image in calibration_images), record)
plan, profile = plan_of("w8a8p"), load_profile("cuda-sm80")
compiled = compile_model(model, plan, record, profile)
for layer in compiled.layers:
    print(f"{layer.name:10} {layer.op:10} {layer.surrogate:14} {layer.instruction}")
assert {"mma.sync", "dp4a"} <= {layer.instruction for layer in compiled.layers}
assert all(layer.stored_bytes == 0 for layer in compiled.layers)  # no 32-bit tensor in memory

# %% [markdown]
# ## What is in the artefact
#
# The host's library starts the kernels; their CUDA C++ is there to be read. If nvcc is installed
# here, so is their machine code; if not, the machine that loads the artefact compiles them.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "digits.probq")
    save_artefact(compiled, plan, record, profile, path, model_sha256=model.sha256)
    artefact = load_artefact(path)
source = artefact.members[DEVICE_SOURCE].decode()
calls = [line.strip() for line in source.splitlines() if "probq::dense<" in line]
print(calls[0][:120])
print("machine code inside:", DEVICE_IMAGE in artefact.members)
assert calls

# %% [markdown]
# ## Run it
#
# The simulator defines the numbers, on every target. Without a device the message says what is
# missing.

# %%
batch = images[:1].astype(np.float32)
wanted = Simulator(compiled.integer_module)(batch)
try:
    with Runner(artefact) as runner:
        (logits,) = runner.run(batch)
    same, found = np.array_equal(logits, np.asarray(wanted)), tvm.cuda(0).device_name
except EnvironmentProblem as problem:
    same, found = "CUDA" in str(problem), str(problem)
print(found)
assert same  # the simulator's bits, or words on what is missing
