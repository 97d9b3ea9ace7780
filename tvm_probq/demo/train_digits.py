"""Train the demo's network and write it as ONNX: ``python -m tvm_probq.demo.train_digits``.

Needs PyTorch, which nothing else in the package does: ``pip install torch`` (2.13.0, its build
for CPUs, wrote the bundled file). Run again on the same machine with the same versions of PyTorch,
NumPy and scikit-learn it writes the same bytes; elsewhere the last bits of the weights may differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.data.metrics import top1
from tvm_probq.demo.digits import MODEL_PATH, Images, Labels, load_all
from tvm_probq.demo.digits_model import BATCH_NORM_EPSILON, build_model
from tvm_probq.errors import EnvironmentProblem

SEED = 0
EPOCHS = 80
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.05


def main(arguments: list[str] | None = None) -> None:
    """Train, report the accuracy on the evaluation part, and write the model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_PATH, help="the ONNX file to write")
    output: Path = parser.parse_args(arguments).output
    torch = import_torch()
    train_x, train_y, evaluation_x, evaluation_y = load_all()
    layers = train(torch, train_x, train_y)
    accuracy = top1(predict(torch, layers, evaluation_x), evaluation_y)
    model = build_model(take_weights(layers))
    output.write_bytes(model.SerializeToString(deterministic=True))
    print(f"accuracy {accuracy:.4f} on {len(evaluation_y)} images; {output} written")


def import_torch() -> Any:
    """Import PyTorch and make it deterministic.

    Raises
    ------
    EnvironmentProblem
        If it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise EnvironmentProblem(
            "the demo's network cannot be trained",
            where="torch",
            why=str(error),
            fix="pip install torch; running the bundled network does not need it",
        ) from error
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    # One thread: the order of sums, and so the bits, must not depend on the machine's load.
    torch.set_num_threads(1)
    return torch


def make_layers(torch: Any) -> Any:
    """Make the untrained layers; the names are those `build_model` reads."""
    nn = torch.nn

    def conv(inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> Any:
        padding = side // 2
        return nn.Conv2d(inputs, outputs, side, stride, padding, groups=groups, bias=False)

    layers = {
        "stem": conv(1, 16, 3),
        "block1": conv(16, 16, 3),
        "block2": conv(16, 16, 3),
        "depthwise": conv(16, 16, 3, stride=2, groups=16),
        "pointwise": conv(16, 32, 1),
    }
    norms = {
        f"{name}_norm": nn.BatchNorm2d(layer.out_channels, eps=BATCH_NORM_EPSILON)
        for name, layer in layers.items()
    }
    return nn.ModuleDict({**layers, **norms, "classifier": nn.Linear(32, 10)})


def forward(torch: Any, layers: Any, x: Any) -> Any:
    """Run the network; the same graph as `build_model`'s."""
    functional = torch.nn.functional

    def conv_norm(x: Any, name: str) -> Any:
        return layers[f"{name}_norm"](layers[name](x))

    x = functional.relu(conv_norm(x, "stem"))
    inner = functional.relu(conv_norm(x, "block1"))
    x = functional.relu(conv_norm(inner, "block2") + x)
    x = functional.relu6(conv_norm(x, "depthwise"))
    x = functional.relu6(conv_norm(x, "pointwise"))
    return layers["classifier"](x.mean((2, 3)))


def train(torch: Any, x: Images, y: Labels) -> Any:
    """Train on randomly shifted and scaled images; gives the layers in inference mode."""
    layers = make_layers(torch)
    rng = np.random.default_rng(SEED)
    steps = EPOCHS * -(-len(x) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(layers.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, steps)
    layers.train()
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            logits = forward(torch, layers, torch.from_numpy(augment(x[chosen], rng)))
            loss = torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(y[chosen]), label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return layers.eval()


def augment(images: Images, rng: np.random.Generator) -> Images:
    """Shift each image by up to one pixel and change its brightness by up to a fifth."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifts = rng.integers(0, 3, (len(images), 2))
    moved = [image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, shifts, strict=True)]
    gains = rng.uniform(0.8, 1.2, (len(images), 1, 1, 1))
    return (np.stack(moved) * gains).clip(0, 1).astype(np.float32)


def predict(torch: Any, layers: Any, x: Images) -> NDArray[np.float32]:
    """Give the logits, shape (N, 10)."""
    with torch.no_grad():
        return np.asarray(forward(torch, layers, torch.from_numpy(x)), np.float32)


def take_weights(layers: Any) -> dict[str, NDArray[np.float32]]:
    """Give every parameter and running statistic as an array."""
    return {
        name: np.asarray(value, np.float32)
        for name, value in layers.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


if __name__ == "__main__":
    try:
        main()
    except EnvironmentProblem as error:
        raise SystemExit(f"error: {error}") from None
