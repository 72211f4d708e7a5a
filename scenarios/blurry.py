"""Class boundaries blur: part of each class's images arrives in experiences that are not its own.

Disjoint and blurry classes together (i-Blurry; Koh et al. 2022): ``blur`` is the share of a class's
training rows that is spread evenly over the other experiences. A class is measured in the
experience that it mainly belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from clgym.config import Range
from clgym.data.sources import Source
from clgym.scenario import Stream

from .class_incremental import ClassIncremental, ClassIncrementalConfig
from .repetition import renumber

PRESETS = {
    "blurry-digits": {"source": "digits", "increments": [2], "memory_size": 100},
    "blurry-cifar100": {
        "source": "cifar100",
        "increments": [20],
        "network": "resnet18",
        "memory_size": 2000,
    },
}


@dataclass(frozen=True)
class BlurryConfig(ClassIncrementalConfig):
    """Options of `Blurry`."""

    blur: Annotated[float, Range(0, 0.9)] = 0.1
    """Fraction of each class's training rows that arrives outside its own experience."""
    blur_seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Seed of the draw of the rows that arrive elsewhere, and where."""


class Blurry(ClassIncremental):
    """A class-incremental stream some of whose rows have changed places."""

    Config = BlurryConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Spread rows over the plan; see `Scenario.stream`."""
        (source,) = sources
        plan = super().stream(sources, order_seed)
        generator = np.random.RandomState(self.config.blur_seed)
        parts: list[list[np.ndarray]] = [[] for _ in plan.steps]
        for home, step in enumerate(plan.steps):
            labels = source.train.labels[step.train]
            for label in np.unique(labels):
                rows = generator.permutation(step.train[labels == label])
                leaving = int(self.config.blur * len(rows)) if len(plan) > 1 else 0
                parts[home].append(rows[leaving:])
                others = [i for i in range(len(plan)) if i != home]
                for i, piece in zip(
                    others, np.array_split(rows[:leaving], len(others) or 1), strict=False
                ):
                    parts[i].append(piece)
        trains = [np.sort(np.concatenate(p)) for p in parts]
        steps = [replace(s, train=rows) for s, rows in zip(plan.steps, trains, strict=True)]
        return renumber(replace(plan, steps=tuple(steps)), source)
