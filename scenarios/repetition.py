"""Classes come back: each experience brings some new classes and some seen before.

Class-incremental learning with repetition (Hemati et al. 2023): every class's training rows are
cut into as many pieces as experiences it appears in, so no image comes twice. A class is measured
in the experience that brings it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from clgym.data.sources import Source
from clgym.scenario import Seed, Step, Stream

from .class_incremental import ClassIncremental, ClassIncrementalConfig

PRESETS = {
    "repetition-digits": {"source": "digits", "increments": [2], "memory_size": 100},
    "repetition-cifar100": {
        "source": "cifar100",
        "increments": [10],
        "network": "resnet18",
        "memory_size": 2000,
    },
}


@dataclass(frozen=True)
class RepetitionConfig(ClassIncrementalConfig):
    """Options of `Repetition`."""

    repeat: Annotated[float, Ge(0), Le(1)] = 0.3
    """Probability that a class seen before returns in an experience."""
    repeat_seed: Seed = 0
    """Seed of the draw of returning classes and their rows."""


class Repetition(ClassIncremental):
    """New classes as in a class-incremental stream, and old ones again."""

    Config = RepetitionConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Deal each class's rows to its experiences; see `Scenario.stream`."""
        (source,) = sources
        plan = super().stream(sources, order_seed)
        generator = np.random.RandomState(self.config.repeat_seed)
        parts: list[list[np.ndarray]] = [[] for _ in plan.steps]
        for home, step in enumerate(plan.steps):
            labels = source.train.labels[step.train]
            for label in np.unique(labels):
                rows = generator.permutation(step.train[labels == label])
                later = np.arange(home + 1, len(plan))
                again = later[generator.rand(len(later)) < self.config.repeat]
                visits = [home, *again.tolist()][: len(rows)]
                for i, piece in zip(visits, np.array_split(rows, len(visits)), strict=True):
                    parts[i].append(piece)
        trains = [np.sort(np.concatenate(p)) for p in parts]
        steps = [replace(s, train=rows) for s, rows in zip(plan.steps, trains, strict=True)]
        return renumber(replace(plan, steps=tuple(steps)), source)


def renumber(plan: Stream, source: Source) -> Stream:
    """Number classes by first arrival in the training rows, and measure each where it arrives.

    Classes that arrive together keep the order they had.
    """
    old = np.array(plan.columns[0])
    rank: dict[int, int] = {}
    groups: list[list[int]] = []
    for step in plan.steps:
        present = np.unique(old[source.train.labels[step.train]])
        fresh = [c for c in present.tolist() if c not in rank]
        rank.update({c: len(rank) + i for i, c in enumerate(fresh)})
        groups.append(fresh)
    new = np.array([rank.get(c, -1) for c in old.tolist()])
    tested = np.sort(np.concatenate([step.test for step in plan.steps]))
    brings = old[source.test.labels[tested]]
    steps = [
        _measured(s, tested[np.isin(brings, fresh)], new, source)
        for s, fresh in zip(plan.steps, groups, strict=True)
    ]
    names = {rank[c]: plan.class_order[c] for c in rank}
    return replace(
        plan,
        steps=tuple(steps),
        columns=(tuple(new.tolist()),),
        class_order=tuple(names[i] for i in range(len(names))),
    )


def _measured(step: Step, test: np.ndarray, new: np.ndarray, source: Source) -> Step:
    """The step with renumbered class indices and the test rows of the classes it brings first."""
    present = np.unique(new[source.train.labels[step.train]])
    return replace(step, classes=tuple(present.tolist()), test=test)
