"""Subspaces of a layer's inputs (GPM): directions that old tasks use, and those that are free."""

from typing import Literal

import torch
from torch import Tensor

from clgym.attributes import Stateful

__all__ = ["DirectionMemory", "RunningCovariance", "design"]


class RunningCovariance:
    """Mean of x x^T over all tokens, accumulated by batch in float64."""

    def __init__(self) -> None:
        """Begin empty."""
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, tokens: Tensor) -> None:
        """Add tokens [..., width]."""
        flat = tokens.detach().flatten(0, -2).double()
        product = flat.T @ flat
        self._sum = product if self._sum is None else self._sum + product
        self._count += len(flat)

    @property
    def mean(self) -> Tensor:
        """float64 [width, width]."""
        assert self._sum is not None
        return self._sum / self._count


class DirectionMemory(Stateful):
    """Orthonormal directions of one layer's inputs that past tasks use, or leave free.

    Attributes:
        basis: [width, directions].
        kind: remove (``basis`` spans the used directions), retain (the free ones), or empty.
    """

    def __init__(self, width: int) -> None:
        """Begin empty, for inputs of ``width``."""
        self.basis = torch.zeros(width, 0, dtype=torch.float64)
        self.kind: Literal["empty", "remove", "retain"] = "empty"

    @property
    def projection(self) -> Tensor:
        """P = F F^T, [width, width]."""
        return self.basis @ self.basis.T

    def admitted(self, covariance: Tensor) -> Tensor:
        """The part of a covariance [width, width] that a new task may use."""
        if self.kind == "empty":
            return covariance
        inside = self.projection @ covariance
        return covariance - inside if self.kind == "remove" else inside

    def update(self, covariance: Tensor, threshold: float) -> None:
        """Add the directions of a finished task's inputs.

        Args:
            covariance: Covariance of the task's inputs, with its branch active, [width, width].
            threshold: Fraction of their energy (squared singular values) that must be covered.
        """
        total = torch.linalg.svdvals(covariance).square().sum()
        if self.kind == "empty":
            left, values, _ = torch.linalg.svd(covariance)
            shares = values.square().cumsum(0) / total
            self.basis = left[:, : max(int((shares < threshold).sum()), 1)]
            self.kind = "remove"
        elif self.kind == "remove":
            self._append(covariance, total, threshold)
        else:
            self._cut(covariance, total, threshold)
        # If more than half of all directions are used, storing the free ones is smaller. The
        # released code omits the complement if this happens after the first task.
        if self.kind == "remove" and self.basis.shape[1] > len(self.basis) / 2:
            left, _, _ = torch.linalg.svd(self.basis)
            self.basis, self.kind = left[:, self.basis.shape[1] :], "retain"

    def _append(self, covariance: Tensor, total: Tensor, threshold: float) -> None:
        rest = covariance - self.projection @ covariance
        left, values, _ = torch.linalg.svd(rest)
        share = float(1 - values.square().sum() / total)
        count = 0
        while share < threshold and count < len(values):
            share += float(values[count] ** 2 / total)
            count += 1
        self.basis = torch.cat([self.basis, left[:, :count]], dim=1)

    def _cut(self, covariance: Tensor, total: Tensor, threshold: float) -> None:
        rest = self.projection @ covariance
        left, values, _ = torch.linalg.svd(rest)
        share = float(values.square().sum() / total)
        count, free = 0, self.basis.shape[1]
        while share >= 1 - threshold and count < free:
            share -= float(values[count] ** 2 / total)
            count += 1
        gone = left[:, :count]
        kept, _, _ = torch.linalg.svd(self.basis - gone @ (gone.T @ self.basis))
        self.basis = kept[:, : free - count]


def design(admitted: Tensor, rank: int) -> tuple[Tensor, int]:
    """Rows A that span the strongest directions of an admitted covariance, [rank, width].

    Rows are scaled by 1/sqrt(3), about the length of a Kaiming-uniform row. If the matrix has a
    smaller rank, the rows that it does not determine are 0.

    Returns:
        A, and the number of rows that are determined.
    """
    left, values, _ = torch.linalg.svd(admitted)
    limit = values[0] * len(values) * torch.finfo(values.dtype).eps
    defined = int(((values > limit) & (values > 1e-13)).sum())
    rows = left[:, :rank].T / 3**0.5
    rows[defined:] = 0
    return rows, min(defined, rank)
