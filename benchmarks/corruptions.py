"""Images a second that corruption streams are made at: one process against all cores, in turn.

    python benchmarks/corruptions.py [--images 1000] [--rounds 5]

Both are measured in every round, so that other work on the machine meets both alike; printed are
the median over rounds and, in brackets, the range.
"""

import argparse
import os
import time

import numpy as np

from clgym.data.corruptions import STANDARD
from clgym.data.sources import Source, load_source
from clgym.gym.images import make
from clgym.streams.adaptation import Domain


def main() -> None:
    """Print images/s for each count of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    source, rows = load_source("cifar10"), np.arange(asked.images)
    cores = len(os.sched_getaffinity(0))
    names = [name for name in STANDARD if name != "frost"]
    speed: dict[int, list[float]] = {1: [], cores: []}
    for _ in range(asked.rounds):
        for workers, found in speed.items():
            warm_up(source, workers)
            started = time.perf_counter()
            for name in names:
                make(source, Domain(name, 0, "test", name, 5), rows, None, workers)
            found.append(asked.images * len(names) / (time.perf_counter() - started))
    for workers, found in speed.items():
        print(f"{workers} workers: {spread(found, 0)} images/s")
    ratios = [many / one for one, many in zip(speed[1], speed[cores], strict=True)]
    print(f"{cores} workers against 1: {spread(ratios, 2)} x")


def spread(values: list[float], digits: int) -> str:
    """Median, and the range in brackets."""
    low, middle, high = (f"{v:.{digits}f}" for v in np.quantile(values, [0, 0.5, 1]))
    return f"{middle} [{low} to {high}]"


def warm_up(source: Source, workers: int) -> None:
    """Start the processes, which later runs find warm."""
    make(source, Domain("contrast", 0, "test", "contrast", 1), np.arange(400), None, workers)


if __name__ == "__main__":
    main()
