# %% [markdown]
# # Mixed bits: a plan under a budget
#
# Which layers to quantize to how many bits? `tvm-probq plan` measures what each option of each
# layer costs: accuracy, bytes, time. Then it takes the best combination under your budget. Here
# are its budgets of size, accuracy and latency, kernels measured on your machine, and two targets
# that you need not have. The network is the bundled one; for your own, give the path of its ONNX
# file, or a card with `--card`. `python 05_mixed_bits.py FOLDER` keeps all files there.

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tvm_probq.build.artefact import load_artefact, save_artefact
from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.cli.main import main
from tvm_probq.data.metrics import sqnr_db, top1
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.frontend.onnx import load_model
from tvm_probq.latency.estimator import estimator_of
from tvm_probq.plan.plan import Plan, plan_of
from tvm_probq.runtime.float_model import FloatModel
from tvm_probq.runtime.runner import Runner
from tvm_probq.target.profile import host_profile, load_profile

temporary = tempfile.TemporaryDirectory()
folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary.name)
folder.mkdir(exist_ok=True)

# %% [markdown]
# Commands are what this tutorial is about, so it gives them as in a shell. Each also writes its
# result as JSON, and that is what the cells below read.


# %%
def probq(*arguments):
    """Run `tvm-probq ARGUMENTS` in this process; its tables are printed, its result returned."""
    print("\n$ tvm-probq", *(Path(a).name if isinstance(a, Path) else a for a in arguments))
    result = folder / "result.json"
    assert main([*map(str, arguments), "--json", str(result)]) == 0
    return json.loads(result.read_text())


# %% [markdown]
# ## Calibrate
#
# The record is made of 64 of the 128 calibration samples. Plans are measured on the others:
# rounding and corrections are fitted to the samples of the record, and do better on these.

# %%
calibration_images, images, labels = load_split()
inputs, record_path = folder / "inputs.npz", folder / "record.json"
np.savez(inputs, image=calibration_images)
probq("calibrate", MODEL_PATH, "--data", inputs, "--samples", "64", "-o", record_path)

# %% [markdown]
# ## A budget of size
#
# At most 0.7 of the parameter bytes of w8a8 everywhere, and the least noise of the outputs within
# that. First each layer is given each option alone, in the simulator, on calibration samples: no
# labels are needed. Then a mixed-integer program finds the best combination. What was measured is
# kept in the `--cache`; all other budgets and targets below use it, and so take little time.

# %%
profile = host_profile()
common = [MODEL_PATH, "--calibration", record_path, "--data", inputs]
common += ["--cache", folder / "sensitivity.json"]
by_size, front = folder / "size.toml", folder / "front.svg"
small = probq("plan", *common, "--budget", "size=0.7", "--plot", front, "-o", by_size)
assert small["measured"]["share"] <= 0.7

# %% [markdown]
# ## Reading a plan
#
# A plan is a TOML file to read and to edit. Its comments say what was promised and, of the whole
# plan simulated once more, what came of it. Each layer has a reason: what its option costs, and
# what the next ones on either side would have cost.

# %%
print("".join(line for line in by_size.open() if line.startswith("#")))
plan = Plan.load(by_size)
for name, layer in plan.layers.items():
    print(f"{name}: {layer.weight_bits} bits\n    {layer.reason}")
assert {layer.weight_bits for layer in plan.layers.values()} & {4, 6}
assert all(layer.reason for layer in plan.layers.values())

# %% [markdown]
# ## The Pareto front
#
# The best combinations from all bytes to the fewest. `front.svg` is the drawing for a browser;
# here it is in letters. Where the line falls steeply, the next bytes are expensive.

# %%
for row in small["front"]:
    print(f"{row['share']:.2f} {'#' * round(row['sqnr_db'])} {row['sqnr_db']:.1f} dB")
shares = [row["share"] for row in small["front"]]
assert shares == sorted(shares, reverse=True)
assert "<svg" in front.read_text()

# %% [markdown]
# ## What is known of time
#
# Estimates come from kernels that were measured on a machine of the target. Where nobody measured,
# they are a bound from the peak figures in the target's profile, and say so. They are good for
# telling which layers compute and which read memory, not for promises.

# %%
for name in ("x86-vnni", "arm-a72", "cuda-sm80"):
    known = estimator_of(load_profile(name))
    print(f"{name}: {known.source if known else 'nothing: measure it, as below'}")

# %% [markdown]
# ## Measure your own
#
# `measure` builds the network with several options, each kernel noting when it begins and ends,
# and runs it here; a board takes `--rpc`. This is a program of its own, because it must set TVM's
# threads before TVM starts. The file continues when interrupted, and further networks may be added
# to it. A kernel that is in it has its measured time, others are told by a model of those that are.

