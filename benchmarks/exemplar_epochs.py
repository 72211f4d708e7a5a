"""Cost of an epoch of the methods with exemplars, relative to exemplar-replay, task by task.

    python benchmarks/exemplar_epochs.py [--tasks 4] [--images 96] [--rounds 3] [--threads 1]

Every method trains the same stream of random 32-pixel images on a slim ResNet-18 with the 3x3 stem,
one epoch per stage. Methods take turns after each task, so that other work on the machine hits all
of them. Printed per method, task and stage: processor time per image against exemplar-replay's in
the same round, median of the rounds, beside the passes through one network that the stage has to
make (forward 1, forward and backward 3), divided by exemplar-replay's 3. Passes of frozen branches
that hand a gradient on count 2, as does the way back to the image alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from clgym.config import build
from clgym.data.generators import seed_generators
from clgym.registry import find, load_class
from clgym.strategy import Experience, Memory, Strategy, StreamInfo

BRANCH = 1 / 4
"""Share of the last stage in the work of a ResNet-18: all four have about the same."""


def expansion(task: int) -> float:
    """Forward passes of frozen branches, and the training of one."""
    return 3 + task


def shared_base(task: int) -> float:
    """Base and newest branch are trained; frozen branches hand the gradient on."""
    return 3 + 2 * task * BRANCH


def energies(task: int, middle: int) -> float:
    """Two training passes of the newest branch, and three of sampling with the way back.

    ``middle``: frozen branches that are asked twice for their statistics' sake.
    """
    return 2 * 3 + 3 * 2 + 2 * middle


METHODS: dict[str, tuple[dict[str, Any], list[Callable[[int], float]]]] = {
    "exemplar-replay": ({}, [lambda t: 3]),
    "icarl": ({}, [lambda t: 4]),
    "wa": ({}, [lambda t: 4]),
    "expandable": ({}, [expansion]),
    "memo": ({"stem": "3x3"}, [shared_base]),
    "foster": ({"compression_epochs": 1}, [lambda t: 4, lambda t: 5]),
    "beef": (
        {"network": "slim-resnet18", "fusion_epochs": 1},
        [lambda t: energies(t, max(t - 1, 0)), lambda t: 1 + t],
    ),
    "beef --variant fixed": (
        {"network": "slim-resnet18", "fusion_epochs": 1, "variant": "fixed"},
        [lambda t: energies(t, 0), lambda t: 1 + t],
    ),
}
"""Options of each method, and the passes of its stages from the second task on, by task."""


class Timed:
    """A strategy whose stages are timed."""

    def __init__(self, name: str, memory: int) -> None:
        """Set it up."""
        kind = load_class(find("strategies", name.split()[0]), Strategy)
        small = {"network": "slim-resnet18", "augment": "none", "memory_size": memory}
        own = {"first_epochs": 1, "epochs": 1, "batch_size": 32, **METHODS[name][0]}
        self.strategy: Any = kind(build(kind.Config, {**small, **own}, name))
        self.seconds: list[float] = []
        cpu = torch.device("cpu")
        info = StreamInfo((3, 32, 32), "class-incremental", cpu, 0, (), (), memory=Memory(memory))
        seed_generators(0, "setup")
        self.strategy.setup(info)
        template, train = self.strategy.template, self.strategy.template.train

        def timed(*args: Any) -> None:
            begin, images = time.process_time(), len(template.feed.experience)
            train(*args)
            self.seconds.append((time.process_time() - begin) / images)

        template.train = timed

    def learn(self, task: int, images: int) -> list[float]:
        """Train one task of two classes; processor time per image of each stage."""
        self.seconds.clear()
        generator = torch.Generator().manual_seed(task)
        pixels = torch.randint(256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.arange(images) % 2 + 2 * task
        classes = (2 * task, 2 * task + 1)
        experience = Experience(
            task, pixels, labels, classes=classes, columns=2 * task + 2, seed=0, scale=1 / 255
        )
        seed_generators(0, "train", experience=task)
        self.strategy.train(experience)
        return list(self.seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ratios: dict[tuple[str, int, int], list[float]] = {}
    for _ in range(given.rounds):
        methods = {name: Timed(name, 2 * given.tasks * 4) for name in METHODS}
        for task in range(given.tasks):
            spent = {name: timed.learn(task, given.images) for name, timed in methods.items()}
            (unit,) = spent["exemplar-replay"]
            for name, stages in spent.items():
                for stage, seconds in enumerate(stages):
                    ratios.setdefault((name, task, stage), []).append(seconds / unit)
    print("method                 task  stage  measured  by passes")
    for (name, task, stage), found in sorted(ratios.items(), key=lambda item: item[0][1]):
        passes = METHODS[name][1][stage](task) / 3 if task or "beef" in name else 1.0
        middle = statistics.median(found)
        print(f"{name:22} {task:4}  {stage:5}  {middle:8.2f}  {passes:9.2f}")


if __name__ == "__main__":
    main()
