# %% [markdown]
# # Quickstart: an ONNX model to a file that runs
#
# A float32 ONNX model and a few of its inputs go in, one file with an int8 module comes out. The
# network is the one bundled with the package (handwritten digits, 8x8 pixels); for your own, give
# `load_model` its path and `collect` a few dozen of its inputs. Everything below also exists as
# commands: `tvm-probq calibrate`, `compile`, `run`, `eval`, `inspect`.

# %%
import tempfile
from pathlib import Path

from tvm_probq.build.artefact import load_artefact, save_artefact
from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.metrics import sqnr_db, top1
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.runtime.float_model import FloatModel
from tvm_probq.runtime.runner import Runner
from tvm_probq.target.profile import host_profile

# %% [markdown]
# ## Import
#
# The module comes back in canonical form: BatchNorms folded, channels last, and a marker
# `R.probq.layer` behind every tensor that is to be stored in 8 bits.

# %%
calibration_images, images, labels = load_split()
model = load_model(MODEL_PATH)
print(f"inputs {model.inputs}, outputs {model.outputs}")

# %% [markdown]
# ## Calibrate
#
# Samples go through one at a time, so memory does not grow with their number. The record holds
# histograms for static ranges and, for each surrogate, what every candidate interval would have
# cost; it does not depend on bits or mode, so one record serves every plan below.

# %%
record = CalibrationRecord(model.sha256, "digits")
collect(model.mod, (image[None] for image in calibration_images), record)

# %% [markdown]
# ## Plan and compile
#
# `w8a8p`: 8-bit weights, 8-bit activations, ranges predicted from each layer's input before the
# layer runs. `s` is static, `d` dynamic: measured after the layer, which first stores its 32-bit
# output.

# %%
profile = host_profile()
plan = plan_of("w8a8p")
compiled = compile_model(model, plan, record, profile)

# %% [markdown]
# ## Save, load, run
#
# The artefact is one file: library, plan, calibration record and a manifest that loading checks.
# Any number of samples can be given; the runner splits them into batches of the compiled size.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "digits.probq")
    save_artefact(compiled, plan, record, profile, path, model_sha256=model.sha256)
    with Runner(load_artefact(path)) as runner:
        (logits,) = runner.run(images)

# %% [markdown]
# ## Compare with float
#
# The reference is the same model in float32.

# %%
(exact,) = FloatModel(model).run(images)
print(f"top-1: float {top1(exact, labels):.4f}, predicted {top1(logits, labels):.4f}")
print(f"signal-to-noise of the logits: {sqnr_db(exact, logits):.1f} dB")
assert top1(logits, labels) >= top1(exact, labels) - 0.01
assert sqnr_db(exact, logits) > 25

# %% [markdown]
# ## What prediction saves
#
# In predicted mode no 32-bit tensor is stored between a layer and its requantization; dynamic mode
# stores one a layer. The model's float32 output is no such tensor: it leaves the network.

# %%
dynamic = compile_model(model, plan_of("w8a8d"), record, profile)
for name, module in (("predicted", compiled), ("dynamic", dynamic)):
    stored = sum(layer.stored_bytes for layer in module.layers)
    print(f"{name}: 32-bit stored {stored} bytes, peak {module.peak_activation_bytes} bytes")
assert sum(layer.stored_bytes for layer in compiled.layers) == 0
assert compiled.peak_activation_bytes < dynamic.peak_activation_bytes
