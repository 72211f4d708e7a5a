"""Selection of a class's exemplars by herding, and classification by the nearest class mean.

Features are first scaled to unit length: v = f / (|f| + 1e-8). Sums are taken in float64.
"""

import torch
from torch import Tensor

__all__ = ["class_means", "herding", "nearest_mean_logits", "unit"]

_NOT_ZERO = 1e-8
"""Value that is added to the length of a feature vector to avoid division by zero."""


def unit(features: Tensor) -> Tensor:
    """Rows of features [n, d] at unit length, float64."""
    features = features.double()
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + _NOT_ZERO)


def herding(features: Tensor, count: int) -> Tensor:
    """Rank the samples of one class so that the mean of the first k is close to the mean of all.

    In each step the sample is taken that brings the mean of those taken closest to the mean of all
    (Welling 2009; Rebuffi et al., CVPR 2017). No sample is taken twice; of equally good ones the
    first is taken.

    Args:
        features: [n, d], features of all samples of the class.
        count: Number of samples to rank; all if there are fewer.

    Returns:
        Row numbers, int64 [min(count, n)], in the order of the ranking, on the features' device.
    """
    vectors = unit(features)
    mean = vectors.mean(0)
    total = torch.zeros_like(mean)
    open_rows = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
    chosen: list[Tensor] = []
    for taken in range(1, min(count, len(vectors)) + 1):
        distances = torch.linalg.vector_norm(mean - (vectors + total) / taken, dim=1)
        best = distances.masked_fill(~open_rows, torch.inf).argmin()
        chosen.append(best)
        open_rows[best] = False
        total = total + vectors[best]
    return torch.stack(chosen) if chosen else open_rows.nonzero()[:0, 0]


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of the unit features of each class, itself at unit length.

    Args:
        features: [n, d].
        labels: int64 [n].
        classes: Number of classes.

    Returns:
        float64 [classes, d]; NaN for classes without a sample.
    """
    vectors = unit(features)
    sums = vectors.new_zeros(classes, vectors.shape[1]).index_add_(0, labels, vectors)
    means = sums / torch.bincount(labels, minlength=classes)[:, None]
    return means / torch.linalg.vector_norm(means, dim=1, keepdim=True)


def nearest_mean_logits(features: Tensor, means: Tensor) -> Tensor:
    """Negative squared distances of unit features [n, d] to means [c, d]: float64 [n, c].

    A class without a mean (NaN) gets minus infinity.
    """
    apart = torch.cdist(unit(features), means, compute_mode="donot_use_mm_for_euclid_dist")
    return (-apart.square()).nan_to_num(nan=-torch.inf)
