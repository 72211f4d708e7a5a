"""What refresh learning, DST and CLR cost, each against what it stands on, step for step.

Pairs are interleaved in this process by the measure of ``clgym bench``: medians of ratios of
processor time, each with its middle half. Images are random, 32 pixels for training from
scratch and 64 for CLR's anchor. No data are needed::

    python benchmarks/trained_networks.py [--pairs 10] [--only NAME ...] [--threads 1] [--json]

Bounds: refresh at most 2.3 x a naive and 1.6 x a derpp step, DST's masking at most 1.1 x a dense
step, CLR's forward pass at most 1.25 x the plain network's and its step not above full fine-tuning.
The Fisher pass of refresh and a change of DST's masks are told apart, in milliseconds. The load
average is printed because caches are shared even where processor time is not.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from clgym.api import make_strategy
from clgym.avalanche import SGDConfig, SGDStrategy
from clgym.bench.measure import rounds_of, summarised
from clgym.models.backbones import Frozen, load
from clgym.models.fisher import fisher_sum
from clgym.models.networks import Classifier
from clgym.registry import find, load_module
from clgym.strategy import Experience, Memory, Strategy, StreamInfo

STEPS, BATCH, CLASSES = 4, 32, 10


class Case(NamedTuple):
    """Two ways to do the same work; the ratio is that of the first to the second."""

    name: str
    ours: Callable[[], Any]
    other: Callable[[], Any]
    target: str


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Ratio of processor times, and milliseconds of both."""
    costs = rounds_of(case.ours, case.other, pairs, time.process_time)
    found = summarised(case.name, case.target, "s", costs)
    milliseconds = {"clgym_ms": 1000 * found.ours, "other_ms": 1000 * found.theirs}
    return {**found.to_tree(), **milliseconds, "target": case.target}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what methods add to a step.")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], choices=[*CASES, *APART], metavar="NAME")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = options.only or [*CASES, *APART]
    rows, apart, load = [], {}, os.getloadavg()[0]
    if not options.json:
        print(f"{options.pairs} pairs, {options.threads} thread(s), load average {load:.1f}")
    for name in names:
        if name in CASES:
            rows.append(row := measure(CASES[name](), options.pairs))
            line = f"{row['ratio']:7.3f} [{row['low']:.3f}, {row['high']:.3f}]  {row['target']}"
            line += f"  ({row['clgym_ms'] / STEPS:.0f} / {row['other_ms'] / STEPS:.0f} ms a step)"
        else:
            apart[name] = median, low, high = milliseconds(APART[name](), options.pairs)
            line = f"{median:7.0f} [{low:.0f}, {high:.0f}] ms"
        if not options.json:
            print(f"{name:24}{line}", flush=True)
    if options.json:
        print(json.dumps({"load": load, "ratios": rows, "milliseconds": apart}, indent=2))


class Trainer:
    """A strategy that trains on one small experience after another."""

    def __init__(self, strategy: Strategy, setting: Any = "class-incremental") -> None:
        """Set it up for colour images and ten classes; one experience warms it up."""
        self.strategy, self.index, self.setting = strategy, 0, setting
        needs, zeros = strategy.needs, (0.0,) * 3
        total = CLASSES if needs.total_classes else None
        cpu, memory = torch.device("cpu"), Memory(needs.memory)
        torch.manual_seed(0)
        strategy.setup(
            StreamInfo((3, 32, 32), setting, cpu, 0, zeros, (1.0,) * 3, total, memory=memory)
        )
        self()

    def __call__(self) -> None:
        """Train on `STEPS` batches."""
        generator = torch.Generator().manual_seed(self.index)
        rows, own = STEPS * BATCH, tuple(range(CLASSES))
        given = self.setting == "task-incremental"
        experience = Experience(
            self.index,
            torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8, generator=generator),
            torch.randint(0, CLASSES, (rows,), generator=generator),
            classes=own,
            columns=CLASSES,
            seed=0,
            scale=1 / 255,
            task=self.index if given else None,
            task_columns=(own,) * (self.index + 1) if given else (),
        )
        self.strategy.train(experience)
        self.index += 1


