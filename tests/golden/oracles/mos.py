"""MOS: merge, loss, statistics, retrieval."""

import numpy as np
from numpy.random import Generator

from .common import Array, Arrays, cross_entropy, single, softmax, unit
from .vit import adapted, adapter_weights, features_of, images, vit


def named(prefix: str, blocks: list[Arrays]) -> Arrays:
    """Adapters of all blocks as ``<prefix>.block<i>.<tensor>``."""
    return {f"{prefix}.block{i}.{n}": v for i, part in enumerate(blocks) for n, v in part.items()}


def mos_merge(rng: Generator) -> Arrays:
    depth, width, rank, tasks = (int(rng.integers(1, 9)) for _ in range(4))
    alpha = float(rng.choice([0.1, 0.3]))
    kept = [[adapter_weights(rng, width, rank) for _ in range(depth)] for _ in range(tasks)]
    current = [adapter_weights(rng, width, rank) for _ in range(depth)]
    made: Arrays = {"alpha": alpha, **named("current", current)}
    for task, blocks in enumerate(kept):
        made |= named(f"task{task}", blocks)

    def merged(times: int) -> list[Arrays]:
        """p (1 - a)^t + mean (1 - (1 - a)^t)."""
        left = (1 - alpha) ** times
        means = [{n: np.mean([k[i][n] for k in kept], 0) for n in p} for i, p in enumerate(current)]
        pairs = zip(current, means, strict=True)
        return [{n: left * p[n] + (1 - left) * mean[n] for n in p} for p, mean in pairs]

    made |= named("merged_once", merged(1))
    return {**made, **named("merged_1_plus_depth_times", merged(1 + depth))}


def mos_loss(rng: Generator) -> Arrays:
    known, new, later, width = (int(rng.integers(1, 6)) for _ in range(4))
    total, n = known + new, int(rng.integers(2, 9))
    reg, temperature = float(rng.choice([0.1, 0.4])), float(rng.choice([0.8, 1.5]))
    features, means = rng.normal(size=(n, width)), rng.normal(size=(known, width))
    logits, targets = rng.normal(size=(n, total + later)), rng.integers(known, total, n)

    def apart(rows: Array) -> float:
        return reg * cross_entropy(rows @ rows.T / temperature, np.arange(len(rows)))

    entropy = cross_entropy(logits[:, known:total], targets - known)
    with_means = apart(np.concatenate([means, features]))
    return {
        **single({"features": features, "logits_all": logits, "class_means": means}),
        "targets": targets, "n_known": known, "n_total": total, "reg": reg,
        "temperature": temperature, "masked_ce": entropy, "reg_term_with_means": with_means,
        "reg_term_without_means": apart(features), "total_with_means": entropy + with_means,
    }  # fmt: skip


def mos_stats(rng: Generator) -> Arrays:
    width, made = int(rng.integers(2, 20)), {}
    for column in range(int(rng.integers(1, 6))):
        features = rng.normal(size=(int(rng.integers(2, 30)), width))
        covariance = np.cov(features.T) + 1e-4 * np.eye(width)
        made |= {f"features_class{column}": features, f"mean_class{column}": features.mean(0)}
        made |= {
            f"covariance_class{column}": covariance,
            f"variance_class{column}": covariance.diagonal(),
        }
    return single(made)


def mos_retrieval(rng: Generator) -> Arrays:
    config, weights = vit(rng)
    size, tasks, rank, rounds = (int(rng.integers(2, 5)) for _ in range(4))
    total, scale = size * tasks, 0.3
    x = images(rng, config, int(rng.integers(5, 30)))
    every = [
        [adapter_weights(rng, config[2], rank) for _ in range(config[3])] for _ in range(tasks)
    ]
    features = np.stack(
        [
            features_of(x, config, weights, lambda i, y, a=a: adapted(y, a[i], scale))[0]
            for a in every
        ],
        1,
    )
    head, bias = rng.normal(size=(total, config[2])), rng.normal(size=total)
    # Prototypes between the images, so that they do not all name one task.
    prototypes = features[rng.integers(0, len(x), total), 0] + 0.1 * rng.normal(size=head.shape)
    guess = unit(features[:, 0]) @ unit(prototypes).T
    first = guess.argmax(1) // size
    visited, refined = np.full((len(x), rounds), -1), np.zeros_like(guess)
    for image, task in enumerate(first):
        for step in range(rounds):
            visited[image, step] = task
            refined[image] = features[image, task] @ head.T + bias
            task, asked = refined[image].argmax() // size, task
            if task == asked:
                break
    scores = softmax(refined) + softmax(tasks * guess)
    made: Arrays = {"vit_config": np.array(config), **{f"vit.{n}": v for n, v in weights.items()}}
    for task, blocks in enumerate(every):
        made |= named(f"task{task}", blocks)
    return {
        **made, "x": x, "adapter_scale": scale, "max_rounds": rounds, "classes_per_task": size,
        "n_tasks": tasks, **single({"head_weight": head, "head_bias": bias}),
        **single({"prototype_weight": prototypes}), "prototype_logits": guess,
        "features_no_adapter": features_of(x, config, weights)[0], "features_per_task": features,
        "initial_task": first, "visited_adapters": visited, "refined_logits": refined,
        "ensemble_scores": scores, "top1_ensemble": scores.argmax(1),
        "top1_no_ensemble": refined.argmax(1), "top5_ensemble": (-scores).argsort(1)[:, :5],
    }  # fmt: skip


def mos_align(rng: Generator) -> Arrays:
    """The head alone, by SGD with momentum on draws, its rate along a cosine."""
    seen, later, width, batch, epochs = (int(rng.integers(2, 6)) for _ in range(5))
    step, total, lr = 5 * batch, seen + later, float(rng.uniform(0.01, 0.1))
    momentum, decay = float(rng.choice([0.5, 0.9])), float(rng.choice([0.0, 0.01]))
    samples = rng.normal(size=(epochs, seen, step, width))
    orders = np.stack([rng.permutation(seen * step) for _ in range(epochs)])
    head = [rng.normal(size=(total, width)), rng.normal(size=total)]
    made: Arrays = {"head_weight_before": head[0], "head_bias_before": head[1]}
    speed, losses = [0.0, 0.0], []
    for epoch, order in enumerate(orders):
        rate = lr / 2 * (1 + np.cos(np.pi * epoch / epochs))
        for part in order.reshape(-1, step):
            x, y = samples[epoch].reshape(-1, width)[part], part // step
            logits = (x @ head[0].T + head[1])[:, :seen]
            losses.append(cross_entropy(logits, y))
            pull = np.zeros((step, total))
            pull[:, :seen] = (softmax(logits) - np.eye(seen)[y]) / step
            slopes = [pull.T @ x, pull.sum(0)]
            pairs = zip(speed, slopes, head, strict=True)
            speed = [momentum * v + g + decay * p for v, g, p in pairs]
            head = [p - rate * v for p, v in zip(head, speed, strict=True)]
    made |= {"samples": samples, "head_weight_after": head[0], "head_bias_after": head[1]}
    return {
        **single(made), "permutations": orders, "losses": np.array(losses), "epochs": epochs,
        "class_means": samples.mean((0, 2)), "ca_lr": lr, "momentum": momentum,
        "weight_decay": decay, "samples_per_class": step, "batch_size_per_step": step,
        "n_classes_seen": seen,
    }  # fmt: skip
