"""Growth of costs: processor time at sizes that double, and the exponent of the growth."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clgym.bench.images import write_images
from clgym.bench.programs import Program
from clgym.results.layout import PREDICTIONS, RECORD
from clgym.results.stored import open_run

__all__ = ["QUANTITIES", "Growth", "exponent", "grown"]

_METHOD_SEEDS = 5


@dataclass(frozen=True)
class Growth:
    """Cost of a command at several sizes of one quantity."""

    quantity: str
    """Name of the quantity."""
    sizes: tuple[int, ...]
    """Sizes, each twice the one before."""
    seconds: tuple[float, ...]
    """Processor time in seconds at each size, over all processes of the command."""

    @property
    def grows(self) -> bool:
        """Whether the largest size costs over a tenth more than the smallest one.

        Below, differences are noise.
        """
        return self.seconds[-1] > 1.1 * self.seconds[0]

    @property
    def exponent(self) -> float | None:
        """Exponent of the growing part of the cost; None if it hardly grows, or irregularly."""
        return exponent(self.seconds) if self.grows else None

    def to_tree(self) -> dict[str, object]:
        """Fields by name."""
        return {
            "quantity": self.quantity,
            "sizes": list(self.sizes),
            "seconds": [round(value, 3) for value in self.seconds],
            "exponent": None if self.exponent is None else round(self.exponent, 2),
        }


def exponent(seconds: Sequence[float]) -> float | None:
    """Fit the exponent k of a + b n^k to costs at three or more sizes that double.

    Differences between neighbours do not contain a, and grow by a factor of 2^k. The slope of their
    logarithms is fitted by least squares; differences that are not positive are left out.

    Returns:
        The exponent; None if fewer than two differences are positive.
    """
    steps = [after - before for before, after in zip(seconds, seconds[1:], strict=False)]
    points = [(place, math.log2(step)) for place, step in enumerate(steps) if step > 0]
    if len(points) < 2:
        return None
    middle = sum(x for x, _ in points) / len(points)
    return sum((x - middle) * y for x, y in points) / sum((x - middle) ** 2 for x, _ in points)


def _experiences(run: Program, folder: Path, size: int) -> float:
    """Cost of experiences of one class each, learned by class means."""
    source = write_images(folder / str(size), 8, 1, 6 * size, 2 * size, classes=size)
    return _run(run, "nmc", source, "--increments", "1")


def _classes(run: Program, folder: Path, size: int) -> float:
    """Cost of classes, at the same number of images and of experiences."""
    source = write_images(folder / str(size), 8, 1, 8_000, 2_000, classes=size)
    return _run(run, "nmc", source, "--increments", str(size // 5))


def _networks(run: Program, folder: Path, size: int) -> float:
    """Cost of experiences of one class with a method that adds a network in each."""
    source = write_images(folder / str(size), 8, 1, 128 * size, 10 * size, classes=size)
    words = ("--epochs", "1", "--first-epochs", "1", "--memory-size", "100")
    return _run(run, "expandable", source, "--increments", "1", "--network", "mlp", *words)


def _test_images(run: Program, folder: Path, size: int) -> float:
    source = write_images(folder / str(size), 8, 1, 200, size)
    return _run(run, "nmc", source, "--increments", "5")


def _training_images(run: Program, folder: Path, size: int) -> float:
    source = write_images(folder / str(size), 8, 1, size, 200)
    return _run(run, "naive", source, "--increments", "5", "--epochs", "1")


def _memory(run: Program, folder: Path, size: int) -> float:
    """Cost of replay with a memory that the first of two experiences fills."""
    source = write_images(folder / str(size), 8, 1, 2 * 16_000, 200)
    words = ("--increments", "5", "--epochs", "1", "--memory-size", str(size))
    return _run(run, "replay", source, *words)


def _trials(run: Program, folder: Path, size: int) -> float:
    """Cost of a study's trials with one seed each."""
    words = ("--trials", str(size), "--seeds", "0", "--epochs", "1", "--out", str(run.fresh()))
    return run.cost("clgym", "tune", "naive", "digits-t2", *words)["cpu"]


def _records(run: Program, folder: Path, size: int) -> float:
    """Cost of a board by number of records, which are copies of one run, five seeds per method."""
    out, board = run.fresh(), folder / str(size)
    words = ("nmc", "split-digits", "--threads", "1", "--out", str(out))
    run.cost("clgym", "run", *words)
    record = open_run(out).record.model_dump(mode="json")
    for number in range(size):
        method, seed = divmod(number, _METHOD_SEEDS)
        place = board / f"records/method-{method}/seed-{seed}"
        place.mkdir(parents=True)
        record["result"]["seed"] = seed
        record["result"]["strategy"]["source_hash"] = f"{method:064x}"
        (place / RECORD).write_text(json.dumps(record))
        os.link(out / PREDICTIONS, place / PREDICTIONS)
    return run.cost("clgym", "board", str(board), "--out", str(board / "site"))["cpu"]


def _run(run: Program, strategy: str, source: str, *words: str) -> float:
    given = ("--source", source, "--threads", "1", "--out", str(run.fresh()))
    return run.cost("clgym", "run", strategy, "class-incremental", *given, *words)["cpu"]


QUANTITIES: dict[str, tuple[Callable[[Program, Path, int], float], tuple[int, ...]]] = {
    "experiences": (_experiences, (25, 50, 100, 200)),
    "classes": (_classes, (100, 200, 400, 800)),
    "networks": (_networks, (8, 16, 32, 64)),
    "test-images": (_test_images, (5_000, 10_000, 20_000, 40_000)),
    "training-images": (_training_images, (5_000, 10_000, 20_000, 40_000)),
    "memory": (_memory, (1_000, 2_000, 4_000, 8_000)),
    "trials": (_trials, (2, 4, 8, 16)),
    "records": (_records, (100, 200, 400, 800)),
}
"""Functions that carry out a command at one size, and the sizes, by quantity."""


def grown(quantity: str, folder: Path, shrink: int = 1) -> Growth:
    """Measure one of the `QUANTITIES`.

    Args:
        quantity: Name of the quantity.
        folder: Folder of all outputs.
        shrink: Divisor of the sizes.
    """
    cost, sizes = QUANTITIES[quantity]
    sizes = tuple(size // shrink for size in sizes)
    run = Program(folder / "out")
    return Growth(quantity, sizes, tuple(cost(run, folder / "made", size) for size in sizes))