def _refresh(base: str, bound: float) -> Case:
    options: dict[str, Any] = {"network": "slim-resnet18"}
    plain = make_strategy(base, **options)
    over = make_strategy(
        "refresh", base=base, fisher_samples=0, **{f"base.{k}": v for k, v in options.items()}
    )
    name = f"refresh over {base} / {base}"
    return Case(name, Trainer(over), Trainer(plain), f"at most {bound}")


def _masking() -> Case:
    class Dense(SGDStrategy):
        def make_optimizer(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.network.parameters(), 1e-3)

    dense = Dense(SGDConfig(network="slim-resnet18"))
    sparse = make_strategy("dst", network="slim-resnet18", batch_size=BATCH, epochs=1)
    # Two tasks at least: from the second on gradients of owned weights are zeroed too.
    ours = Trainer(sparse, "task-incremental")
    return Case("dst / dense Adam", ours, Trainer(dense), "at most 1.1")


def _anchor() -> tuple[Classifier, Classifier]:
    """The same ResNet-18 under a head, plain and reprogrammed."""
    plain = Classifier(load(Frozen("resnet18@random", 64, "stretch")), 512, CLASSES)
    ours = copy.deepcopy(plain)
    clr = load_module(find("strategies", "clr"))
    clr.convert(ours.backbone, "clr")
    kernels = [m.kernel for m in ours.modules() if isinstance(m, clr.Reprogrammed)]
    norms = [m for m in ours.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for part in [*kernels, *norms, ours.head]:
        part.requires_grad_(True)
    plain.requires_grad_(True)
    return ours, plain


def _forward() -> Case:
    images = torch.rand(BATCH, 3, 64, 64)
    ours, plain = (_answering(net.eval(), images) for net in _anchor())
    return Case("clr forward / plain ResNet-18", ours, plain, "at most 1.25")


def _answering(net: Classifier, images: torch.Tensor) -> Callable[[], None]:
    def answer() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                net(images)

    return answer


def _step() -> Case:
    images, labels = torch.rand(BATCH, 3, 64, 64), torch.randint(0, CLASSES, (BATCH,))
    ours, plain = (_training(net.train(), images, labels) for net in _anchor())
    return Case("clr step / full fine-tuning", ours, plain, "at most 1")


def _training(net: Classifier, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)

    def train() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            cross_entropy(net(images), labels).backward()
            optimizer.step()

    return train


def _fisher() -> Callable[[], Any]:
    """The Fisher pass over one batch."""
    net = Trainer(make_strategy("naive", network="slim-resnet18")).strategy.network  # type: ignore[attr-defined]
    images, labels = torch.rand(BATCH, 3, 32, 32), torch.randint(0, CLASSES, (BATCH,))
    return lambda: fisher_sum(net, images, labels, "eval")


def _update() -> Callable[[], Any]:
    """One prune and grow of all masks."""
    strategy: Any = make_strategy("dst", network="slim-resnet18", epochs=1, growth="gradient")
    Trainer(strategy, "task-incremental")
    return lambda: strategy.masking.update(strategy.template.optimizer, 0.3)


def milliseconds(work: Callable[[], Any], times: int) -> tuple[float, float, float]:
    """Median of so many runs' processor times, after one to warm up, and its 95 % interval."""
    seconds = []
    for _ in range(times + 1):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    draws = np.random.default_rng(0).choice(seconds[1:], (4000, times))
    low, high = np.percentile(np.median(draws, 1), [2.5, 97.5])
    return tuple(1000 * float(s) for s in (np.median(seconds[1:]), low, high))  # type: ignore[return-value]


CASES: dict[str, Callable[[], Case]] = {
    "refresh-naive": lambda: _refresh("naive", 2.3),
    "refresh-derpp": lambda: _refresh("derpp", 1.6),
    "dst": _masking,
    "clr-forward": _forward,
    "clr-step": _step,
}
APART = {"fisher-pass-32-images": _fisher, "dst-mask-update": _update}

if __name__ == "__main__":
    main()
