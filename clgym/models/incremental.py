"""Classifiers whose head grows with the classes by the rule of the methods trained from scratch."""

import math

import torch
from torch import nn

from clgym.models.networks import Classifier

__all__ = ["IncrementalClassifier", "fresh_rows", "grown"]


def fresh_rows(weight: torch.Tensor, width: int) -> torch.Tensor:
    """Fill ``weight`` in place from U(-sqrt(3 / width), sqrt(3 / width)), and return it.

    torch's own rule for a linear layer has 1 in the place of 3.
    """
    bound = math.sqrt(3 / width)
    with torch.no_grad():
        return weight.uniform_(-bound, bound)


def grown(head: nn.Linear, rows: int, width: int | None = None) -> nn.Linear:
    """A larger head: the old entries keep their bits, new weights are fresh, new biases are 0.

    Args:
        head: The old one, which stays as it is.
        rows: Number of classes.
        width: Number of inputs; None for that of ``head``. The first are those of ``head``.
    """
    width = width or head.in_features
    new = nn.Linear(width, rows, bias=head.bias is not None).to(head.weight)
    fresh_rows(new.weight, width)
    with torch.no_grad():
        new.weight[: head.out_features, : head.in_features] = head.weight
        if head.bias is not None:
            new.bias.zero_()[: head.out_features] = head.bias
    return new.train(head.training)


class IncrementalClassifier(Classifier):
    """A backbone and a linear head that begins without a class."""

    def __init__(self, network: Classifier) -> None:
        """Take over the backbone and the normalisation of a fresh network."""
        width = network.head.in_features
        super().__init__(network.backbone, width, 1)
        self.mean, self.std = network.mean, network.std
        self.head.weight = nn.Parameter(self.head.weight.detach()[:0].clone())
        self.head.bias = nn.Parameter(self.head.bias.detach()[:0].clone())
        self.head.out_features = 0
        self.width = width

    def grow(self, columns: int) -> None:
        """Widen the head; see `grown`. The parameters are new objects."""
        if columns > self.columns:
            self.head = grown(self.head, columns)
