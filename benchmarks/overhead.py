"""What a clgym epoch costs, against a bare PyTorch loop and against Avalanche's own Naive.

Both sides of a pair run one after the other in this process, their order alternating, on the same
tensors. The figure is the median over pairs of the ratio of their processor times (so that other
work on the machine counts little), with a bootstrap interval. Needs MNIST (``clgym fetch mnist``)::

    python benchmarks/overhead.py [--pairs 20] [--only NAME ...] [--threads 1] [--json]
"""

import argparse
import contextlib
import gc
import io
import json
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clgym.avalanche import SGDConfig, SGDStrategy
from clgym.data.sources import load_source
from clgym.strategy import Batch, Experience, StreamInfo


class Case(NamedTuple):
    """Two ways to do the same work; the ratio is that of the first to the second."""

    name: str
    ours: Callable[[], Any]
    other: Callable[[], Any]
    target: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what the life cycle costs.")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="No loggers specified")
    cases = {"bare-mlp": bare_mlp, "bare-resnet18": bare_resnet18, "naive-train": naive_train}
    cases["naive-eval"] = naive_eval
    rows = [measure(cases[name](), options.pairs) for name in options.only or cases]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'clgym / other':44}{'median':>8}{'95 % interval':>18}{'ms':>18}  target")
    for row in rows:
        times = f"{row['clgym_ms']:.0f} / {row['other_ms']:.0f}"
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"{row['name']:44}{row['ratio']:8.3f}{interval:>18}{times:>18}  {row['target']}")


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Median ratio over interleaved pairs, after one pair to warm up."""
    times = np.array([pair(case, number) for number in range(pairs + 1)])[1:]
    ratios = times[:, 0] / times[:, 1]
    draws = np.random.default_rng(0).choice(ratios, (4000, pairs))
    low, high = np.percentile(np.median(draws, 1), [2.5, 97.5])
    ours, other = np.median(times, 0) * 1000
    return {
        "name": case.name,
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "clgym_ms": float(ours),
        "other_ms": float(other),
        "target": case.target,
        "pairs": pairs,
    }


def pair(case: Case, number: int) -> tuple[float, float]:
    """Both sides once, in an order that alternates: (ours, other) in seconds."""
    times = [0.0, 0.0]
    for side in (0, 1) if number % 2 else (1, 0):
        gc.collect()
        started = time.process_time()
        (case.ours, case.other)[side]()
        times[side] = time.process_time() - started
    return times[0], times[1]


# --- the two sides -------------------------------------------------------------------------------


class Side:
    """A clgym strategy and the tensors that it and its rival train on."""

    def __init__(self, pixels: Tensor, labels: Tensor, scale: float, **config: Any) -> None:
        """Set the strategy up for one experience of ten classes."""
        self.pixels, self.labels, self.scale = pixels, labels, scale
        self.config = SGDConfig(lr=0.01, **config)
        self.strategy = SGDStrategy(self.config)
        shape: Any = tuple(pixels.shape[1:])
        cpu = torch.device("cpu")
        info = StreamInfo(shape, "class-incremental", cpu, seed=0, mean=(0.1,), std=(0.3,))
        self.strategy.setup(info)
        self.index = 0

    def experience(self) -> Experience:
        """The next one, over the same rows."""
        self.index += 1
        facts = {"classes": tuple(range(10)), "columns": 10, "seed": 0, "scale": self.scale}
        return Experience(self.index, self.pixels, self.labels, **facts)

    def train(self) -> None:
        """An epoch as the gym runs it."""
        self.strategy.train(self.experience())

    def predict(self) -> Tensor:
        """All rows as the gym's learner predicts them; the labels are the gym's business."""
        answers = []
        with torch.no_grad():
            for start in range(0, len(self.pixels), self.config.batch_size):
                pixels = self.pixels[start : start + self.config.batch_size]
                answers.append(self.strategy.predict(Batch(pixels.float().mul_(self.scale))))
        return torch.cat(answers)

    def rival_network(self) -> nn.Module:
        """The same network for the other side."""
        return self.strategy.make_network(10)


def bare(side: Side) -> Callable[[], None]:
    """An epoch of nothing but PyTorch over the same tensors."""
    network = side.rival_network()
    criterion, size = nn.CrossEntropyLoss(), side.config.batch_size

    def epoch() -> None:
        optimizer = torch.optim.SGD(network.parameters(), side.config.lr)
        network.train()
        order = torch.randperm(len(side.labels))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            images = side.pixels[rows].float().mul_(side.scale)
            optimizer.zero_grad()
            loss = criterion(network(images), side.labels[rows])
            loss.backward()
            optimizer.step()

    return epoch


def stock(side: Side) -> tuple[Any, Any]:
    """Avalanche's Naive with its default loader and evaluator, and its experience."""
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.training import Naive
    from torch.utils.data import TensorDataset

    images: Any = TensorDataset(side.pixels.float().mul_(side.scale), side.labels)
    images.targets = side.labels.tolist()
    dataset = as_classification_dataset(images)
    bench: Any = with_classes_timeline(benchmark_from_datasets(train=[dataset]))
    network, size = side.rival_network(), side.config.batch_size
    optimizer = torch.optim.SGD(network.parameters(), side.config.lr)
    naive = Naive(
        model=network, optimizer=optimizer, train_mb_size=size, train_epochs=1, eval_mb_size=size
    )
    for logger in naive.evaluator.loggers:
        logger.file = io.StringIO()  # type: ignore[attr-defined]
    return naive, bench.train_stream[0]


# --- the cases -----------------------------------------------------------------------------------


def mnist(count: int) -> tuple[Tensor, Tensor, float]:
    """The first images of the training split, with labels."""
    split = load_source("mnist").train
    pixels = torch.from_numpy(np.array(split.images[:count])).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.from_numpy(np.array(split.labels[:count])), 1 / 255


def bare_mlp() -> Case:
    """MLP 784-100-10."""
    side = Side(*mnist(12800), batch_size=128)
    name = "train, MLP, batch 128 / bare loop"
    return Case(name, side.train, bare(side), "at most 1.3")


def bare_resnet18() -> Case:
    """ResNet-18 on 32-pixel images; two steps, since a CPU does some tens of images a second."""
    pixels = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (128,))
    side = Side(pixels, labels, 1 / 255, batch_size=64, network="resnet18")
    name = "train, ResNet-18, batch 64 / bare loop"
    return Case(name, side.train, bare(side), "at most 1.05")


def naive_train() -> Case:
    """Against Avalanche as it comes: progress bar, metrics and all, its output thrown away."""
    side = Side(*mnist(3200), batch_size=32)
    naive, experience = stock(side)
    name = "train, MLP, batch 32 / Avalanche's Naive"
    return Case(name, side.train, quiet(lambda: naive.train(experience)), "at most 0.5")


def naive_eval() -> Case:
    """The same for evaluation."""
    side = Side(*mnist(3200), batch_size=32)
    side.train()
    naive, experience = stock(side)
    quiet(lambda: naive.train(experience))()
    name = "evaluate, MLP, batch 32 / Avalanche's Naive"
    return Case(name, side.predict, quiet(lambda: naive.eval([experience])), "at most 0.333")


def quiet(work: Callable[[], Any]) -> Callable[[], Any]:
    """Without the progress bar on the screen; it is drawn all the same."""

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work()

    return run


if __name__ == "__main__":
    main()