# %%
kernels = folder / "kernels.json"
command = [sys.executable, "-m", "tvm_probq", "measure", MODEL_PATH, "-o", kernels]
print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

# %% [markdown]
# ## The fastest within a drop
#
# At most 10 dB of signal-to-noise below w8a8, and as fast as that allows. Where times are measured,
# differences within the noise are none, and no layer gets what makes it slower than 8 bits, unless
# the budget cannot be met otherwise. This network does not gain much: its weights are in the cache,
# so narrower ones save no reading, but a correction that needs no prediction saves some work.

# %%
by_drop = folder / "drop.toml"
measured = [*common, "--kernels", kernels]
fast = probq("plan", *measured, "--budget", "drop=10", "--least", "latency", "-o", by_drop)
uniform, fastest = fast["uniform"], fast["predicted"]
assert fastest["us"] <= uniform["us"] * (1 + 1e-9)
assert fastest["sqnr_db"] >= uniform["sqnr_db"] - 10

# %% [markdown]
# ## A budget of latency
#
# Now we know what can be asked for. Half of that gain, and the least noise within it; `latency=350`
# would be microseconds.

# %%
share = (1 + fastest["us"] / uniform["us"]) / 2
by_latency = folder / "latency.toml"
half = probq("plan", *measured, "--budget", f"latency={share:.6f}", "-o", by_latency)
assert half["predicted"]["us"] <= (share + 1e-6) * uniform["us"]
assert half["predicted"]["added_noise"] <= fastest["added_noise"] * (1 + 1e-9)

# %% [markdown]
# ## Other targets
#
# Planning for a target needs no such machine. The sensitivities are the same, bytes and times are
# those of the target's own kernels. On a Cortex-A72 the convolutions compute longer than they read,
# so 4 bits make none of them faster and they stay as they are; the last layer uses each weight
# once, is bound by memory, and gets 4 bits. On an A100 nothing of a network this small takes as
# long as starting a kernel: bits do not matter there. But predicted corrections are kernels of
# their own on a GPU, and every layer is better off without.

# %%
offered = ["--option", "w4a8:correction=static", "--option", "w8a8:correction=static"]
budget = ["--budget", "drop=10", "--least", "latency", *offered, "--quiet"]
targets = {}
for name in ("arm-a72", "cuda-sm80"):
    path = folder / f"{name}.toml"
    found = probq("plan", *common, "--target", name, *budget, "-o", path)
    targets[name] = {row["name"]: row for row in found["layers"]}
    print(f"{found['uniform']['us']:.1f} us with w8a8, {found['predicted']['us']:.1f} planned")
    assert "nothing measured" in found["latency"]["source"]
for layer in targets["arm-a72"]:
    rows = [(name, rows[layer]) for name, rows in targets.items()]
    print(layer.ljust(10), *(f"{n}: {r['us']:6.2f} us {r['option']:24}" for n, r in rows))
on_arm, on_gpu = targets["arm-a72"], targets["cuda-sm80"]
assert {on_arm["block1"]["option"], on_arm["block2"]["option"]} == {"w8a8"}
assert on_arm["logits"]["option"].startswith("w4a8")
assert all(abs(row["us"] / on_gpu["stem"]["us"] - 1) < 0.05 for row in on_gpu.values())
assert all(row["option"].endswith("correction=static") for row in on_gpu.values())

# %% [markdown]
# ## Compile and compare
#
# `tvm-probq compile --plan size.toml` does this. Beside the plan stand w8a8 and float, on images
# that neither calibration nor planning has seen.

# %%
model, record = load_model(MODEL_PATH), CalibrationRecord.load(record_path)
(exact,) = FloatModel(model).run(images)
sizes, accuracy = {}, {"float": top1(exact, labels)}
for name, one in {"w8a8": plan_of("w8a8"), "plan": plan}.items():
    compiled = compile_model(model, one, record, profile)
    path = folder / f"{name}.probq"
    save_artefact(compiled, one, record, profile, path, model_sha256=model.sha256)
    with Runner(load_artefact(path)) as runner:
        (logits,) = runner.run(images)
    sizes[name], accuracy[name] = compiled.parameter_bytes, top1(logits, labels)
    print(f"{name}: {sizes[name]} bytes, {sqnr_db(exact, logits):.1f} dB")
print(*(f"top-1 {name} {value:.4f}" for name, value in accuracy.items()), sep="\n")
assert sizes["plan"] == small["measured"]["parameter_bytes"] <= 0.7 * sizes["w8a8"]
assert accuracy["plan"] >= accuracy["float"] - 0.01

# %%
temporary.cleanup()
