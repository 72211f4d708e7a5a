"""Parts of several methods."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator

Array = np.ndarray
Arrays = dict[str, Any]


def single(arrays: Arrays) -> Arrays:
    """Float64 arrays as float32, the type of the vectors that are stored so."""
    return {
        name: np.float32(value) if np.asarray(value).dtype == np.float64 else value
        for name, value in arrays.items()
    }


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def cross_entropy(logits: Array, labels: Array) -> float:
    return float(-np.log(softmax(logits)[np.arange(len(labels)), labels]).mean())


def unit(rows: Array) -> Array:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def linear(x: Array, weights: Arrays, name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def labels_of(rng: Generator, classes: int, each: int) -> Array:
    """At least one of every class, in any order."""
    extra = rng.integers(0, classes, classes * each)
    return rng.permutation(np.concatenate([np.arange(classes), extra]))


def clusters(rng: Generator, centres: Array, y: Array) -> Array:
    return (centres[y] + rng.normal(size=(len(y), centres.shape[1]))).astype(np.float32)


def class_means(x: Array, y: Array, classes: int) -> Array:
    return np.stack([x[y == c].mean(0) for c in range(classes)])


def conv(
    x: Array, weight: Array, bias: Any = None, stride: int = 1, padding: int = 0, groups: int = 1
) -> Array:
    """Cross-correlation; x [n, C, H, W], weight [out, C / groups, k, k]."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    parts = zip(np.split(windows, groups, 1), np.split(weight, groups), strict=True)
    out = np.concatenate([np.einsum("nchwij,ocij->nohw", w, k) for w, k in parts], 1)
    return out if bias is None else out + bias[:, None, None]
