"""Sparse topologies: densities of layers, masks, and the rules that prune and grow them.

A mask is a bool tensor in the shape of its weight. Ties are broken by flat index, the lower first.
Random numbers come as arguments, so that a caller decides what they depend on.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "cosine_rate",
    "erk_densities",
    "grow_random",
    "grow_scored",
    "grow_unfired",
    "prune_magnitude",
    "prune_taylor",
]


def erk_densities(shapes: Sequence[Sequence[int]], density: float) -> list[float]:
    """Erdos-Renyi-kernel densities: a layer's is eps * sum(shape) / prod(shape), at most 1.

    eps is such that a fraction ``density`` of all weights is on. Layers whose density would exceed
    1 are full, and eps is computed again for the others.

    Args:
        shapes: Shapes of the weights: (out, in / groups, height, width) or (out, in).
        density: Fraction of all weights, above 0 and at most 1.
    """
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / math.prod(shape) for shape in shapes]
    full: set[int] = set()
    while True:
        rest = [i for i in range(len(sizes)) if i not in full]
        if not rest:
            return [1.0] * len(sizes)
        wanted = density * sum(sizes[i] for i in rest)
        wanted -= (1 - density) * sum(sizes[i] for i in full)
        eps = wanted / sum(raw[i] * sizes[i] for i in rest)
        largest = max(raw[i] for i in rest)
        if eps * largest <= 1:
            return [1.0 if i in full else eps * raw[i] for i in range(len(sizes))]
        full |= {i for i in rest if raw[i] == largest}


def cosine_rate(step: int, steps: int, first: float, last: float) -> float:
    """Value of half a cosine from ``first`` at step 0 to ``last`` at step ``steps``."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def prune_magnitude(weight: Tensor, mask: Tensor, rate: float) -> Tensor:
    """The mask without the weights of smallest magnitude, about ``rate`` of those that are on.

    The threshold is the k-th smallest magnitude of the whole tensor, including entries that are off
    (zeros), with k = off + ceil(rate * on); larger weights stay. So weights that are on and exactly
    zero are removed first, and ties may remove more.

    Args:
        weight: Zero wherever the mask is off.
        mask: Mask of ``weight``.
        rate: Fraction to remove, in [0, 1].
    """
    on = int(mask.sum())
    doomed = math.ceil(rate * on)
    size = weight.abs()
    if doomed == 0:
        return mask & (size > 0)
    threshold = size.flatten().kthvalue(mask.numel() - on + doomed).values
    return mask & (size > threshold)


def prune_taylor(weight: Tensor, gradient: Tensor, mask: Tensor, rate: float) -> Tensor:
    """The mask without the entries whose removal changes the loss least to first order.

    The k entries with the smallest (w g)^2 are off, with k = off + ceil(rate * on).
    """
    on = int(mask.sum())
    k = mask.numel() - on + math.ceil(rate * on)
    order = (weight * gradient).square().flatten().sort(stable=True).indices
    kept = mask.flatten().clone()
    kept[order[:k]] = False
    return kept.view_as(mask)


def grow_scored(mask: Tensor, score: Tensor, count: int) -> Tensor:
    """The mask with the ``count`` entries of highest score among those that are off."""
    candidates = score.masked_fill(mask, -torch.inf).flatten()
    order = candidates.sort(descending=True, stable=True).indices
    grown = mask.flatten().clone()
    grown[order[: min(count, int((~mask).sum()))]] = True
    return grown.view_as(mask)


def grow_random(mask: Tensor, count: int, uniform: Tensor) -> Tensor:
    """The mask with each zero entry set with probability count / number of zeros.

    Args:
        mask: Mask to extend.
        count: Expected number of entries that are set.
        uniform: Random numbers in [0, 1), in the shape of the mask.
    """
    off = int((~mask).sum())
    return mask | (uniform < count / max(off, 1))


def grow_unfired(
    mask: Tensor, fired: Tensor, count: int, permutation: Tensor, uniform: Tensor
) -> Tensor:
    """The mask with ``count`` more entries, first such that were never on, then random ones.

    Args:
        mask: Mask to extend.
        fired: Entries that have been on before.
        count: Number of entries to set.
        permutation: Random order of the entries that were never on, by number in flat order.
        uniform: See `grow_random`.
    """
    unfired = (~fired).flatten().nonzero()[:, 0]
    grown = mask.flatten().clone()
    grown[unfired[permutation[:count]]] = True
    grown = grown.view_as(mask)
    missing = count - len(unfired)
    return grow_random(grown, missing, uniform) if missing > 0 else grown
