"""Merging networks that were trained separately from one start: averages, task arithmetic, TIES.

Task arithmetic: Ilharco et al., ICLR 2023 (arXiv 2212.04089). TIES: Yadav et al., NeurIPS 2023
(arXiv 2306.01708), released code prateeky2806/ties-merging 44e7891. A network is its floating
tensors by name; with theta_0 the common start, tau_i = theta_i - theta_0 is the task vector of
network i.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["average", "task_arithmetic", "ties", "trimmed"]

Weights = Mapping[str, Tensor]


def average(networks: Sequence[Weights], shares: Sequence[float] = ()) -> dict[str, Tensor]:
    """Sum of w_i theta_i over the sum of w_i; without ``shares`` the mean."""
    parts = torch.tensor(list(shares) or [1.0] * len(networks), dtype=torch.float64)
    return {name: _sum([n[name] for n in networks], parts / parts.sum()) for name in networks[0]}


def task_arithmetic(start: Weights, networks: Sequence[Weights], scale: float) -> dict[str, Tensor]:
    """theta_0 + scale * sum of tau_i; with one network, a negative scale unlearns its task."""
    return {
        name: value + scale * torch.stack([n[name] - value for n in networks]).sum(0)
        for name, value in start.items()
    }


def ties(
    start: Weights,
    networks: Sequence[Weights],
    scale: float = 1.0,
    keep: float = 20.0,
    merge: Literal["mean", "sum", "max"] = "mean",
) -> dict[str, Tensor]:
    """theta_0 + scale * the merged task vector, whose entries have the elected signs.

    The sign of an entry is that of the sum of its trimmed values; if the sum is zero, it is the
    sign that most entries have. Only values of that sign are merged.

    Args:
        start: theta_0.
        networks: theta_i, at least one.
        scale: Factor of the merged task vector.
        keep: Percentage of each task vector's entries that stay, above 0 and at most 100.
        merge: The mean of the agreeing values, their sum, or the largest of them.
    """
    vectors = torch.stack([_flat(n, start) - _flat(start, start) for n in networks])
    vectors = torch.stack([trimmed(vector, keep) for vector in vectors])
    signs = vectors.sum(0).sign()
    signs = torch.where(signs == 0, signs.sum().sign(), signs)
    agreeing = torch.where(vectors.sign() == signs, vectors, torch.zeros_like(vectors))
    if merge == "max":
        merged = agreeing.abs().amax(0) * signs
    else:
        merged = agreeing.sum(0)
        if merge == "mean":
            merged = merged / (agreeing != 0).sum(0).clamp(min=1)
    return _shaped(_flat(start, start) + scale * merged, start)


def trimmed(vector: Tensor, keep: float) -> Tensor:
    """Keep the entries of the largest magnitude, and set all others to zero.

    As in the released code, entries equal to the threshold stay: int(d keep / 100) + 1 of d
    entries, or more if magnitudes are equal.

    Args:
        vector: [d].
        keep: Percentage, above 0 and at most 100.
    """
    kept = int(len(vector) * keep / 100)
    if kept >= len(vector):
        return vector
    threshold = vector.abs().kthvalue(len(vector) - kept).values
    return torch.where(vector.abs() >= threshold, vector, torch.zeros_like(vector))


def _sum(tensors: Sequence[Tensor], shares: Tensor) -> Tensor:
    parts = [t * s.to(t.dtype).to(t.device) for t, s in zip(tensors, shares, strict=True)]
    return torch.stack(parts).sum(0)


def _flat(network: Weights, order: Weights) -> Tensor:
    return torch.cat([network[name].flatten() for name in order])


def _shaped(vector: Tensor, like: Weights) -> dict[str, Tensor]:
    parts = vector.split([value.numel() for value in like.values()])
    return {
        name: part.view_as(value) for (name, value), part in zip(like.items(), parts, strict=True)
    }
