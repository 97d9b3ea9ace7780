"""Small networks of the families that people bring, as PyTorch exports them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

TOKENS, WIDTH, HEADS = 6, 16, 2


def linear(net: Any, x: str, inputs: int, outputs: int) -> str:
    """A linear layer at every position."""
    weights = net.draw(inputs, outputs, scale=inputs**-0.5)
    return str(net("Add", net("MatMul", x, weights), net.draw(outputs, scale=0.1)))


def gelu(net: Any, x: str) -> str:
    """GELU decomposed into Erf."""
    erf = net("Erf", net("Div", x, np.float32(2**0.5)))
    return str(net("Mul", net("Mul", x, net("Add", erf, np.float32(1))), np.float32(0.5)))


def silu(net: Any, x: str) -> str:
    """SiLU, an activation of two nodes."""
    return str(net("Mul", x, net("Sigmoid", x)))


def layer_norm(net: Any, x: str, width: int = WIDTH) -> str:
    """The operator."""
    scale, bias = net.rng.uniform(0.5, 1.5, width), net.draw(width, scale=0.1)
    return str(net("LayerNormalization", x, scale, bias, axis=-1))


def decomposed_norm(net: Any, x: str, width: int = WIDTH) -> str:
    """Layer normalization as exports before opset 17 write it."""
    centred = net("Sub", x, net("ReduceMean", x, axes=[-1]))
    variance = net("ReduceMean", net("Pow", centred, np.float32(2)), axes=[-1])
    y = net("Div", centred, net("Sqrt", net("Add", variance, np.float32(1e-5))))
    return str(net("Add", net("Mul", y, net.rng.uniform(0.5, 1.5, width)), net.draw(width)))


def rms_norm(net: Any, x: str) -> str:
    """RMSNorm as Llama exports write it."""
    mean = net("ReduceMean", net("Pow", x, np.float32(2)), axes=[-1])
    root = net("Sqrt", net("Add", mean, np.float32(1e-5)))
    y = net("Mul", x, net("Div", np.float32(1), root))
    return str(net("Mul", net.rng.uniform(0.5, 1.5, WIDTH), y))


def squeezenet(net: Any) -> tuple[str, ...]:
    """Fire modules: a narrow layer, and a join of two wide ones."""
    x = net("Relu", net.conv("x", 3, 16, strides=[2, 2]))
    x = net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    for channels in (16, 32):
        x = net("Relu", net.conv(x, channels, 8, 1))
        x = net("Concat", *(net("Relu", net.conv(x, 8, 16, k)) for k in (1, 3)), axis=1)
    x = net("Relu", net.conv(net("Dropout", x), 32, 10, 1))
    return (net("Flatten", net("GlobalAveragePool", x)),)


def shufflenet(net: Any) -> tuple[str, ...]:
    """ShuffleNet v2: channels are split, half of them changed, joined and shuffled."""
    x = net("Relu", net.conv("x", 3, 16, strides=[2, 2]))
    for _ in range(2):
        net("Split", x, [8, 8], axis=1, outputs=2)
        kept, changed = net.nodes[-1].output
        changed = net("Relu", net.conv(changed, 8, 8, 1))
        changed = net("Relu", net.conv(net.conv(changed, 8, 8, group=8), 8, 8, 1))
        split = net("Reshape", net("Concat", kept, changed, axis=1), [0, 2, 8, 8, 8])
        x = net("Reshape", net("Transpose", split, perm=[0, 2, 1, 3, 4]), [0, -1, 8, 8])
    pooled = net("ReduceMean", x, axes=[2, 3], keepdims=0)
    return (net.gemm(pooled, 16, 10),)


def densenet(net: Any) -> tuple[str, ...]:
    """Chains of joins, normalization before convolution, transitions with average pooling."""

    def normed(y: str, channels: int) -> str:
        return str(net("Relu", net.batch_norm(y, channels)))

    x, channels = net.conv("x", 3, 16, bias=False), 16
    for _ in range(2):
        for _ in range(2):
            y = net.conv(normed(x, channels), channels, 16, 1, bias=False)
            y = net.conv(normed(y, 16), 16, 8, bias=False)
            x, channels = net("Concat", x, y, axis=1), channels + 8
        x = net.conv(normed(x, channels), channels, 16, 1, bias=False)
        x, channels = net("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), 16
    x = net("GlobalAveragePool", normed(x, 16))
    return (net.gemm(net("Flatten", x), 16, 10),)


def efficientnet(net: Any) -> tuple[str, ...]:
    """SiLU, depthwise 5x5, squeeze and excite, residuals."""
    x = silu(net, net.conv("x", 3, 16, strides=[2, 2]))
    for _ in range(2):
        y = silu(net, net.conv(x, 16, 32, 1))
        y = silu(net, net.conv(y, 32, 32, 5, group=32))
        gate = silu(net, net.conv(net("GlobalAveragePool", y), 32, 4, 1))
        gate = net("Sigmoid", net.conv(gate, 4, 32, 1))
        x = net("Add", net.conv(net("Mul", y, gate), 32, 16, 1), x)
    x = net("GlobalAveragePool", silu(net, net.conv(x, 16, 32, 1)))
    return (net.gemm(net("Flatten", x), 32, 10),)


def transposed(net: Any, x: str, inputs: int, outputs: int, kernel: int, **attributes: Any) -> str:
    """A transposed convolution that keeps the variance."""
    weights = net.draw(inputs, outputs, kernel, kernel, scale=(4 / (kernel**2 * inputs)) ** 0.5)
    return str(net("ConvTranspose", x, weights, net.draw(outputs, scale=0.1), **attributes))


def unet(net: Any) -> tuple[str, ...]:
    """Skips joined behind upsampling by transposed convolutions of two kinds."""
    top = net("Relu", net.batch_norm(net.conv("x", 3, 8), 8))
    middle = net("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2])
    middle = net("Relu", net.conv(middle, 8, 16))
    low = net("MaxPool", middle, kernel_shape=[2, 2], strides=[2, 2])
    low = net("Relu", net.conv(low, 16, 32))
    up = transposed(net, low, 32, 16, 2, strides=[2, 2])
    y = net("Relu", net.conv(net("Concat", up, middle, axis=1), 32, 16))
    up = transposed(net, y, 16, 8, 4, strides=[2, 2], pads=[1] * 4)
    up = net("Relu", net.batch_norm(up, 8))
    y = net("Relu", net.conv(net("Concat", up, top, axis=1), 16, 8))
    return (net.conv(y, 8, 2, 1),)


def resized_unet(net: Any) -> tuple[str, ...]:
    """The same with resizing."""
    top = net("Relu", net.conv("x", 3, 8))
    low = net("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2])
    low = net("Relu", net.conv(low, 8, 16))
    up = net(
        "Resize", low, "", [1.0, 1.0, 2.0, 2.0], mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    )  # fmt: skip
    y = net("Relu", net.conv(net("Concat", up, top, axis=1), 24, 8))
    return (net("Sigmoid", net.conv(y, 8, 1, 1)),)


def super_resolution(net: Any) -> tuple[str, ...]:
    """Channels become pixels at the end, and pixels channels at the beginning."""
    x = net.conv(net("SpaceToDepth", "x", blocksize=2), 12, 16)
    x = net("Relu", net.conv(net("Relu", x), 16, 32))
    x = net("DepthToSpace", x, blocksize=2, mode="CRD")
    return (net.conv(net("Relu", net.conv(x, 8, 8)), 8, 3),)


def audio(net: Any) -> tuple[str, ...]:
    """Dilated causal convolutions along time, strides, pooling, and time back again."""

    def conv1d(y: str, inputs: int, outputs: int, kernel: int, **attributes: Any) -> str:
        weights = net.draw(outputs, inputs, kernel, scale=(2 / (kernel * inputs)) ** 0.5)
        return str(net("Conv", y, weights, net.draw(outputs, scale=0.1), **attributes))

    x = net("Relu", conv1d("x", 2, 16, 5, strides=[2], pads=[2, 2]))
    for dilation in (1, 2, 4):
        y = net("Pad", x, [0, 0, 2 * dilation, 0, 0, 0])
        x = net("Add", net("Relu", conv1d(y, 16, 16, 3, dilations=[dilation])), x)
    x = net("MaxPool", x, kernel_shape=[2], strides=[2])
    x = net("AveragePool", net("Relu", conv1d(x, 16, 16, 3)), kernel_shape=[2], strides=[2])
    up = net("ConvTranspose", x, net.draw(16, 8, 4, scale=0.2), net.draw(8), strides=[2], pads=[1, 1])
    pooled = net("Flatten", net("GlobalAveragePool", net("Relu", up)))
    return net.gemm(pooled, 8, 5), conv1d(up, 8, 4, 1)


def resnext(net: Any) -> tuple[str, ...]:
    """Grouped and dilated convolutions, and a pyramid of dilations with the image's mean."""
    x = net("Relu", net.conv("x", 3, 16, strides=[2, 2]))
    y = net("Relu", net.conv(x, 16, 32, 1))
    y = net("Relu", net.conv(y, 32, 32, group=4))
    x = net("Relu", net("Add", net.conv(y, 32, 16, 1), x))
    parts = [net("Relu", net.conv(x, 16, 8, 1))]
    for dilation in (2, 3):
        y = net.conv(x, 16, 8, dilations=[dilation] * 2, pads=[dilation] * 4)
        parts.append(net("Relu", y))
    mean = net("Relu", net.conv(net("GlobalAveragePool", x), 16, 8, 1))
    sizes = net.constant(np.array([1, 8, 8, 8]))
    parts.append(net("Resize", mean, "", "", sizes, mode="linear"))
    x = net("Relu", net.conv(net("Concat", *parts, axis=1), 32, 16, 1))
    return (net("Resize", net.conv(x, 16, 4, 1), "", [1.0, 1.0, 2.0, 2.0], mode="linear"),)


