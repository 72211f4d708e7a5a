"""Ridge regression on random projections: projection, choice of the strength, and weights."""

import torch
from torch import Tensor

__all__ = ["STRENGTHS", "hold_out_errors", "project", "ridge_weights"]

STRENGTHS = tuple(10.0**power for power in range(-8, 9))
"""Ridge strengths that are tried, ascending."""


def project(features: Tensor, projection: Tensor | None) -> Tensor:
    """max(0, features @ projection), [n, M]; without a projection the features themselves."""
    return features if projection is None else (features @ projection).relu()


def hold_out_errors(rows: Tensor, targets: Tensor, share: float = 0.8) -> Tensor:
    """Error of ridge regression on held-out rows, for each of `STRENGTHS`.

    One eigendecomposition serves all strengths. It is that of the smaller of two matrices: rows^T
    rows if there are more rows than columns, else rows rows^T, which gives the same predictions.

    Args:
        rows: [n, M]; the first ``floor(share * n)`` are fitted, the others predicted.
        targets: [n, C].
        share: Fraction of the rows to fit.

    Returns:
        Mean squared error over all held-out entries, [17]; zeros if no row is held out.
    """
    count = int(share * len(rows))
    fitted, held, wanted = rows[:count], rows[count:], targets[count:]
    if not count or not len(held):
        return rows.new_zeros(len(STRENGTHS))
    if count > rows.shape[1]:
        values, vectors = torch.linalg.eigh(fitted.T @ fitted)
        left, right = held @ vectors, vectors.T @ (fitted.T @ targets[:count])
    else:
        values, vectors = torch.linalg.eigh(fitted @ fitted.T)
        left, right = (held @ fitted.T) @ vectors, vectors.T @ targets[:count]
    values = values.clamp(min=0)  # eigenvalues of a singular matrix may be slightly negative
    errors = [
        (left @ (right / (values + strength)[:, None]) - wanted).square().mean()
        for strength in STRENGTHS
    ]
    return torch.stack(errors)


def ridge_weights(gram: Tensor, cross: Tensor, strength: float) -> Tensor:
    """Solve (gram + strength I) X = cross; returns X^T, [C, M].

    It is solved by Cholesky, or by LU if rounding makes the matrix indefinite.

    Args:
        gram: [M, M], symmetric.
        cross: [M, C].
        strength: Ridge strength, above 0.
    """
    matrix = gram.clone()
    matrix.diagonal().add_(strength)
    root, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed):
        return torch.linalg.solve(matrix, cross).T
    return torch.cholesky_solve(cross, root).T
