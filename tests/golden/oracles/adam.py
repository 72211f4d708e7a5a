"""ADAM/APER: an adapter, the cosine classifier, SimpleCIL."""

import math

import numpy as np
from numpy.random import Generator

from .common import Arrays, class_means, labels_of, single, unit
from .vit import adapted, adapter_weights, features_of, images, vit


def adapter(rng: Generator) -> Arrays:
    config, weights = vit(rng)
    rank, scale = int(rng.integers(1, 6)), float(rng.choice([0.1, 0.5]))
    parts = [adapter_weights(rng, config[2], rank) for _ in range(config[3])]
    x = images(rng, config, int(rng.integers(2, 6)))
    plain, _ = features_of(x, config, weights)
    features, outs = features_of(x, config, weights, lambda i, y: adapted(y, parts[i], scale))
    module_in = rng.normal(size=(2, 3, config[2])).astype(np.float32)
    state = {
        f"adapter_state.blocks.{i}.adapter.{name}": value
        for i, part in enumerate(parts)
        for name, value in part.items()
    }
    return {
        "vit_config": np.array(config),
        **{f"vit.{name}": value for name, value in weights.items()},
        **state,
        "adapter_scale": scale,
        "x": x,
        "features_without_adapters": plain,
        "features": features,
        **{f"block_out_{i}": out for i, out in enumerate(outs)},
        "module_in": module_in,
        "module_out_no_residual": adapted(module_in.astype(np.float64), parts[0], scale),
    }


def simplecil(rng: Generator) -> tuple[Arrays, Arrays]:
    """Inputs of sessions, and what SimpleCIL answers after each."""
    config, weights = vit(rng)
    size, sessions = (int(rng.integers(2, 5)) for _ in range(2))
    x_test = images(rng, config, 7)
    inputs: Arrays = {
        "vit_config": np.array(config),
        **{f"vit.{name}": value for name, value in weights.items()},
        "x_test": x_test,
        "classes_per_session": size,
    }
    answers: Arrays = {}
    test, means = unit(features_of(x_test, config, weights)[0]), np.zeros((0, config[2]))
    for session in range(sessions):
        y = labels_of(rng, size, 2) + size * session
        x = images(rng, config, len(y))
        inputs |= {f"proto_x_{session}": x, f"proto_y_{session}": y}
        new = class_means(features_of(x, config, weights)[0], y - size * session, size)
        means = np.concatenate([means, new])
        logits = test @ unit(means).T
        answers[f"proto_weights_after_session_{session}"] = means
        answers[f"test_logits_after_session_{session}"] = logits
        answers[f"test_pred_after_session_{session}"] = logits.argmax(1)
    return inputs, answers


def cosine_head(rng: Generator) -> Arrays:
    n, classes, width = (int(rng.integers(2, 12)) for _ in range(3))
    features, weight = rng.normal(size=(n, width)), rng.normal(size=(classes, width))
    u, v, sigma = unit(features), unit(weight), float(rng.uniform(0.5, 5))
    cosines = u @ v.T
    # d/dw of sum (sigma u.v)^2: the part of 2 sigma^2 cos u that is orthogonal to v, over |w|.
    pull = 2 * sigma**2 * cosines.T @ u
    pull -= (pull * v).sum(1, keepdims=True) * v
    return single(
        {
            "features": features,
            "weight": weight,
            "sigma_1": 1.0,
            "logits_1": cosines,
            "sigma_2": sigma,
            "logits_2": sigma * cosines,
            "grad_weight_of_sum_sq_logits_2": pull / np.linalg.norm(weight, axis=1, keepdims=True),
            "grad_sigma_of_sum_sq_logits_2": np.array([2 * sigma * (cosines**2).sum()]),
            "init_abs_max_bound": 1 / math.sqrt(width),
        }
    )
