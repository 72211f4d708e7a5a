"""Dynamic sparse training: densities, masks, prune and grow."""

import math

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays


def sparse_shapes(rng: Generator) -> dict[str, tuple[int, ...]]:
    """conv, fc1 on its flattened maps, fc2; sides of images and kernels are drawn, too."""
    channels_, maps, hidden, classes, side = (int(rng.integers(2, 7)) for _ in range(5))
    kernel = int(rng.choice([1, 3]))
    return {
        "conv.weight": (maps, channels_, kernel, kernel),
        "fc1.weight": (hidden, maps * side * side),
        "fc2.weight": (classes, hidden),
    }


def erk(shapes: list[tuple[int, ...]], density: float) -> Array:
    """Densities in proportion to sum(shape) / prod(shape), where need be capped at 1."""
    sizes = np.array([math.prod(s) for s in shapes], float)
    raw = np.array([sum(s) / math.prod(s) for s in shapes])
    full = np.zeros(len(shapes), bool)
    while True:
        free = ~full
        budget = density * sizes[free].sum() - (1 - density) * sizes[full].sum()
        found = np.where(full, 1.0, budget / (raw * sizes)[free].sum() * raw)
        if found.max() <= 1:
            return found
        full |= found == found[free].max()


def dst_erk(rng: Generator) -> Arrays:
    shapes = sparse_shapes(rng)
    rows = np.full((len(shapes), 4), -1)
    for row, shape in zip(rows, shapes.values(), strict=True):
        row[: len(shape)] = shape
    made: Arrays = {"names": np.array(list(shapes)), "shapes": rows}
    for density in (0.1, 0.35, 0.8):
        densities = erk(list(shapes.values()), density)
        made[f"density_{density}"] = densities
        for (name, shape), d in zip(shapes.items(), densities, strict=True):
            uniform = rng.random(shape)
            made |= {f"uniform_{density}.{name}": uniform, f"mask_{density}.{name}": uniform < d}
    return made


def dst_uniform(rng: Generator) -> Arrays:
    density, made = float(rng.uniform(0.1, 0.9)), {}
    for name, shape in sparse_shapes(rng).items():
        uniform, weight = rng.random(shape), rng.normal(size=shape).astype(np.float32)
        mask = uniform < density
        made |= {f"uniform.{name}": uniform, f"mask.{name}": mask.astype(np.uint8)}
        made |= {f"weight_before.{name}": weight, f"weight_after.{name}": weight * mask}
    return {**made, "density": density}


def dst_prune_and_grow(rng: Generator) -> Arrays:
    """Magnitude death with gradient and with momentum growth, per tensor."""
    rate, made = float(rng.uniform(0.1, 0.6)), {}
    for name, shape in sparse_shapes(rng).items():
        mask = rng.random(shape) < 0.5
        weight = (rng.normal(size=shape) * mask).astype(np.float32)
        state = {k: rng.normal(size=shape).astype(np.float32) for k in ("grad", "exp_avg")}
        state["exp_avg_sq"] = rng.random(shape).astype(np.float32) + 0.1
        made |= {f"weight.{name}": weight, f"mask.{name}": mask.astype(np.uint8)}
        made |= {f"{key}.{name}": value for key, value in state.items()}
        made[f"fired.{name}"] = mask.astype(np.uint8)
        scores = {
            "gradient": np.abs(state["grad"]),
            "momentum": np.abs(state["exp_avg"] / (np.sqrt(state["exp_avg_sq"]) + 1e-8)),
        }
        count = math.ceil(rate * mask.sum())
        order = np.where(mask, np.abs(weight), np.inf).ravel().argsort()
        kept = mask.ravel().copy()
        kept[order[:count]] = False
        for growth, score in scores.items():
            after = kept.copy()
            after[np.where(kept, -np.inf, score.ravel()).argsort()[::-1][:count]] = True
            after, case = after.reshape(shape), f"magnitude.{growth}"
            made[f"{case}.mask_after.{name}"] = after.astype(np.uint8)
            made[f"{case}.weight_after.{name}"] = weight * after
            made[f"{case}.n_removed.{name}"] = count
    return {**made, "death_rate": rate}


def dst_death_rate(rng: Generator) -> Arrays:
    made: Arrays = {}
    for case in range(int(rng.integers(1, 5))):
        first, steps = float(rng.uniform(0.1, 0.9)), int(rng.integers(2, 40))
        turn = 1 + np.cos(np.pi * np.arange(steps + 1) / steps)
        made |= {f"case{case}.d0": first, f"case{case}.T": steps}
        made[f"case{case}.rate"] = 0.005 + (first - 0.005) * turn / 2
    return made


def dst_first_masks(rng: Generator, init: str) -> Arrays:
    """Of a first task, where each entry is on with its layer's probability."""
    density, shapes = 0.3, sparse_shapes(rng)
    densities = erk(list(shapes.values()), density) if init == "erk" else np.full(3, density)
    made: Arrays = {"density": density}
    for (name, shape), d in zip(shapes.items(), densities, strict=True):
        uniform = rng.random(shape)
        made |= {f"task0.init_uniform.{name}": uniform, f"task0.mask_init.{name}": uniform < d}
    return made
