"""Classifiers whose head grows with the classes, as in the methods that train from scratch."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from clgym.models.networks import Classifier

__all__ = ["IncrementalClassifier", "align_new_rows", "fresh_rows", "grown"]


def fresh_rows(weight: torch.Tensor, width: int) -> torch.Tensor:
    """Fill ``weight`` in place from U(-sqrt(3 / width), sqrt(3 / width)), and return it.

    torch's own rule for a linear layer has 1 in the place of 3.
    """
    bound = math.sqrt(3 / width)
    with torch.no_grad():
        return weight.uniform_(-bound, bound)


def grown(head: nn.Linear, rows: int, width: int | None = None) -> nn.Linear:
    """Return a larger head: old entries are kept, new weights are drawn, new biases are 0.

    Args:
        head: The old head, which is not changed.
        rows: Number of classes.
        width: Number of inputs, of which the first are those of ``head``; None for that of
            ``head``.
    """
    width = width or head.in_features
    new = nn.Linear(width, rows, bias=head.bias is not None).to(head.weight)
    fresh_rows(new.weight, width)
    with torch.no_grad():
        new.weight[: head.out_features, : head.in_features] = head.weight
        if head.bias is not None:
            new.bias.zero_()[: head.out_features] = head.bias
    return new.train(head.training)


@torch.no_grad()
def align_new_rows(weight: torch.Tensor, known: int) -> float:
    """Scale the rows of new classes in place, so that their mean length is that of the old rows.

    Weight aligning of Zhao et al. (CVPR 2020).

    Args:
        weight: Weight of a linear head, [classes, width].
        known: Number of old classes, at least 1, whose rows come first.

    Returns:
        The factor, gamma: the mean length of the old rows over that of the new ones.
    """
    lengths = torch.linalg.vector_norm(weight, dim=1)
    gamma = lengths[:known].mean() / lengths[known:].mean()
    weight[known:] *= gamma
    return float(gamma)


class IncrementalClassifier(Classifier):
    """A backbone and a linear head that begins without a class."""

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        """Add an empty head to ``backbone``; for the arguments see `Classifier`."""
        super().__init__(backbone, width, 1, mean, std)
        self.head.weight = nn.Parameter(self.head.weight.detach()[:0].clone())
        self.head.bias = nn.Parameter(self.head.bias.detach()[:0].clone())
        self.head.out_features = 0

    def grow(self, columns: int) -> None:
        """Widen the head; see `grown`. The parameters are new objects."""
        if columns > self.columns:
            self.head = grown(self.head, columns)
