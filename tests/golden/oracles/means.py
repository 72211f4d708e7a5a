"""Nearest class mean."""

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays, class_means, clusters, labels_of, unit


def nearest(x: Array, means: Array) -> Array:
    return ((unit(x)[:, None] - means) ** 2).sum(2).argmin(1)


def nmc_class_incremental(rng: Generator) -> Arrays:
    size, tasks, width = (int(rng.integers(2, 7)) for _ in range(3))
    total = size * tasks
    centres = rng.normal(size=(total, width))
    y, y_test = (labels_of(rng, total, each) for each in (4, 2))
    x, x_test = clusters(rng, centres, y), clusters(rng, centres, y_test)
    means = class_means(unit(x.astype(np.float64)), y, total)
    made: Arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
    accuracies = []
    for task in range(tasks):
        seen = y_test < size * (task + 1)
        answers = nearest(x_test[seen].astype(np.float64), means[: size * (task + 1)])
        made[f"pred_after_task_{task}"] = answers
        accuracies.append((answers == y_test[seen]).mean())
    return {
        **made,
        "classes_per_task": size,
        "class_means": means,
        "accuracy_per_task": np.array(accuracies),
    }


def nmc_sessions(rng: Generator) -> Arrays:
    classes, sessions, width = (int(rng.integers(2, 8)) for _ in range(3))
    centres = rng.normal(size=(classes, width))
    x_test = clusters(rng, centres, labels_of(rng, classes, 3))
    made: Arrays = {"x_test": x_test}
    xs, ys, means = [], [], np.empty(0)
    for session in range(sessions):
        ys.append(labels_of(rng, classes, int(rng.integers(1, 5))))
        xs.append(clusters(rng, centres, ys[-1]))
        made |= {f"x_train_{session}": xs[-1], f"y_train_{session}": ys[-1]}
        means = class_means(unit(np.concatenate(xs).astype(float)), np.concatenate(ys), classes)
        made[f"pred_after_session_{session}"] = nearest(x_test.astype(np.float64), means)
    made["class_counts_final"] = np.bincount(np.concatenate(ys))
    return {**made, "class_means_final": means}
