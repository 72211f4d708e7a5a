"""Herding, nearest means, distillation, weight aligning and BiC's second stage."""

import json

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays, cross_entropy, softmax

MOMENTUM = 0.9


def _unit(rows: Array) -> Array:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-8)


def _herd(vectors: Array, count: int) -> list[int]:
    mean, taken = vectors.mean(0), list[int]()
    while len(taken) < min(count, len(vectors)):
        left = [i for i in range(len(vectors)) if i not in taken]
        sums = [vectors[[*taken, i]].sum(0) / (len(taken) + 1) for i in left]
        taken.append(left[int(np.argmin([np.linalg.norm(mean - s) for s in sums]))])
    return taken


def scratch_herding(rng: Generator) -> Arrays:
    increments = rng.integers(1, 4, int(rng.integers(2, 5)))
    classes, width = int(increments.sum()), int(rng.integers(3, 9))
    size = int(rng.integers(classes, 6 * classes))
    train_y, test_y = (rng.permutation(np.repeat(np.arange(classes), n)) for n in (12, 5))
    centres = rng.normal(size=(classes, width))
    train_x, test_x = (
        centres[y] + 0.5 * rng.normal(size=(len(y), width)) for y in (train_y, test_y)
    )
    made: Arrays = {
        "train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y,
        "increments": increments, "memory_size": size,
    }  # fmt: skip
    kept: list[list[int]] = []
    for task, seen in enumerate(np.cumsum(increments).tolist()):
        share = size // seen
        kept = [rows[:share] for rows in kept]
        for label in range(len(kept), seen):
            rows = np.flatnonzero(train_y == label)
            kept.append(rows[_herd(_unit(train_x[rows]), share)].tolist())
        means = np.stack([_unit(train_x[rows]).mean(0) for rows in kept])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        order = np.concatenate([np.flatnonzero(test_y == c) for c in range(seen)])
        apart = np.linalg.norm(_unit(test_x[order])[:, None] - means, axis=2)
        ids = np.concatenate([np.array(rows, dtype=int) for rows in kept])
        made |= {
            f"per_class_{task}": share, f"memory_ids_{task}": ids,
            f"memory_targets_{task}": train_y[ids], f"class_means_{task}": means,
            f"nme_ranking_{task}": apart.argsort(1), f"nme_targets_{task}": test_y[order],
        }  # fmt: skip
    first = np.flatnonzero(train_y == 0)
    made["full_order_class0"] = first[_herd(_unit(train_x[first]), 7)]
    return made


def scratch_kd(rng: Generator) -> Arrays:
    count, known, new = (int(n) for n in rng.integers(1, 9, 3))
    logits = 2 * rng.normal(size=(count, known + new))
    old, y = 2 * rng.normal(size=(count, known)), rng.integers(0, known + new, count)
    heat, weight = float(rng.uniform(0.5, 4)), float(rng.uniform(0.5, 3))
    ce, wanted, found = cross_entropy(logits, y), softmax(old / heat), logits[:, :known] / heat
    kd = float(-(wanted * np.log(softmax(found))).sum(1).mean())
    ce_grad = (softmax(logits) - np.eye(known + new)[y]) / count
    kd_grad = np.zeros_like(logits)
    kd_grad[:, :known] = (softmax(found) - wanted) / (heat * count)
    share = known / (known + new)
    return {
        "logits": logits, "old_logits": old, "targets": y, "T": heat, "lam": weight,
        "n_known": known, "ce": ce, "kd": kd, "total": ce + weight * kd,
        "grad": ce_grad + weight * kd_grad,
        "total_paper_weighting": (1 - share) * ce + share * kd,
        "grad_paper_weighting": (1 - share) * ce_grad + share * kd_grad,
    }  # fmt: skip


def wa_align(rng: Generator) -> Arrays:
    known, new, width = (int(n) for n in rng.integers(1, 9, 3))
    weight, bias = rng.normal(size=(known + new, width)), rng.normal(size=known + new)
    features = rng.normal(size=(5, width))
    lengths = np.sqrt((weight**2).sum(1))
    gamma = lengths[:known].mean() / lengths[known:].mean()
    aligned = weight * np.where(np.arange(known + new) < known, 1, gamma)[:, None]
    return {
        "weight": weight, "bias": bias, "n_known": known, "features": features, "gamma": gamma,
        "weight_aligned": aligned, "bias_after": bias, "weight_aligned_twice": aligned,
        "logits_aligned": features @ aligned.T + bias,
    }  # fmt: skip


def bic_stage2(rng: Generator) -> Arrays:
    sizes = rng.integers(1, 4, int(rng.integers(2, 4)))
    classes, count, epochs = int(sizes.sum()), int(rng.integers(5, 20)), int(rng.integers(1, 5))
    raw, y = 2 * rng.normal(size=(count, classes)), rng.integers(0, classes, count)
    pairs = np.stack([rng.uniform(0.5, 1.5, len(sizes)), rng.normal(size=len(sizes))], 1)
    pairs[-1] = 1, 0
    hp = {
        "epochs": epochs, "lr": 0.2, "weight_decay": 0.01, "lr_decay": 0.3,
        "milestones": sorted({int(e) for e in rng.integers(1, epochs + 1, 2)}),
        "batch_size": int(rng.integers(2, 9)),
    }  # fmt: skip
    task_of = np.repeat(np.arange(len(sizes)), sizes)
    before = raw * pairs[task_of, 0] + pairs[task_of, 1]
    made: Arrays = {
        "task_sizes": sizes, "raw_logits": raw, "targets": y, "hp": json.dumps(hp),
        "alpha_beta_previous": pairs[:-1].copy(), "corrected_before": before,
    }  # fmt: skip
    order = np.stack([rng.permutation(count) for _ in range(epochs)])
    losses, speed, new = list[float](), np.zeros(2), task_of == len(sizes) - 1
    for epoch, ids in enumerate(order):
        rate = hp["lr"] * hp["lr_decay"] ** sum(epoch >= m for m in hp["milestones"])
        for start in range(0, count, hp["batch_size"]):
            rows = ids[start : start + hp["batch_size"]]
            z = raw[rows] * pairs[task_of, 0] + pairs[task_of, 1]
            p = softmax(z)
            losses.append(cross_entropy(p, y[rows]))
            back = (softmax(p) - np.eye(classes)[y[rows]]) / len(rows)
            back = (p * (back - (back * p).sum(1, keepdims=True)))[:, new]
            slope = np.array([(back * raw[rows][:, new]).sum(), back.sum()])
            speed = MOMENTUM * speed + slope + hp["weight_decay"] * pairs[-1]
            pairs[-1] -= rate * speed
    after = raw * pairs[task_of, 0] + pairs[task_of, 1]
    return {
        **made, "order": order, "loss": np.array(losses), "corrected_after": after,
        "alpha": pairs[-1, :1], "beta": pairs[-1, 1:],
    }  # fmt: skip
