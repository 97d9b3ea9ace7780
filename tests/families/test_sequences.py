"""Families of transformers, mixers and recurrent networks, each as a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

TOKENS, WIDTH, HEADS = 6, 16, 2
IMAGE = (3, 16, 16)


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


NORM, SOFTMAX, STEPS = "a normalization", "softmax", "recurrent layers"
# Build, shape of a sample, opset, least share in integers, least decibels, reasons of islands.
FAMILIES: dict[str, tuple[Any, tuple[int, ...], int, float, float, set[str]]] = {
    "convnext": (convnext, IMAGE, 17, 0.99, 30, {NORM}),
    "mixer": (mixer, IMAGE, 20, 0.99, 30, {NORM}),
    "vit": (vit, IMAGE, 17, 0.95, 30, {NORM, SOFTMAX}),
    "llama": (llama, (TOKENS, WIDTH), 17, 0.95, 20, {NORM, SOFTMAX, "negative", "float32"}),
    "lstm": (lstm, (TOKENS, 8), 17, 0.6, 30, {STEPS}),
    "crnn": (crnn, (1, 8, 16), 17, 0.9, 30, {STEPS, SOFTMAX}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_sequences(name: str, check_family: Any) -> None:
    build, shape, opset, share, noise_db, reasons = FAMILIES[name]
    # Normalization, softmax and steps are TVM's float code, whose last bits are its own.
    found = check_family(build, shape, opset=opset, exact=False)
    assert found.share >= share
    assert found.noise_db >= noise_db
    for reason in found.reasons:
        assert any(reason.startswith(known) for known in reasons), reason
    for known in reasons:
        assert any(reason.startswith(known) for reason in found.reasons), known
