"""LAME: couples the outputs of images that are close in feature space; nothing is learned.

Boudiaf, Mueller, Ben Ayed, Bertinetto, "Parameter-free Online Test-time Adaptation", CVPR 2022,
https://arxiv.org/abs/2201.05718. For a batch with probabilities p and unit features X it finds, by
a concave-convex iteration, rows Z of probabilities that minimise::

    sum_i KL(z_i || p_i)  -  sum_ij W_ij <z_i, z_j>

W is an affinity of the features. The classifier stays in evaluation mode; no state is carried from
batch to batch. The rbf and linear kernels pull in proportion to the batch's size: with many classes
a shuffled batch can collapse onto one; kNN, the default, does so far less.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from clgym.adaptation import AdaptConfig, AdaptStrategy
from clgym.config import Search
from clgym.errors import BadConfig

_TOLERANCE = 1e-8


@dataclass(frozen=True)
class LameConfig(AdaptConfig):
    """Options of `Lame`."""

    affinity: Annotated[Literal["knn", "rbf", "linear"], Search("knn", "rbf", "linear")] = "knn"
    """Affinity between images: directed nearest neighbours (knn), Gaussian (rbf) or cosine
    (linear)."""
    neighbours: Annotated[int, Ge(1), Search(3, 5)] = 5
    """Number of neighbours k: of each image in knn; in rbf the width is the mean distance to the
    k-th one, the image itself included."""
    symmetric: bool = False
    """Average the affinity matrix with its transpose."""
    iterations: Annotated[int, Ge(1)] = 100
    """Maximum number of fixed-point iterations."""


class Lame(AdaptStrategy[LameConfig]):
    """Laplacian-adjusted maximum-likelihood estimation."""

    DETERMINISTIC = True
    batch_matters: ClassVar[bool] = False  # a single image gets the source's answer

    def prepare(self) -> None:
        """Refuse a Gaussian without width.

        Raises:
            BadConfig: rbf with fewer than 2 neighbours: the first is the point itself.
        """
        if self.config.affinity == "rbf" and self.config.neighbours < 2:
            raise BadConfig(
                expected="at least 2 neighbours for rbf, which counts the point itself",
                found=str(self.config.neighbours),
                fix="Give --neighbours 5",
            )

    def answer(self, images: Tensor) -> Tensor:
        """Log Z, float64 [n, columns]: its softmax is Z."""
        features = self.model.features(images)
        probabilities = self.model.logits(features).softmax(1)
        weights = affinity(features.double(), self.config.affinity, self.config.neighbours)
        if self.config.symmetric:
            weights = (weights + weights.T) / 2
        unary = -torch.log(probabilities.double() + 1e-10)
        z, _ = solve(unary, weights, self.config.iterations)
        return z.clamp_min(1e-30).log()


def affinity(features: Tensor, kind: str, neighbours: int) -> Tensor:
    """W, [n, n], of raw features [n, d].

    ``knn``: W_ij = 1 where j is one of i's nearest others, self left out by its index. ``rbf``:
    exp(-D^2 / 2 s^2), s the batch's mean distance to the k-th entry; where s is 0, all those being
    copies, 1 for copies and 0 else. ``linear``: cosine similarity. A single image has no affinity.
    """
    count = len(features)
    if count == 1:
        return features.new_zeros(1, 1)
    unit = torch.nn.functional.normalize(features)
    if kind == "linear":
        return unit @ unit.T
    # Differences, not products: distances near 0 keep their digits.
    distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    if kind == "rbf":
        width = distances.sort(1).values[:, min(neighbours, count) - 1].mean()
        if width == 0:
            return (distances == 0).to(features)
        return torch.exp(-(distances**2) / (2 * width**2))
    others = distances.fill_diagonal_(torch.inf)
    nearest = others.topk(min(neighbours, count - 1), largest=False).indices
    return torch.zeros_like(distances).scatter_(1, nearest, 1.0)


def solve(unary: Tensor, weights: Tensor, iterations: int) -> tuple[Tensor, list[float]]:
    """The concave-convex iteration from Z = softmax(-U).

    Args:
        unary: U = -log p, [n, K].
        weights: W, [n, n].
        iterations: Maximum number; with a directed W the energy may oscillate and use them all.

    Returns:
        Z, [n, K], and the energy of each iteration.
    """
    z, energies = torch.softmax(-unary, 1), []
    for i in range(iterations):
        pull = weights @ z
        z = torch.softmax(pull - unary, 1)
        # Of the new Z and the old pull: the bound that this step minimises.
        energy = (z * (unary - pull + z.clamp_min(1e-20).log())).sum().item()
        energies.append(energy)
        if i > 1 and abs(energy - energies[-2]) <= _TOLERANCE * abs(energies[-2]):
            break
    return z, energies
