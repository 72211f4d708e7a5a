"""Class boundaries blur: part of each class's images arrives in experiences that are not its own.

With no specification at hand these are the definitions, for T experiences and C classes:

* **i-Blurry-N-M** (Koh et al., ICLR 2022): N of the classes are disjoint, all their training rows
  arrive in their own experience; the others are blurry, M of their rows arrive elsewhere. Here
  ``disjoint`` is N: after the first k classes in the order of arrival floor(N k) are disjoint, so
  that every experience has its share of them; which of its classes, ``blur_seed`` draws. ``blur``
  is M: floor(M n) of a class's n rows leave and are spread evenly over the T - 1 other experiences.
  N = 0 is Blurry-M (Bang et al., CVPR 2021).
* **Si-Blurry** (Moon et al., ICCV 2023): ``boundaries random``. floor(N C) classes, drawn by
  ``blur_seed``, are disjoint. Disjoint and blurry classes are each cut into T runs at T - 1 places
  drawn uniformly, so that an experience may have many or none of either; the draw is repeated until
  each has a class. floor(M n) rows of every blurry class are drawn, and all rows that were drawn
  change places with one another at random, whereby some may come back: no experience grows.

``increments`` and ``first`` give the number of experiences and, with ``boundaries fixed``, their
classes. No row comes twice. A class is measured in the experience that it mainly belongs to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.random import RandomState

from clgym.data.shares import rows_of_share
from clgym.data.sources import Source
from clgym.errors import BadStream
from clgym.scenario import Seed, Stream

from .class_incremental import ClassIncremental, ClassIncrementalConfig
from .repetition import renumber

PRESETS = {
    "blurry-digits-v2": {"source": "digits", "increments": [2], "memory_size": 100},
    "blurry-cifar100-v2": {
        "source": "cifar100",
        "increments": [20],
        "network": "resnet18",
        "memory_size": 2000,
    },
    "i-blurry-digits": {
        "source": "digits",
        "increments": [2],
        "disjoint": 0.5,
        "single_pass": True,
        "memory_size": 100,
    },
    "i-blurry-cifar100": {
        "source": "cifar100",
        "increments": [20],
        "disjoint": 0.5,
        "single_pass": True,
        "network": "resnet18",
        "memory_size": 2000,
    },
    "si-blurry-digits": {
        "source": "digits",
        "increments": [2],
        "disjoint": 0.5,
        "boundaries": "random",
        "single_pass": True,
        "memory_size": 100,
    },
    "si-blurry-cifar100": {
        "source": "cifar100",
        "increments": [20],
        "disjoint": 0.5,
        "boundaries": "random",
        "single_pass": True,
        "network": "resnet18",
        "memory_size": 2000,
    },
    # As they were: every class is measured in the first experience that brings a row of it.
    "blurry-digits": {
        "source": "digits",
        "increments": [2],
        "memory_size": 100,
        "measured": "arrival",
    },
    "blurry-cifar100": {
        "source": "cifar100",
        "increments": [20],
        "network": "resnet18",
        "memory_size": 2000,
        "measured": "arrival",
    },
}
_ATTEMPTS = 10_000


@dataclass(frozen=True)
class BlurryConfig(ClassIncrementalConfig):
    """Options of `Blurry`."""

    blur: Annotated[float, Ge(0), Le(0.9)] = 0.1
    """Fraction of each blurry class's training rows that arrives outside its own experience."""
    disjoint: Annotated[float, Ge(0), Le(1)] = 0.0
    """Fraction of the classes that are disjoint: all their rows arrive in their own experience."""
    boundaries: Literal["fixed", "random"] = "fixed"
    """Classes of each experience: those that increments give, or runs that are cut at random."""
    blur_seed: Seed = 0
    """Seed of the draws of disjoint classes, random boundaries, and rows that arrive elsewhere."""
    measured: Literal["home", "arrival"] = "home"
    """Experience in which a class is measured: that which it mainly belongs to, or the first that
    brings a row of it."""
    single_pass: bool = False
    """Whether every training row may be seen once only (online learning)."""
    anytime: Annotated[int, Ge(0)] = 20
    """Number of moments, equally spaced by training images, at which all classes that have come are
    tested, for the accuracy at any time; 0: none. Single-pass streams only."""


