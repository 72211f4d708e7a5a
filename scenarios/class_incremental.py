"""Classes arrive in groups; at test every class seen so far competes, and no task id is given.

One head over all classes (single-head, class-incremental learning; van de Ven & Tolias 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from clgym.data.sources import Source
from clgym.errors import BadStream
from clgym.scenario import (
    Scenario,
    ScenarioConfig,
    Seed,
    Setting,
    Step,
    Stream,
    class_permutation,
    split_validation,
)

PRESETS = {
    "split-digits": {"source": "digits", "increments": [2], "memory_size": 100},
    "split-mnist": {"source": "mnist", "increments": [2], "memory_size": 200},
    "split-fashion-mnist": {"source": "fashion-mnist", "increments": [2], "memory_size": 200},
    "split-cifar10": {
        "source": "cifar10",
        "increments": [2],
        "network": "resnet18",
        "memory_size": 500,
    },
    "split-cifar100": {
        "source": "cifar100",
        "increments": [10],
        "network": "resnet18",
        "memory_size": 2000,
    },
    "split-cifar100-t20": {
        "source": "cifar100",
        "increments": [5],
        "network": "resnet18",
        "memory_size": 2000,
    },
    "split-cifar100-1993": {
        "source": "cifar100",
        "increments": [10],
        "order_seed": 1993,
        "network": "resnet18",
        "memory_size": 2000,
    },
    "b50-inc5-cifar100": {
        "source": "cifar100",
        "first": 50,
        "increments": [5],
        "order_seed": 1993,
        "network": "resnet18",
        "memory_size": 2000,
    },
    "split-tiny-imagenet": {
        "source": "tiny-imagenet",
        "increments": [20],
        "network": "resnet18",
        "memory_size": 2000,
    },
    # "B0 Inc-n" of the papers on pretrained networks: equal groups, the first included.
    "b0-inc5-cifar100": {"source": "cifar100", "increments": [5], "order_seed": 1993},
    "b0-inc10-cifar100": {"source": "cifar100", "increments": [10], "order_seed": 1993},
    "b0-inc20-cifar100": {"source": "cifar100", "increments": [20], "order_seed": 1993},
    # The order of iCaRL and PODNet, in which nmc's authors ran it.
    "split-cifar100-icarl": {
        "source": "cifar100",
        "increments": [10],
        "class_order": (
            "87 0 52 58 44 91 68 97 51 15 94 92 10 72 49 78 61 14 8 86 84 96 18 24 32 45 88 "
            "11 4 67 69 66 77 47 79 93 29 50 57 83 17 81 41 12 37 59 25 20 80 73 1 28 6 46 62 "
            "82 53 9 31 75 38 63 33 74 27 22 36 3 16 21 60 19 70 90 89 43 5 42 65 76 40 30 23 "
            "85 2 95 56 48 71 64 98 13 99 7 34 55 54 26 35 39"
        ),
        "network": "resnet18",
        "memory_size": 2000,
    },
    "b0-inc10-cub": {"source": "cub200-aper", "increments": [10], "order_seed": 1993},
    "b0-inc5-imagenet-r": {"source": "imagenet-r", "increments": [5], "order_seed": 1993},
    "b0-inc20-imagenet-r": {"source": "imagenet-r", "increments": [20], "order_seed": 1993},
    "b0-inc10-imagenet-a": {"source": "imagenet-a", "increments": [10], "order_seed": 1993},
    "b0-inc20-imagenet-a": {"source": "imagenet-a", "increments": [20], "order_seed": 1993},
    "b0-inc10-objectnet": {"source": "objectnet-aper", "increments": [10], "order_seed": 1993},
    "b0-inc20-objectnet": {"source": "objectnet-aper", "increments": [20], "order_seed": 1993},
    "b0-inc20-omnibenchmark": {
        "source": "omnibenchmark-aper",
        "increments": [20],
        "order_seed": 1993,
    },
    "b0-inc30-omnibenchmark": {
        "source": "omnibenchmark-aper",
        "increments": [30],
        "order_seed": 1993,
    },
    "b0-inc10-vtab": {"source": "vtab-aper", "increments": [10]},
}


@dataclass(frozen=True)
class ClassIncrementalConfig(ScenarioConfig):
    """Options of `ClassIncremental`."""

    increments: tuple[Annotated[int, Ge(1)], ...] = (2,)
    """Classes per experience: one number for all, or a list that sums to the number of classes."""
    first: Annotated[int, Ge(1)] | None = None
    """Classes in the first experience; none: as in the others."""
    classes: tuple[Annotated[int, Ge(0)], ...] | None = None
    """Class numbers of the source that are used, in their natural order; none: all."""
    per_class: tuple[Annotated[int, Ge(1)], ...] | None = None
    """Maximum numbers of training and test rows per class, such as 100 20; the first rows in the
    source's order of hashes are used; none: all."""
    order_seed: Seed | None = None
    """Seed of the class order (NumPy's legacy permutation); none: the natural order."""
    class_order: tuple[Annotated[int, Ge(0)], ...] | None = None
    """Explicit class order, as all class numbers in order of arrival; used without an order
    seed."""


