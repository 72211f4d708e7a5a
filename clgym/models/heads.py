"""Classifiers on top of features: class means, and the cosine classifier."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.attributes import Stateful

__all__ = ["ClassMeans", "CosineHead", "cosine_logits"]


class ClassMeans(Stateful):
    """The mean feature of every class, as sums and counts: batches may come in any order.

    Sums are kept in float64: their order then moves the means by less than 1e-12.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Begin with no class."""
        self.sums: Tensor | None = None
        self.counts = torch.zeros(0, device=device, dtype=torch.float64)

    def update(self, features: Tensor, labels: Tensor, columns: int) -> None:
        """Count in features [n, d] of classes ``labels`` [n], below ``columns``."""
        sums = self.sums
        if sums is None:
            sums = features.new_zeros((0, features.shape[1]), dtype=torch.float64)
        self.sums = F.pad(sums, (0, 0, 0, columns - len(sums)))
        self.counts = F.pad(self.counts, (0, columns - len(self.counts)))
        self.sums.index_add_(0, labels, features.double())
        self.counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))

    @property
    def means(self) -> Tensor:
        """float64 [columns, d]; NaN rows for classes without an image."""
        assert self.sums is not None
        return self.sums / self.counts[:, None]


def cosine_logits(features: Tensor, weight: Tensor) -> Tensor:
    """Cosine of each feature [n, d] with each row [c, d]: [n, c]; an all-zero row gives 0."""
    return F.linear(F.normalize(features), F.normalize(weight))


class CosineHead(nn.Module):
    """Cosines times one learnable scale: logit_c(f) = s <f/|f|, w_c/|w_c|>."""

    def __init__(self, width: int, columns: int) -> None:
        """Draw rows uniformly from (-1/sqrt(width), 1/sqrt(width)); the scale begins at 1."""
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.ones(1))

    def structure(self) -> int:
        """Number of classes; see `clgym.attributes`."""
        return len(self.weight)

    def restructure(self, structure: int) -> None:
        """Have as many classes as a `structure` tells of; a state fills them."""
        if structure != len(self.weight):
            self.weight = nn.Parameter(self.weight.new_zeros(structure, self.weight.shape[1]))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, columns] of features [n, width]."""
        return self.scale * cosine_logits(features, self.weight)
