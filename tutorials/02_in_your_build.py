# %% [markdown]
# # The passes in your own TVM build
#
# The quantizer is a list of `tvm.transform` passes. This script imports a model with TVM's own
# front end, runs the passes phase by phase and looks at the module in between, and then hands the
# whole pipeline to `tvm.compile`. Nothing here needs this package's importer, command line or
# artefact. The network is the bundled one; its images come from scikit-learn.

# %%
import re

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.passes.insert_requantize import InsertRequantize
from tvm_probq.passes.insert_surrogates import InsertSurrogates
from tvm_probq.passes.pipeline import canonical_passes, pipeline
from tvm_probq.passes.propagate_quantized import PropagateQuantized
from tvm_probq.passes.quantize_weights import QuantizeWeights
from tvm_probq.passes.widen_accumulators import WidenAccumulators
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import host_profile


def lines_with(module: tvm.IRModule, *words: str) -> list[str]:
    """Lines of a printed module that hold one of the words, without types and constants."""
    text = re.sub(r": R\.T\w+\(.*?\) = R\.", " = R.", module["main"].script())
    text = re.sub(r'metadata\["ir\.GenericConst"\]\[\d+\]', "#", text)
    return [line.strip()[:120] for line in text.splitlines() if any(word in line for word in words)]


# %% [markdown]
# ## An ordinary Relax module
#
# TVM's importer leaves BatchNorms, NCHW tensors and loop nests for Clip.

# %%
imported = from_onnx(
    onnx.load(MODEL_PATH), shape_dict={"image": [1, 1, 8, 8]}, keep_params_in_input=False
)
print(*lines_with(imported, "batch_norm", "conv2d", "call_tir"), sep="\n")

# %% [markdown]
# ## Phase 1: canonical form
#
# Folded, channels last, and with a marker behind each tensor that is to be stored quantized. The
# module still computes in float32, so TVM compiles it like any other, and calibration runs it.

# %%
canonical = tvm.transform.Sequential(canonical_passes())(imported)
print(*lines_with(canonical, "conv2d", "R.probq.layer"), sep="\n")
assert not lines_with(canonical, "batch_norm", "call_tir")

calibration_images, images, _ = load_split()
record = CalibrationRecord(model_hash="", data_hash="digits")
collect(canonical, (image[None] for image in calibration_images), record)

# %% [markdown]
# ## Phase 2, one pass at a time
#
# `InsertSurrogates` says under which scale and zero-point each marked tensor is stored. In
# predicted mode that is `R.probq.surrogate`, computed from sums over the layer's *input*; the layer
# itself is untouched.

# %%
plan = plan_of("w8a8p", surrogate="moments")
predicted = InsertSurrogates(plan, record)(canonical)
print(*lines_with(predicted, "R.probq.sums", "R.probq.surrogate", "R.nn.conv2d"), sep="\n")
assert lines_with(predicted, "R.probq.surrogate")
assert not lines_with(predicted, "R.probq.requantize")

# %% [markdown]
# The next three passes store integer weights, prove an accumulator and fold bias, correction,
# residual and activation into one `R.probq.requantize` a layer. Passes are ordinary: put your own
# between them, or leave one out and look at what is left.

# %%
to_integer = [
    QuantizeWeights(plan, record),
    WidenAccumulators(),
    InsertRequantize(),
    PropagateQuantized(),
]
integer = tvm.transform.Sequential(to_integer)(predicted)
print(*lines_with(integer, "out_dtype", "R.probq.requantize"), sep="\n")
assert len(lines_with(integer, "R.probq.requantize")) == 5  # five convolutions
assert not lines_with(integer, "R.probq.measure")  # of no layer is the output measured,
assert len(lines_with(integer, "R.probq.observe")) == 1  # only the network's input is

# %% [markdown]
# One plan can treat layers differently. Names come from the markers.

# %%
mixed = Plan(default=plan.default, layers={"conv2d_0": plan_of("w8a8s").default})
static_first = InsertSurrogates(mixed, record)(canonical)
count = len(lines_with(predicted, "R.probq.surrogate"))
assert len(lines_with(static_first, "R.probq.surrogate")) == count - 1

# %% [markdown]
# ## The whole pipeline inside `tvm.compile`
#
# `pipeline` starts from the *imported* module: it contains phase 1 too, and TVM's own lowering at
# its end. `target` is any x86 CPU target of yours; here the profile of this machine gives one.

# %%
target = host_profile().target()
executable = tvm.compile(imported, target, relax_pipeline=pipeline(plan, record, target))
main = relax.VirtualMachine(executable, tvm.cpu())["main"]

# %% [markdown]
# ## The same bits as the simulator
#
# The integer module of phase 2 runs in NumPy: that is the definition of every quantized operator.
# Compiled code equals it bit for bit, also on inputs that were never calibrated for.

# %%
simulate = Simulator(integer)
for image in [*images[:50], 0.3 * images[0], 40 * images[1], 0 * images[2]]:
    x = np.ascontiguousarray(image[None], np.float32)
    compiled_bits = main(tvm.runtime.tensor(x)).numpy().view(np.uint32)
    assert np.array_equal(compiled_bits, simulate(x).view(np.uint32))
print("53 images, no bit differs")
