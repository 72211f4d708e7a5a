"""Images a second that corruption streams are made at: one process against all cores.

python benchmarks/corruptions.py [--images 1000]
"""

import argparse
import os
import time

import numpy as np

from clgym.adaptation.images import make
from clgym.adaptation.stream import Domain
from clgym.data.corruptions import STANDARD
from clgym.data.sources import Source, load_source


def main() -> None:
    """Print images/s for each count of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    asked = parser.parse_args()
    source, rows = load_source("cifar10"), np.arange(asked.images)
    cores = len(os.sched_getaffinity(0))
    names = [name for name in STANDARD if name != "frost"]
    speed = {}
    for workers in (1, cores):
        warm_up(source, workers)
        started = time.perf_counter()
        for name in names:
            make(source, Domain(name, 0, "test", name, 5), rows, None, workers)
        speed[workers] = asked.images * len(names) / (time.perf_counter() - started)
        print(f"{workers} workers: {speed[workers]:.0f} images/s")
    print(f"{cores} workers: {speed[cores] / speed[1]:.2f} x")


def warm_up(source: Source, workers: int) -> None:
    """Start the processes, which later runs find warm."""
    make(source, Domain("contrast", 0, "test", "contrast", 1), np.arange(400), None, workers)


if __name__ == "__main__":
    main()
