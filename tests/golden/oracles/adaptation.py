"""Batch statistics, LAME, and the moving average of a teacher."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays, clusters, conv, labels_of, relu, softmax, unit


def channels(values: Array) -> Array:
    return values[:, None, None]


class TinyNet:
    """conv1 - bn1 - relu - conv2, stride 2 - bn2 - relu - mean - fc."""

    def __init__(self, rng: Generator):
        c0, c1, c2, classes = (int(rng.integers(2, 8)) for _ in range(4))
        side = int(rng.choice([1, 3, 5]))
        self.weights: Arrays = {
            "conv1.weight": rng.normal(size=(c1, c0, side, side)),
            "conv2.weight": rng.normal(size=(c2, c1, side, side)),
            "fc.weight": rng.normal(size=(classes, c2)),
            "fc.bias": rng.normal(size=classes),
        }
        for layer, width in (("bn1", c1), ("bn2", c2)):
            self.weights[f"{layer}.weight"] = rng.uniform(0.5, 1.5, width)
            self.weights[f"{layer}.bias"] = rng.normal(size=width)
            self.weights[f"{layer}.running_mean"] = rng.normal(size=width)
            self.weights[f"{layer}.running_var"] = rng.uniform(0.5, 1.5, width)

    def __call__(self, x: Array, statistics: Callable[[str, Array, Array], Any]) -> Array:
        """Logits, where ``statistics(layer, mean, variance)`` says what to normalise by."""
        for number, stride in ((1, 1), (2, 2)):
            weight, name = self.weights[f"conv{number}.weight"], f"bn{number}"
            x = conv(x, weight, stride=stride, padding=weight.shape[-1] // 2)
            mean, var = statistics(
                name, x.mean((0, 2, 3)), x.transpose(1, 0, 2, 3).reshape(len(weight), -1)
            )
            scaled = (x - channels(mean)) / np.sqrt(channels(var) + 1e-5)
            x = scaled * channels(self.weights[f"{name}.weight"])
            x = relu(x + channels(self.weights[f"{name}.bias"]))
        return x.mean((2, 3)) @ self.weights["fc.weight"].T + self.weights["fc.bias"]


def bn_adapt(rng: Generator) -> Arrays:
    net = TinyNet(rng)
    steps, n, side = (int(rng.integers(2, 5)) for _ in range(3))
    w = net.weights
    x = rng.normal(size=(steps, n, w["conv1.weight"].shape[1], side + 3, side + 3))
    share, momentum = float(rng.choice([0.2, 0.7])), 0.1

    def source(name: str, mean: Array, values: Array) -> Any:
        return w[f"{name}.running_mean"], w[f"{name}.running_var"]

    def batch(name: str, mean: Array, values: Array) -> Any:
        return mean, values.var(1)

    def blend(name: str, mean: Array, values: Array) -> Any:
        old_mean, old_var = source(name, mean, values)
        var = values.var(1, ddof=1)
        return (1 - share) * old_mean + share * mean, (1 - share) * old_var + share * var

    running = {
        name: [w[f"{name}.running_mean"], w[f"{name}.running_var"]] for name in ("bn1", "bn2")
    }

    def accumulate(name: str, mean: Array, values: Array) -> Any:
        """Move by the batch, and normalise by the batch: the first pass of `bnema`."""
        new = mean, values.var(1, ddof=1)
        running[name] = [
            (1 - momentum) * o + momentum * b for o, b in zip(running[name], new, strict=True)
        ]
        return batch(name, mean, values)

    made: Arrays = {"test_x": x, **{f"init/{name}": value for name, value in w.items()}}
    for step, images_ in enumerate(x):
        made[f"source_{step}"] = net(images_, source)
        made[f"bn1_{step}"] = net(images_, batch)
        made[f"bnalpha{share}_{step}"] = net(images_, blend)
        net(images_, accumulate)
        made[f"bnema_{step}"] = net(images_, lambda name, mean, values: running[name])
    for form in ("bn1", "bnema"):
        made |= {f"{form}_after{steps}/{name}": v for name, v in w.items() if "running" not in name}
    for name, (mean, var) in running.items():
        made[f"bnema_after{steps}/{name}.running_mean"] = mean
        made[f"bnema_after{steps}/{name}.running_var"] = var
    return made


def lame(rng: Generator) -> Arrays:
    n, classes, width = int(rng.integers(3, 25)), *(int(rng.integers(2, 12)) for _ in range(2))
    labels = labels_of(rng, classes, 1)[:n]
    n = len(labels)
    features = clusters(rng, 2 * rng.normal(size=(classes, width)), labels).astype(np.float64)
    logits = features @ rng.normal(size=(width, classes))
    unary = -np.log(softmax(logits) + 1e-10)
    made: Arrays = {"features": features, "logits": logits, "labels": labels, "unary": unary}
    made["max_iter"] = rounds = int(rng.integers(5, 60))
    near, wide = int(rng.integers(1, 8)), int(rng.integers(2, 8))
    for tag, weights in {
        f"kNN_k{near}": knn(features, near),
        f"rbf_k{wide}": rbf(features, wide),
        "linear": unit(features) @ unit(features).T,
    }.items():
        z, energies = solved(unary, weights, rounds)
        made |= {f"W_{tag}": weights, f"Z_{tag}": z, f"niter_{tag}": len(energies)}
        made |= {f"energy_{tag}": energies, f"acc_{tag}": (z.argmax(1) == labels).mean()}
        made[f"Z1step_{tag}"] = solved(unary, weights, 1)[0]
        made[f"Zsym_{tag}"] = solved(unary, (weights + weights.T) / 2, rounds)[0]
    return made


def distances(features: Array) -> Array:
    rows = unit(features)
    return np.sqrt(((rows[:, None] - rows) ** 2).sum(2))


def knn(features: Array, k: int) -> Array:
    apart = distances(features) + np.diag(np.full(len(features), np.inf))
    weights = np.zeros_like(apart)
    k = min(k, len(features) - 1)
    np.put_along_axis(weights, apart.argsort(1)[:, :k], 1.0, axis=1)
    return weights


def rbf(features: Array, k: int) -> Array:
    apart = distances(features)
    sigma = np.sort(apart, 1)[:, min(k, len(features)) - 1].mean()
    return np.exp(-(apart**2) / (2 * sigma**2))


def solved(unary: Array, weights: Array, rounds: int) -> tuple[Array, Array]:
    z, energies = softmax(-unary), []
    for i in range(rounds):
        pull = weights @ z
        z = softmax(pull - unary)
        energies.append((z * (unary - pull + np.log(np.maximum(z, 1e-20)))).sum())
        if i > 1 and abs(energies[-1] - energies[-2]) <= 1e-8 * abs(energies[-2]):
            break
    return z, np.array(energies)


def moving_average(rng: Generator) -> Arrays:
    momentum, made = float(rng.choice([0.5, 0.9, 0.99])), {}
    for layer in range(int(rng.integers(1, 4))):
        name, shape = f"layer{layer}.weight", tuple(rng.integers(1, 6, 2))
        teacher, student = rng.normal(size=shape), rng.normal(size=shape)
        made |= {f"teacher_before/{name}": teacher, f"student/{name}": student}
        made[f"teacher_after_{momentum}/{name}"] = momentum * teacher + (1 - momentum) * student
    return made