def inception(net: Any) -> tuple[str, ...]:
    """Branches with average pooling, padding counted or not, and kernels of one row."""
    x = net("Relu", net.conv("x", 3, 16, strides=[2, 2]))
    attributes = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1]}
    counted = net("AveragePool", x, count_include_pad=1, **attributes)
    skipped = net("AveragePool", x, **attributes)
    wide = net("Conv", x, net.draw(8, 16, 1, 7, scale=0.1), net.draw(8), pads=[0, 3, 0, 3])
    tall = net("Conv", wide, net.draw(8, 8, 7, 1, scale=0.2), net.draw(8), pads=[3, 0, 3, 0])
    parts = [net.conv(counted, 16, 8, 1), net.conv(skipped, 16, 8, 1), tall]
    x = net("Concat", *(net("Relu", part) for part in parts), axis=1)
    x = net("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return (net.gemm(net("Flatten", net("GlobalAveragePool", x)), 24, 10),)


def convnext(net: Any) -> tuple[str, ...]:
    """Depthwise 7x7, normalization channels last, GELU, a scale of each channel."""
    x = net.conv("x", 3, WIDTH, 4, strides=[4, 4], pads=[0] * 4)
    for _ in range(2):
        y = net("Transpose", net.conv(x, WIDTH, WIDTH, 7, group=WIDTH), perm=[0, 2, 3, 1])
        y = gelu(net, linear(net, layer_norm(net, y), WIDTH, 32))
        y = net("Mul", linear(net, y, 32, WIDTH), net.rng.uniform(0.5, 1, WIDTH))
        x = net("Add", x, net("Transpose", y, perm=[0, 3, 1, 2]))
    pooled = net("ReduceMean", x, axes=[2, 3], keepdims=0)
    return (net.gemm(layer_norm(net, pooled), WIDTH, 10),)


def mixer(net: Any) -> tuple[str, ...]:
    """MLP-Mixer: layers over the channels, and over the tokens; the operator Gelu."""
    x = net.conv("x", 3, WIDTH, 4, strides=[4, 4], pads=[0] * 4)
    x = net("Transpose", net("Reshape", x, [0, WIDTH, 16]), perm=[0, 2, 1])
    for _ in range(2):
        y = net("Transpose", layer_norm(net, x), perm=[0, 2, 1])
        y = linear(net, net("Gelu", linear(net, y, 16, 24)), 24, 16)
        x = net("Add", x, net("Transpose", y, perm=[0, 2, 1]))
        y = net("Gelu", linear(net, layer_norm(net, x), WIDTH, 32))
        x = net("Add", x, linear(net, y, 32, WIDTH))
    pooled = net("ReduceMean", layer_norm(net, x), net.constant([1]), keepdims=0)
    return (net.gemm(pooled, WIDTH, 10),)


def heads(net: Any, x: str, tokens: int, perm: list[int]) -> str:
    """A linear layer whose channels are split into heads."""
    split = net("Reshape", linear(net, x, WIDTH, WIDTH), [0, tokens, HEADS, WIDTH // HEADS])
    return str(net("Transpose", split, perm=perm))


def attention(net: Any, x: str, tokens: int) -> str:
    """Attention as PyTorch exports it."""
    q, k, v = (heads(net, x, tokens, p) for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    scores = net("Div", net("MatMul", q, k), np.float32((WIDTH // HEADS) ** 0.5))
    mixed = net("MatMul", net("Softmax", scores, axis=-1), v)
    mixed = net("Transpose", mixed, perm=[0, 2, 1, 3])
    return linear(net, net("Reshape", mixed, [0, tokens, WIDTH]), WIDTH, WIDTH)


def vit(net: Any) -> tuple[str, ...]:
    """Patches and a class token, normalization of both forms, attention, GELU."""
    patches = net.conv("x", 3, WIDTH, 4, strides=[4, 4], pads=[0] * 4)
    patches = net("Transpose", net("Reshape", patches, [0, WIDTH, 16]), perm=[0, 2, 1])
    token = net("Expand", net.draw(1, 1, WIDTH), [1, 1, WIDTH])
    x = net("Add", net("Concat", token, patches, axis=1), net.draw(1, 17, WIDTH, scale=0.2))
    for norm in (layer_norm, decomposed_norm):
        x = net("Add", x, attention(net, norm(net, x), 17))
        y = gelu(net, linear(net, layer_norm(net, x), WIDTH, 32))
        x = net("Add", x, linear(net, y, 32, WIDTH))
    token = net("Gather", layer_norm(net, x), net.constant(np.array(0)), axis=1)
    return (net.gemm(token, WIDTH, 10),)


def llama(net: Any) -> tuple[str, ...]:
    """RMSNorm, rotary positions, a causal mask, SwiGLU."""
    angles = np.outer(np.arange(TOKENS), 10.0 ** -np.arange(WIDTH // HEADS // 2))
    angles = np.concatenate([angles, angles], axis=1)
    mask = np.triu(np.full((1, 1, TOKENS, TOKENS), -1e9), 1)
    half = WIDTH // HEADS // 2

    def rotated(y: str) -> str:
        first = net("Slice", y, [0], [half], [3])
        second = net("Neg", net("Slice", y, [half], [2 * half], [3]))
        turned = net("Concat", second, first, axis=3)
        return str(net("Add", net("Mul", y, np.cos(angles)), net("Mul", turned, np.sin(angles))))

    x = "x"
    for _ in range(2):
        y = rms_norm(net, x)
        q, k, v = (heads(net, y, TOKENS, [0, 2, 1, 3]) for _ in range(3))
        k = net("Transpose", rotated(k), perm=[0, 1, 3, 2])
        scores = net("Mul", net("MatMul", rotated(q), k), np.float32((WIDTH // HEADS) ** -0.5))
        y = net("MatMul", net("Softmax", net("Add", scores, mask), axis=-1), v)
        y = net("Reshape", net("Transpose", y, perm=[0, 2, 1, 3]), [0, TOKENS, WIDTH])
        x = net("Add", x, net("MatMul", y, net.draw(WIDTH, WIDTH, scale=0.25)))
        y = rms_norm(net, x)
        gate = silu(net, net("MatMul", y, net.draw(WIDTH, 32, scale=0.25)))
        y = net("Mul", gate, net("MatMul", y, net.draw(WIDTH, 32, scale=0.25)))
        x = net("Add", x, net("MatMul", y, net.draw(32, WIDTH, scale=0.2)))
    return (net("MatMul", rms_norm(net, x), net.draw(WIDTH, 20, scale=0.25)),)


def detector(net: Any) -> tuple[str, ...]:
    """Leaky ReLU, a pyramid of two scales, heads whose rows are boxes."""

    def leaky(y: str) -> str:
        return str(net("LeakyRelu", y, alpha=0.1))

    large = leaky(net.batch_norm(net.conv("x", 3, 16, strides=[2, 2]), 16))
    small = leaky(net.conv(large, 16, 32, strides=[2, 2]))
    pools = [net("MaxPool", small, kernel_shape=[k] * 2, pads=[k // 2] * 4) for k in (3, 5)]
    small = leaky(net.conv(net("Concat", small, *pools, axis=1), 96, 16, 1))
    up = net("Resize", small, "", [1.0, 1.0, 2.0, 2.0], mode="nearest")
    large = leaky(net.conv(net("Concat", up, large, axis=1), 32, 16))
    rows = []
    for y, cells in ((large, 64), (small, 16)):
        y = net("Reshape", net.conv(y, 16, 6, 1), [0, 6, cells])
        rows.append(net("Transpose", y, perm=[0, 2, 1]))
    boxes = net("Concat", *rows, axis=1)
    return net("Slice", boxes, [0], [4], [2]), net("Sigmoid", net("Slice", boxes, [4], [6], [2]))


def recurrent(net: Any, kind: str, x: str, inputs: int, hidden: int, **attributes: Any) -> str:
    """A recurrent layer, first dimension time; its outputs of both directions side by side."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    both = 1 + (attributes.get("direction") == "bidirectional")
    weights = net.draw(both, gates * hidden, inputs, scale=inputs**-0.5)
    again = net.draw(both, gates * hidden, hidden, scale=hidden**-0.5)
    bias = net.draw(both, 2 * gates * hidden, scale=0.1)
    y = net(kind, x, weights, again, bias, hidden_size=hidden, outputs=2, **attributes)
    return str(net("Reshape", net("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, both * hidden]))


def lstm(net: Any) -> tuple[str, ...]:
    """Two recurrent layers between linear ones."""
    x = net("Transpose", net("Relu", linear(net, "x", 8, 12)), perm=[1, 0, 2])
    x = recurrent(net, "LSTM", x, 12, 8, direction="bidirectional")
    x = recurrent(net, "GRU", x, 16, 8, linear_before_reset=1)
    return (linear(net, net("Transpose", x, perm=[1, 0, 2]), 8, 5),)


def crnn(net: Any) -> tuple[str, ...]:
    """Convolutions over a line of text, columns read one after the other."""
    x = net("Relu", net.conv("x", 1, 8))
    x = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net("Relu", net.batch_norm(net.conv(x, 8, 16, bias=False), 16))
    x = net("MaxPool", x, kernel_shape=[4, 1], strides=[4, 1])
    x = net("Transpose", net("Squeeze", x, net.constant([2])), perm=[2, 0, 1])
    x = recurrent(net, "LSTM", x, 16, 8, direction="bidirectional")
    return (net("LogSoftmax", linear(net, x, 16, 11), axis=2),)


@dataclass(frozen=True)
class Family:
    """A network of a family.

    Attributes
    ----------
    build : callable
        Appends its nodes, gives the names of its outputs.
    shape : tuple of int
        Of one sample.
    share : float
        At least this part of its multiply-accumulates is in integers.
    islands : tuple of str
        What stays float, by the beginnings of the reasons.
    noise_db : float
        At least this signal-to-noise ratio against float, at random weights.
    opset : int
        Of the file.
    """

    build: Callable[[Any], tuple[str, ...]]
    shape: tuple[int, ...]
    share: float = 0.99
    islands: tuple[str, ...] = ()
    noise_db: float = 20.0
    opset: int = 17


IMAGE = (3, 16, 16)
FAMILIES = {
    "squeezenet": Family(squeezenet, IMAGE),
    "shufflenet": Family(shufflenet, IMAGE),
    "densenet": Family(densenet, IMAGE),
    "efficientnet": Family(efficientnet, IMAGE),
    "unet": Family(unet, IMAGE),
    "resized_unet": Family(resized_unet, IMAGE),
    "super_resolution": Family(super_resolution, IMAGE),
    "audio": Family(audio, (2, 64)),
    "resnext": Family(resnext, IMAGE),
    "inception": Family(inception, IMAGE),
    "convnext": Family(convnext, IMAGE),
    "mixer": Family(mixer, IMAGE, opset=20),
    "vit": Family(vit, IMAGE, 0.95),
    "llama": Family(llama, (TOKENS, WIDTH), 0.95),
    "detector": Family(detector, IMAGE),
    "lstm": Family(lstm, (TOKENS, 8)),
    "crnn": Family(crnn, (1, 8, 16)),
}
