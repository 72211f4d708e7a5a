"""Two ways of doing the same work, measured in turn: the ratio of their costs, with its spread."""

import gc
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["Case", "Measurement", "Work", "interleaved", "rounds_of", "summarised"]

Work = Callable[[], Any]


@dataclass(frozen=True)
class Measurement:
    """Cost of clgym's work and of another program's, and their ratio."""

    name: str
    """Name of the case, by which results are compared with earlier ones."""
    rival: str
    """Name of the program that clgym is compared with."""
    unit: str
    """Unit of the costs: ms, s or MiB."""
    ours: float
    """Median cost of clgym's side."""
    theirs: float
    """Median cost of the other side."""
    ratio: float
    """Median over rounds of clgym's cost divided by the other's."""
    low: float
    """First quartile of that ratio."""
    high: float
    """Third quartile of that ratio."""
    rounds: int
    """Number of rounds."""

    def to_tree(self) -> dict[str, object]:
        """Fields by name, numbers rounded to four digits."""
        return {
            key: float(f"{value:.4g}") if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Case:
    """A comparison that is ready to be measured."""

    name: str
    rival: str
    ours: Work
    theirs: Work
    per: int = 1
    """Number of steps or batches in one call, by which costs are divided."""


def summarised(
    name: str, rival: str, unit: str, costs: Sequence[tuple[float, float]], per: float = 1
) -> Measurement:
    """Median costs and the median of their ratios.

    Args:
        name: Name of the case.
        rival: Name of the program that clgym is compared with.
        unit: Unit of the costs.
        costs: Costs of clgym and of the other side, a pair for each round.
        per: Number by which costs are divided.
    """
    table = np.asarray(costs, dtype=float)
    low, middle, high = np.quantile(table[:, 0] / table[:, 1], [0.25, 0.5, 0.75])
    ours, theirs = np.median(table, 0) / per
    return Measurement(
        name, rival, unit, float(ours), float(theirs), float(middle), float(low), float(high),
        len(table),
    )  # fmt: skip


def rounds_of(ours: Work, theirs: Work, rounds: int, clock: Callable[[], float]) -> list[Any]:
    """Costs of both sides, a pair for each round, after one warm-up round.

    The order within a round alternates, and garbage is collected before each side.
    """
    costs = []
    for number in range(rounds + 1):
        pair = [0.0, 0.0]
        for side in (0, 1) if number % 2 else (1, 0):
            gc.collect()
            started = clock()
            (ours, theirs)[side]()
            pair[side] = clock() - started
        costs.append((pair[0], pair[1]))
    return costs[1:]


def interleaved(
    case: Case, rounds: int, device: str, plain: Callable[[], AbstractContextManager[object]]
) -> Measurement:
    """Measure a case; the other side runs inside ``plain()``, which resets torch's settings."""

    def theirs() -> None:
        with plain():
            case.theirs()

    costs = rounds_of(case.ours, theirs, rounds, clock_of(device))
    milliseconds = [(1000 * ours, 1000 * other) for ours, other in costs]
    return summarised(case.name, case.rival, "ms", milliseconds, case.per)


def clock_of(device: str) -> Callable[[], float]:
    """Return a clock in seconds: processor time on a CPU, synchronised wall time on a GPU."""
    if device.partition(":")[0] != "cuda":
        return time.process_time
    import torch

    def finished() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return finished


def load_average() -> float:
    """Average number of runnable processes in the last minute; nan if it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
