"""Refresh learning over DER++ on a perceptron."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays, cross_entropy, linear, relu, softmax


class TinyMlp:
    """fc2(relu(fc1(x))), its losses and their gradients."""

    def __init__(self, rng: Generator):
        wide_in, hidden, classes = (int(rng.integers(2, 9)) for _ in range(3))
        shapes = {"fc1": (hidden, wide_in), "fc2": (classes, hidden)}
        self.weights: Arrays = {}
        for name, shape in shapes.items():
            self.weights[f"{name}.weight"] = rng.normal(size=shape)
            self.weights[f"{name}.bias"] = rng.normal(size=shape[:1])
        self.wide_in, self.classes = wide_in, classes

    def logits(self, x: Array) -> Array:
        return linear(relu(linear(x, self.weights, "fc1")), self.weights, "fc2")

    def gradients(self, x: Array, pull: Array) -> Arrays:
        """Of sum(logits * pull), ``pull`` held fixed."""
        before = linear(x, self.weights, "fc1")
        back = pull @ self.weights["fc2.weight"] * (before > 0)
        return {
            "fc1.weight": back.T @ x, "fc1.bias": back.sum(0),
            "fc2.weight": pull.T @ relu(before), "fc2.bias": pull.sum(0),
        }  # fmt: skip

    def entropy(self, x: Array, y: Array) -> tuple[float, Arrays]:
        """Mean cross-entropy and its gradients."""
        pull = (softmax(self.logits(x)) - np.eye(self.classes)[y]) / len(y)
        return cross_entropy(self.logits(x), y), self.gradients(x, pull)

    def unlearn(self, x: Array, y: Array, fisher: Arrays, noise: Arrays) -> None:
        _, gradients = self.entropy(x, y)
        for name, p in self.weights.items():
            u = 0.01 * gradients[name]
            change = np.linalg.norm(p) * u / (np.linalg.norm(u) + 1e-20) + 1e-3 * noise[name]
            self.weights[name] = p + 1e-5 * change / (1 + 1e-3 * fisher[name])

    def like(self, draw: Callable[[tuple[int, ...]], Array]) -> Arrays:
        return {name: draw(p.shape) for name, p in self.weights.items()}


def under(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}.{name}": value for name, value in arrays.items()}


def refresh_unlearn(rng: Generator) -> Arrays:
    net, n = TinyMlp(rng), int(rng.integers(2, 20))
    x, y = rng.normal(size=(n, net.wide_in)), rng.integers(0, net.classes, n)
    fisher = net.like(lambda shape: rng.exponential(1000, shape))
    made: Arrays = {"x": x, "y": y, **under("before", net.weights), **under("fisher", fisher)}
    made["ce_before"], gradients = net.entropy(x, y)
    made |= under("grad_ce", gradients)
    for number in ("", "2"):
        noise = net.like(lambda shape: rng.normal(size=shape))
        net.unlearn(x, y, fisher, noise)
        made |= {**under(f"noise{number}", noise), **under(f"after{number}", net.weights)}
        made.setdefault("ce_after", net.entropy(x, y)[0])
    return made


def refresh_fisher(rng: Generator) -> Arrays:
    net, n, size = TinyMlp(rng), int(rng.integers(2, 20)), int(rng.integers(1, 7))
    x, y = rng.normal(size=(n, net.wide_in)), rng.integers(0, net.classes, n)
    batches, prior = -(-n // size), net.like(rng.random)
    fisher = {name: 1e-5 * value for name, value in prior.items()}
    chances = softmax(net.logits(x))[np.arange(n), y]
    for i, chance in enumerate(chances):
        for name, g in net.entropy(x[i : i + 1], y[i : i + 1])[1].items():
            fisher[name] = fisher[name] + chance * g**2 / (batches * size)
    return {
        "x": x, "y": y, "batch_size": size, "n_batches": batches, **under("param", net.weights),
        **under("fisher_prior", prior), **under("fisher_after", fisher),
    }  # fmt: skip


def refresh_derpp(rng: Generator) -> Arrays:
    """Unlearn, then one step of DER++ whose replay is the whole memory."""
    net, n, steps = TinyMlp(rng), int(rng.integers(2, 7)), int(rng.integers(1, 5))
    lr, alpha, beta, decay = (float(rng.uniform(0.01, 0.5)) for _ in range(4))
    memory: list[Any] = [rng.normal(size=(n + 1, w)) for w in (net.wide_in, net.classes)]
    memory.insert(1, rng.integers(0, net.classes, n + 1))
    keys = ("buf_x", "buf_y", "buf_logits")
    fisher = net.like(lambda shape: rng.exponential(100, shape))
    made: Arrays = {
        "lr": lr, "alpha": alpha, "beta": beta, "weight_decay": decay, "steps": steps,
        **dict(zip(keys, memory, strict=True)), **under("before", net.weights),
        **under("fisher", fisher),
    }  # fmt: skip
    for step in range(steps):
        x, y = rng.normal(size=(n, net.wide_in)), rng.integers(0, net.classes, n)
        noise = net.like(lambda shape: rng.normal(size=shape))
        net.unlearn(x, y, fisher, noise)
        made |= {f"step{step}.x": x, f"step{step}.y": y, **under(f"step{step}.noise", noise)}
        made |= under(f"step{step}.after_unlearn", net.weights)
        logits, old = net.logits(x), net.logits(memory[0])
        off = old - memory[2]
        terms = [net.entropy(x, y), net.entropy(memory[0], memory[1])]
        loss = terms[0][0] + alpha * (off**2).mean() + beta * terms[1][0]
        matched = net.gradients(memory[0], 2 * off / off.size)
        for name, p in net.weights.items():
            g = terms[0][1][name] + alpha * matched[name] + beta * terms[1][1][name]
            net.weights[name] = p - lr * (g + decay * p)
        made[f"step{step}.loss"] = loss
        made |= under(f"step{step}.after_relearn", net.weights)
        memory = [np.concatenate(pair) for pair in zip(memory, (x, y, logits), strict=True)]
    return {**made, **{f"{key}_end": part for key, part in zip(keys, memory, strict=True)}}
