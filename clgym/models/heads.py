"""Classifiers on top of features: class means, and the cosine classifier."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.attributes import Stateful

__all__ = ["ClassMeans", "CosineHead", "SessionHeads", "cosine_logits"]


class ClassMeans(Stateful):
    """The mean feature of every class, stored as sums and counts: batches may arrive in any order.

    Sums are kept in float64, so that their order changes the means by less than 1e-12.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Begin with no class."""
        self.sums: Tensor | None = None
        self.counts = torch.zeros(0, device=device, dtype=torch.float64)

    def update(self, features: Tensor, labels: Tensor, columns: int) -> None:
        """Add features [n, d] of classes ``labels`` [n], which are below ``columns``."""
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
        self.weight = nn.Parameter(torch.empty(columns, width))
        self.scale = nn.Parameter(torch.ones(1))
        self.resize(columns)

    def resize(self, columns: int) -> None:
        """Draw ``columns`` new rows, and set the scale to 1: the parameters are new objects."""
        rows = self.weight.new_empty(columns, self.weight.shape[1])
        bound = 1 / math.sqrt(self.weight.shape[1])
        self.weight = nn.Parameter(rows.uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.ones_like(self.scale))

    def structure(self) -> int:
        """Number of classes; see `clgym.attributes`."""
        return len(self.weight)

    def restructure(self, structure: int) -> None:
        """Set the number of classes of a `structure`; a loaded state then sets the values."""
        if structure != len(self.weight):
            self.weight = nn.Parameter(self.weight.new_zeros(structure, self.weight.shape[1]))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, columns] of features [n, width]."""
        return self.scale * cosine_logits(features, self.weight)


class SessionHeads(nn.Module):
    """One linear layer per session, whose outputs are concatenated.

    Attributes:
        layers: Layers in the order of the sessions.
    """

    def __init__(self, width: int) -> None:
        """Begin without a layer, for features of length ``width``."""
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList()
        # an empty tensor that states the device
        self.register_buffer("place", torch.zeros(0), persistent=False)

    def add(self, classes: int, deviation: float = 0.02) -> nn.Linear:
        """Append a layer with truncated normal weights of this standard deviation and bias 0."""
        layer = nn.Linear(self.width, classes).to(self.get_buffer("place"))
        nn.init.trunc_normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)
        self.layers.append(layer)
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, classes of all sessions] of features [n, width]."""
        return torch.cat([layer(features) for layer in self.layers], dim=1)

    def structure(self) -> list[int]:
        """Number of classes of each layer; see `clgym.attributes`."""
        return [len(layer.get_parameter("weight")) for layer in self.layers]

    def restructure(self, structure: list[int]) -> None:
        """Make the layers of a `structure`; a loaded state then sets the values."""
        if structure != self.structure():
            self.layers = nn.ModuleList()
            for classes in structure:
                self.add(classes)
