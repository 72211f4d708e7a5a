"""What checksums cost: first and second use of a cached data set, of cached features, of states.

    CLGYM_DATA=... python benchmarks/checksums.py cifar100 mnist

Medians of five; a first use is one of a process that has not seen the entry yet. The files are in
the page cache: a cold disk adds the time to read them.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save

from clgym.checksums import check_safetensors, with_checksum
from clgym.data import store
from clgym.data.sources import load_source
from clgym.data.vectors import Table


def median(do: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Seconds."""
    taken = []
    for _ in range(5):
        before()
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def show(name: str, size: float, checked: float, plain: float) -> None:
    """One line of the table."""
    sys.stdout.write(f"| {name} | {size / 1e6:,.0f} MB | {plain:.3f} s | {checked:.3f} s |\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=["digits"])
    sys.stdout.write("| what | size | without the check | with it |\n|---|---|---|---|\n")
    for name in parser.parse_args().sources:
        source = load_source(name)
        size = source.train.images.nbytes + source.test.images.nbytes
        first = median(lambda name=name: load_source(name), store._verified.clear)
        again = median(lambda name=name: load_source(name))
        show(f"images of {name}, first use in a process", size, first, again)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        os.environ["CLGYM_CACHE"] = folder
        rows, values = np.arange(60_000), np.random.rand(60_000, 768).astype(np.float32)
        table = Table({"n": 0}, *values.shape)
        for part in np.split(rows, 60):
            table.put(part, values[part])
        fresh = [Table({"n": 0}, *values.shape) for _ in range(5)]
        checked = median(lambda: fresh.pop().get(rows))
        plain = median(lambda: np.array(table._values.array[rows]))
        show("60,000 features of width 768, first use", values.nbytes, checked, plain)
        tensors = {str(i): torch.rand(1000, 1000) for i in range(85)}  # a ViT-B/16
        data = save(tensors)
        with_sum = with_checksum(data)
        file = Path(folder) / "state"

        def write(content: Callable[[], bytes]) -> None:
            file.write_bytes(content())

        plain = median(lambda: write(lambda: save(tensors)))
        checked = median(lambda: write(lambda: with_checksum(save(tensors))))
        show("a state of 85 M parameters, saved", len(data), checked, plain)
        plain = median(lambda: load(data))
        checked = median(lambda: (check_safetensors(with_sum), load(with_sum)))
        show("a state of 85 M parameters, loaded", len(data), checked, plain)


if __name__ == "__main__":
    main()