class ClassIncremental(Scenario):
    """Disjoint groups of classes, one group an experience."""

    Config = ClassIncrementalConfig
    setting: Setting = "class-incremental"

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Cut the source by class; see `Scenario.stream`."""
        (source,) = sources
        config = self.config
        chosen = self._chosen(source)
        order = self._order(chosen, config.order_seed if order_seed is None else order_seed)
        columns = np.full(len(source.classes), -1)
        columns[order] = np.arange(len(order))
        steps, start = [], 0
        for size in group_sizes(len(order), config.first, config.increments):
            group = order[start : start + size]
            steps.append(class_step(source, group, start, config.validation, config.per_class))
            start += size
        return Stream(
            name=self.name,
            setting=self.setting,
            sources=(source.name,),
            fingerprints=(source.fingerprint,),
            image_shape=image_shape(source, config.resize),
            columns=(tuple(columns.tolist()),),
            steps=tuple(steps),
            class_order=tuple(source.classes[c] for c in order),
        )

    def _order(self, chosen: list[int], seed: int | None) -> list[int]:
        listed = self.config.class_order
        if seed is not None or listed is None:
            return [chosen[i] for i in class_permutation(len(chosen), seed)]
        if sorted(listed) != chosen:
            raise BadStream(
                expected=f"a class order with each of the {len(chosen)} classes once",
                found=f"{len(listed)} numbers, {len(set(listed) & set(chosen))} of these classes",
                fix="Give --class-order all of them, or --order-seed a number",
            )
        return list(listed)

    def _chosen(self, source: Source) -> list[int]:
        present = sorted(set(np.unique(source.train.labels).tolist()))
        if self.config.classes is None:
            return present
        missing = sorted(set(self.config.classes) - set(present))
        if missing:
            raise BadStream(
                expected=f"class numbers that {source.name} has images of",
                found=f"{missing}",
                fix="Give --classes other numbers",
            )
        return sorted(set(self.config.classes))


def class_step(
    source: Source,
    classes: Sequence[int],
    column: int,
    validation: float,
    per_class: Sequence[int] | None = None,
) -> Step:
    """The rows of some classes, whose columns begin at ``column``.

    Raises:
        BadStream: ``per_class`` is no pair of numbers.
    """
    if per_class is not None and len(per_class) != 2:
        raise BadStream(
            expected="two numbers for per-class, of training and of test rows",
            found=" ".join(map(str, per_class)),
            fix="Give --per-class 100 20, or leave it out",
        )
    most_train, most_test = per_class or (None, None)
    train = _rows(source.train.labels, classes, most_train)
    train, valid = split_validation(train, source.train.labels[train], validation)
    test = _rows(source.test.labels, classes, most_test)
    return Step(train, test, tuple(range(column, column + len(classes))), valid)


def _rows(labels: np.ndarray, classes: Sequence[int], most: int | None) -> np.ndarray:
    """Rows of some classes, ascending; of each class the first ones up to a limit."""
    if most is None:
        return np.flatnonzero(np.isin(labels, classes))
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:most] for c in classes]))


def image_shape(source: Source, resize: int | None) -> tuple[int, int, int]:
    """Channels, height and width of the images as the learner gets them."""
    _, height, width, channels = source.train.images.shape
    return (channels, resize or height, resize or width)


def group_sizes(n_classes: int, first: int | None, increments: Sequence[int]) -> list[int]:
    """Classes per experience; every class is used, or the options are refused.

    Raises:
        BadStream: the sizes do not sum to ``n_classes``.
    """
    if not increments:
        return _refuse(n_classes, [], first, increments)
    if len(increments) > 1:
        sizes = [*([first] if first else []), *increments]
    else:
        head = min(first or increments[0], n_classes)
        rest, left = divmod(n_classes - head, increments[0])
        sizes = [head, *[increments[0]] * rest, *([left] if left else [])]
        if left or head != (first or increments[0]):
            return _refuse(n_classes, sizes, first, increments)
    return sizes if sum(sizes) == n_classes else _refuse(n_classes, sizes, first, increments)


def _refuse(
    n_classes: int, sizes: list[int], first: int | None, increments: Sequence[int]
) -> list[int]:
    asked = f"--increments {' '.join(map(str, increments))}" + (
        f" --first {first}" if first else ""
    )
    raise BadStream(
        expected=f"group sizes that sum to the {n_classes} classes",
        found=f"{asked}, which gives {'+'.join(map(str, sizes))}",
        fix="Give --first and --increments that use every class once",
    )
