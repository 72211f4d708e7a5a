"""A vision transformer, and adapters in it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays, conv, linear, relu, single, softmax


def vit(rng: Generator) -> tuple[list[int], Arrays]:
    """``vit_config`` and weights of a ViT of random size."""
    depth, heads, patch, grid = (int(rng.integers(1, 4)) for _ in range(4))
    width, hidden = heads * 2 * int(rng.integers(2, 5)), 4 * int(rng.integers(3, 9))
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, grid * grid + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        layers |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
        for name, shape in {**layers, "norm1": (width,), "norm2": (width,)}.items():
            shapes[f"blocks.{i}.{name}.weight"] = shape
            shapes[f"blocks.{i}.{name}.bias"] = shape[:1]
    weights = {name: rng.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    return [grid * patch, patch, width, depth, heads], single(weights)


def layer_norm(x: Array, weights: Arrays, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x: Array, weights: Arrays, block: str, heads: int) -> Array:
    n, tokens, width = x.shape
    qkv = linear(x, weights, f"{block}.attn.qkv").reshape(n, tokens, 3, heads, width // heads)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    mixed = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // heads)) @ v
    return linear(
        mixed.transpose(0, 2, 1, 3).reshape(n, tokens, width), weights, f"{block}.attn.proj"
    )


def adapted(y: Array, adapter: Arrays, scale: float) -> Array:
    """What an adapter adds to a block's output."""
    inner = relu(linear(y, adapter, "down_proj"))
    return scale * linear(inner, adapter, "up_proj")


def features_of(
    x: Array,
    config: list[int],
    weights: Arrays,
    change: Callable[[int, Array], Any] = lambda block, y: 0,
) -> tuple[Array, list[Array]]:
    """Class token after the last norm, and the tokens after every block."""
    _, patch, width, depth, heads = config
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    kernel = weights["patch_embed.proj.weight"]
    maps = conv(x.astype(np.float64), kernel, weights["patch_embed.proj.bias"], stride=patch)
    tokens = maps.reshape(len(x), width, -1).transpose(0, 2, 1)
    first = np.broadcast_to(weights["cls_token"], (len(x), 1, width))
    tokens = np.concatenate([first, tokens], 1) + weights["pos_embed"]
    outs = []
    for i in range(depth):
        block = f"blocks.{i}"
        normed = layer_norm(tokens, weights, f"{block}.norm1")
        y = tokens + attention(normed, weights, block, heads)
        inner = gelu(linear(layer_norm(y, weights, f"{block}.norm2"), weights, f"{block}.mlp.fc1"))
        tokens = y + linear(inner, weights, f"{block}.mlp.fc2") + change(i, y)
        outs.append(tokens)
    return layer_norm(tokens, weights, "norm")[:, 0], outs


def adapter_weights(rng: Generator, width: int, rank: int) -> Arrays:
    shapes = {"down_proj": (rank, width), "up_proj": (width, rank)}
    kinds = {f"{n}.weight": s for n, s in shapes.items()}
    kinds |= {f"{n}.bias": s[:1] for n, s in shapes.items()}
    return single({name: rng.normal(size=shape) for name, shape in kinds.items()})


def images(rng: Generator, config: list[int], count: int) -> Array:
    return rng.random((count, 3, config[0], config[0])).astype(np.float32)
