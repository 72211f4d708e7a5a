"""What LAME and RMT add to the passes that they consist of: one process, ResNet-20, CIFAR-10 size.

    python benchmarks/adaptation_steps.py [--threads 1]

LAME: its batch of 64 against the network's forward pass alone. RMT: a step at batch 200 against the
same forward and backward passes without its losses. Both are measured in turn; printed are the
median of the ratios and, in brackets, their middle half, by the clock and by the processor's time,
which other work on the machine disturbs less. Also: memory while a long stream goes by.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.config import build
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.networks import Classifier
from clgym.registry import find, load_class
from clgym.strategy import Batch, Strategy, StreamInfo


class Rows:
    """Random source data."""

    def __init__(self, size: int) -> None:
        """Draw ``size`` images."""
        self.images, self.labels = torch.rand(size, 3, 32, 32), torch.arange(size) % 10

    def batch(self, size: int, number: int) -> tuple[Tensor, Tensor]:
        """The same batch every time."""
        return self.images, self.labels

    def once(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """One batch."""
        return [(self.images, self.labels)]


def start(name: str, size: int, **options: Any) -> Any:
    """A method on a fresh ResNet-20."""
    kind = load_class(find("strategies", name), Strategy)
    strategy = kind(build(kind.Config, options, name))
    source: Any = Rows(size) if strategy.needs.source_data else None
    shape, network = (3, 32, 32), Classifier(CifarResNet(3), 64, 10).eval()
    info = StreamInfo(
        shape, "adaptation", torch.device("cpu"), 0, (), (), batch_size=size, classifier=network,
        source_data=source,
    )  # fmt: skip
    strategy.setup(info)
    return strategy


def interleaved(one: Callable[[], Any], other: Callable[[], Any], times: int) -> tuple[str, float]:
    """Ratios of two things measured in turn, in words; the other's median processor time."""
    spent = np.empty((times + 1, 2, 2))
    for row in spent:
        for place, what in enumerate((one, other)):
            started = np.array([time.perf_counter(), time.process_time()])
            what()
            row[place] = np.array([time.perf_counter(), time.process_time()]) - started
    ratios = spent[1:, 0] / spent[1:, 1]  # the first round warms up
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75], axis=0)
    words = [
        f"{middle[i]:.3f} x [{low[i]:.3f} to {high[i]:.3f}] {what}"
        for i, what in enumerate(("by the clock", "by processor time"))
    ]
    return ", ".join(words) + ",", float(np.median(spent[1:, 1, 1]))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    lame, images = start("lame", 64), torch.rand(64, 3, 32, 32)
    with torch.no_grad():
        ratio, forward = interleaved(
            lambda: lame.adapt(Batch(images)), lambda: lame.model(images), 40
        )
    print(f"lame, batch 64: {ratio} of a forward pass of {1e3 * forward:.1f} ms", flush=True)
    rmt, images = start("rmt", 200, warmup_images=0), torch.rand(200, 3, 32, 32)
    other = start("rmt", 200, warmup_images=0)

    def passes() -> None:
        """Three forward and backward passes of the student, one forward of the teacher."""
        with torch.no_grad():
            other.teacher(images)
        loss: Any = 0
        for _ in range(3):
            loss = loss + cross_entropy(other.model(images), other.info.source_data.labels)
        other.optimizer.zero_grad()
        loss.backward()

    ratio, sum_of_passes = interleaved(lambda: rmt.adapt(Batch(images)), passes, 8)
    print(f"rmt, batch 200: {ratio} of its passes of {sum_of_passes:.2f} s", flush=True)
    tent, images = start("tent", 64), torch.rand(64, 3, 32, 32)
    peaks = []
    for _ in range(3):
        for _ in range(40):
            tent.adapt(Batch(images))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(f"tent: peak memory after 40, 80, 120 batches: {peaks} MiB")


if __name__ == "__main__":
    main()
