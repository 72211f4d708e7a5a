"""Choice among RanPAC's 17 ridge strengths: one eigendecomposition against a solve for each.

    python benchmarks/ridge.py [--projection 10000] [--rows 5000] [--classes 10] [--threads 1]

Both compute the held-out error of every strength for one session of so many images and classes,
four fifths of them fitted. Printed: the seconds of each, the ratio, the largest difference of the
errors relative to the error itself, and whether both choose the same strength. The solves need the
M x M matrix; the eigendecomposition is that of the smaller of M x M and rows x rows.
"""

import argparse
import time

import torch
from torch import Tensor

from clgym.models.ridge import STRENGTHS, hold_out_errors, project


def by_solves(rows: Tensor, targets: Tensor, share: float = 0.8) -> Tensor:
    """Held-out errors by one Cholesky factorisation for each strength, [17]."""
    count = int(share * len(rows))
    fitted, held, wanted = rows[:count], rows[count:], targets[count:]
    gram, cross = fitted.T @ fitted, fitted.T @ targets[:count]
    errors = []
    for strength in STRENGTHS:
        matrix = gram.clone()
        matrix.diagonal().add_(strength)
        root, failed = torch.linalg.cholesky_ex(matrix)
        solved = torch.linalg.solve(matrix, cross) if failed else torch.cholesky_solve(cross, root)
        errors.append((held @ solved - wanted).square().mean())
    return torch.stack(errors)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare two ways to choose a ridge strength.")
    parser.add_argument("--projection", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(given.classes, (given.rows,), generator=draws)
    means = torch.randn(given.classes, 192, generator=draws, dtype=torch.float64)
    features = means[labels] + torch.randn(given.rows, 192, generator=draws, dtype=torch.float64)
    directions = torch.randn(192, given.projection, generator=draws, dtype=torch.float64)
    rows = project(features, directions)
    targets = torch.nn.functional.one_hot(labels, given.classes).double()
    found, seconds = [], []
    for solve in (hold_out_errors, by_solves):
        started = time.process_time()
        found.append(solve(rows, targets))
        seconds.append(time.process_time() - started)
    one, many = found
    print(f"one eigendecomposition {seconds[0]:8.1f} s")
    print(f"{len(STRENGTHS)} solves              {seconds[1]:8.1f} s")
    print(f"ratio                  {seconds[0] / seconds[1]:8.3f}")
    print(f"largest difference     {float(((one - many) / many).abs().max()):8.1e} of the error")
    print(f"same strength          {'yes' if int(one.argmin()) == int(many.argmin()) else 'no':>8}")


if __name__ == "__main__":
    main()