class Blurry(ClassIncremental):
    """A class-incremental stream some of whose rows have changed places."""

    Config = BlurryConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Spread rows over the plan; see `Scenario.stream`."""
        (source,) = sources
        config, plan = self.config, super().stream(sources, order_seed)
        generator = RandomState(config.blur_seed)
        if config.boundaries == "random":
            groups, blurry = self._cut_at_random(_groups(plan), generator)
            plan = _regrouped(plan, groups, source)
            parts = self._exchanged(plan, blurry, source, generator)
        else:
            groups = _groups(plan)
            blurry = self._blurry_of(groups)
            parts = self._spread(plan, blurry, source, generator)
        trains = [np.sort(np.concatenate(p)) for p in parts]
        steps = [replace(s, train=rows) for s, rows in zip(plan.steps, trains, strict=True)]
        dealt = renumber(replace(plan, steps=tuple(steps)), source)
        if config.measured == "home":
            dealt = _measured_at_home(dealt, plan, groups)
        anytime = config.anytime if config.single_pass else 0
        return replace(dealt, single_pass=config.single_pass, anytime=anytime)

    def _blurry_of(self, groups: Sequence[Sequence[int]]) -> set[int]:
        """Classes of fixed groups that are blurry."""
        config, blurry, start = self.config, set[int](), 0
        generator = RandomState([config.blur_seed, 1])  # the rows' draws stay what they are
        for group in groups:
            end = start + len(group)
            count = rows_of_share(config.disjoint, end) - rows_of_share(config.disjoint, start)
            blurry |= set(generator.permutation(group)[count:].tolist())
            start = end
        return blurry

    def _cut_at_random(
        self, groups: Sequence[Sequence[int]], generator: RandomState
    ) -> tuple[list[list[int]], set[int]]:
        """Draw the boundaries of the same number of groups, and the classes that are blurry.

        Raises:
            BadStream: no draw gave every experience a class.
        """
        order, count = [label for group in groups for label in group], len(groups)
        chosen = generator.permutation(order)[: rows_of_share(self.config.disjoint, len(order))]
        disjoint = set(chosen.tolist())
        kinds = [[c for c in order if c in disjoint], [c for c in order if c not in disjoint]]
        for _ in range(_ATTEMPTS):
            runs = [_cut(kind, count, generator) for kind in kinds]
            drawn = [[*a, *b] for a, b in zip(*runs, strict=True)]
            if all(drawn):
                return drawn, set(kinds[1])
        raise BadStream(
            expected=f"random boundaries that give each of {count} experiences a class",
            found=f"none in {_ATTEMPTS} draws of {len(order)} classes",
            fix="Give larger --increments, or --boundaries fixed",
        )

    def _spread(
        self, plan: Stream, blurry: set[int], source: Source, generator: RandomState
    ) -> list[list[np.ndarray]]:
        """Rows of each experience: those that leave go to all others evenly."""
        parts: list[list[np.ndarray]] = [[] for _ in plan.steps]
        for home, label, rows in _class_rows(plan, source):
            share = self.config.blur if label in blurry and len(plan) > 1 else 0.0
            rows = generator.permutation(rows)
            leaving = rows_of_share(share, len(rows))
            parts[home].append(rows[leaving:])
            others = [i for i in range(len(plan)) if i != home]
            pieces = np.array_split(rows[:leaving], len(others) or 1)
            for i, piece in zip(others, pieces, strict=False):
                parts[i].append(piece)
        return parts

    def _exchanged(
        self, plan: Stream, blurry: set[int], source: Source, generator: RandomState
    ) -> list[list[np.ndarray]]:
        """Rows of each experience: those that are drawn change places with one another."""
        parts: list[list[np.ndarray]] = [[] for _ in plan.steps]
        drawn: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for home, label, rows in _class_rows(plan, source):
            rows = generator.permutation(rows)
            leaving = rows_of_share(self.config.blur if label in blurry else 0.0, len(rows))
            parts[home].append(rows[leaving:])
            drawn.append(rows[:leaving])
            places.append(np.full(leaving, home))
        moved, place = generator.permutation(np.concatenate(drawn)), np.concatenate(places)
        for i, part in enumerate(parts):
            part.append(moved[place == i])
        return parts


def _groups(plan: Stream) -> list[list[int]]:
    """Class numbers of the source, by experience, in the order of arrival."""
    label_of = {column: label for label, column in enumerate(plan.columns[0]) if column >= 0}
    return [[label_of[column] for column in step.classes] for step in plan.steps]


def _cut(classes: Sequence[int], count: int, generator: RandomState) -> list[Sequence[int]]:
    """``count`` runs of some classes, cut at places drawn uniformly; a run may be empty."""
    cuts = np.sort(generator.randint(0, len(classes) + 1, count - 1)).tolist()
    ends = [0, *cuts, len(classes)]
    return [classes[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def _regrouped(plan: Stream, groups: Sequence[Sequence[int]], source: Source) -> Stream:
    """The plan with other classes in its experiences."""
    kinds = {"train": source.train.labels, "valid": source.train.labels, "test": source.test.labels}
    held = {kind: np.concatenate([getattr(s, kind) for s in plan.steps]) for kind in kinds}
    steps = []
    for step, group in zip(plan.steps, groups, strict=True):
        rows = {k: np.sort(held[k][np.isin(kinds[k][held[k]], group)]) for k in kinds}
        steps.append(replace(step, **rows))
    return replace(plan, steps=tuple(steps))


def _class_rows(plan: Stream, source: Source) -> Iterable[tuple[int, int, np.ndarray]]:
    """Experience, class number and training rows of every class, before any row moves."""
    for home, step in enumerate(plan.steps):
        labels = source.train.labels[step.train]
        for label in np.unique(labels).tolist():
            yield home, label, step.train[labels == label]


def _measured_at_home(dealt: Stream, plan: Stream, groups: Sequence[Sequence[int]]) -> Stream:
    """The stream with every class measured in the experience that it mainly belongs to."""
    columns = dealt.columns[0]
    steps = tuple(
        replace(step, test=home.test, home=tuple(sorted(columns[label] for label in group)))
        for step, home, group in zip(dealt.steps, plan.steps, groups, strict=True)
    )
    return replace(dealt, steps=steps)
