# %% [markdown]
# # Tuning the kernels on your machine
#
# Every kernel has loop sizes (a *tile*): how many output positions and channels are summed in
# registers, how many rows a task does. A fixed rule gives a good one; measuring gives a better one.
# The result never depends on it, bit for bit. Everything below also exists as a command,
# `tvm-probq tune`, and its database is what `tvm-probq compile --database` takes. The network is
# the bundled one, so small that there is little to gain; what counts is how it is done.

# %%
import tempfile
import time
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from tvm_probq.build.compile import compile_model, quantized
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.demo.digits import MODEL_PATH, load_split
from tvm_probq.frontend.onnx import load_model
from tvm_probq.passes.lower_layers import layer_specs
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import host_profile
from tvm_probq.tuning.database import Database, read_database
from tvm_probq.tuning.measure import WorkerMeasurer
from tvm_probq.tuning.search import Tuner
from tvm_probq.tuning.space import tiles_of
from tvm_probq.tuning.tasks import tasks_of

SECONDS = 12

# %% [markdown]
# ## What there is to tune
#
# The integer module says which layers it has. Layers of the same speed share a key, and so one
# entry of the database; a key leaves out what costs nothing, such as the bounds of a ReLU6.

# %%
calibration_images, images, _ = load_split()
model = load_model(MODEL_PATH)
record = CalibrationRecord(model.sha256, "digits")
collect(model.mod, (image[None] for image in calibration_images), record)
plan = plan_of("w8a8p")
tasks = tasks_of(layer_specs(quantized(model, plan, record)))
for task in tasks:
    print(f"{task.count} x {task.key}")

# %% [markdown]
# ## The design space
#
# Every tile that the kernel of a layer can be built with, the fixed rule's first.

# %%
profile = host_profile()
target = profile.target()
spec = max((task.spec for task in tasks), key=lambda s: s.macs)
tiles = tiles_of(spec, target)
print(f"{spec}: {len(tiles)} tiles, by default {tiles[0]}")
assert len(tiles) > 1

# %% [markdown]
# ## Measure
#
# A worker process builds and times candidates, in turn with the default; each must have its
# instruction, a small workspace, and the simulator's output bit for bit. A cost model learns from
# all layers what to try next. Each step leaves the database consistent: stop at any, and continue
# later with the same file.

# %%
database = Database(profile.name, name="tutorial")
with WorkerMeasurer(profile.tvm_target) as measurer:
    tuner = Tuner(tasks, target, database, measurer)
    end = time.monotonic() + SECONDS
    for step in tuner.run(lambda: time.monotonic() >= end):
        assert step.entry is not None, step.failure
        print(f"{step.task.key}: {len(step.entry.trials)} tried, ratio {step.entry.ratio:.2f}")
assert database.entries

# %% [markdown]
# A tile is chosen only if it was measurably faster than the default in a comparison of its own;
# everywhere else the default stays. So no layer gets slower.

# %%
for key, entry in database.entries.items():
    print(f"{key}: {entry.default_us:.1f} -> {entry.tuned_us:.1f} us, {entry.tile or 'default'}")
    assert entry.tile is None or (entry.trials[entry.tile] or 1.0) < 1.0

# %% [markdown]
# ## Save, load, compile
#
# The database is readable JSON, one line a layer. `compile_model` and the pass `LowerLayers` take
# anything with a `get(spec)`, such as a dict; here one layer is also given a tile by hand.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "tuned.json")
    database.save(path)
    again = read_database(path, profile.name)
assert again.entries.keys() == database.entries.keys()

by_hand = {task.spec: again.get(task.spec) for task in tasks} | {spec: tiles[-1]}
outputs = []
for given in (None, again, by_hand):
    compiled = compile_model(model, plan, record, profile, given)
    main = relax.VirtualMachine(compiled.executable, tvm.cpu())["main"]
    outputs.append([main(tvm.runtime.tensor(image[None])).numpy() for image in images[:20]])
    print(f"{sum(bool(layer.tile) for layer in compiled.layers)} layers with a given tile")
assert any(layer.tile for layer in compiled.layers)

# %% [markdown]
# ## The same bits

# %%
bits = [np.concatenate(found).view(np.uint32) for found in outputs]
assert np.array_equal(bits[0], bits[1])
assert np.array_equal(bits[0], bits[2])
print("20 images, no bit differs")
