"""Losses that hold a network to what an older one answered."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cosine_distance", "distillation", "pooled_distance"]


def distillation(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the softened answers to the old network's, mean over the batch.

    No factor T^2, and the softmax runs over the old classes alone, of which ``old_logits`` has one
    column each: the further columns of ``logits`` do not take part.

    Args:
        logits: [n, classes].
        old_logits: [n, old classes], without a gradient.
        temperature: Divisor of both.
    """
    wanted = F.softmax(old_logits / temperature, dim=1)
    found = F.log_softmax(logits[:, : old_logits.shape[1]] / temperature, dim=1)
    return -(wanted * found).sum(1).mean()


def cosine_distance(features: Tensor, old_features: Tensor) -> Tensor:
    """Mean of 1 - cos over pairs of rows [n, d] (POD-flat of Douillard et al., ECCV 2020)."""
    cosines = (F.normalize(features) * F.normalize(old_features)).sum(1)
    return (1 - cosines).mean()


def pooled_distance(maps: list[Tensor], old_maps: list[Tensor]) -> Tensor:
    """Distance of pooled activation maps (POD-spatial of Douillard et al., ECCV 2020).

    Each map is squared, summed over its width and over its height; the two results are flattened
    together and brought to unit length per image. Distances are averaged over images and stages.

    Args:
        maps: Activations [n, channels, height, width] of each stage.
        old_maps: Those of the old network, without a gradient.
    """
    pairs = zip(maps, old_maps, strict=True)
    return torch.stack(
        [torch.linalg.vector_norm(_pooled(a) - _pooled(b), dim=1).mean() for a, b in pairs]
    ).mean()


def _pooled(maps: Tensor) -> Tensor:
    squared = maps.square()
    both = torch.cat([squared.sum(3), squared.sum(2)], dim=2)
    return F.normalize(both.flatten(1))
