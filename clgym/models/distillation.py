"""Distillation losses, which keep a network's outputs close to those of an older one."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cosine_distance", "distillation", "pooled_distance"]


def distillation(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the softened predictions to the old network's, mean over the batch.

    There is no factor T^2, and the softmax is taken over the old classes only, which are the
    columns of ``old_logits``: further columns of ``logits`` are ignored.

    Args:
        logits: [n, classes].
        old_logits: [n, old classes], without a gradient.
        temperature: Divisor of both logits.
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

    Each map is squared and summed, once over its width and once over its height; the two results
    are concatenated and scaled to unit length per image. Distances are averaged over images and
    stages.

    Args:
        maps: Activations [n, channels, height, width] of each stage.
        old_maps: Activations of the old network, without a gradient.
    """
    pairs = zip(maps, old_maps, strict=True)
    return torch.stack(
        [torch.linalg.vector_norm(_pooled(a) - _pooled(b), dim=1).mean() for a, b in pairs]
    ).mean()


def _pooled(maps: Tensor) -> Tensor:
    squared = maps.square()
    both = torch.cat([squared.sum(3), squared.sum(2)], dim=2)
    return F.normalize(both.flatten(1))
