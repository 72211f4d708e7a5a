"""Classes are learned group by group; then requests come to forget a class or an experience.

Continual learning and unlearning on one stream. The first phase is scored as every
class-incremental stream is. After each request the gym measures what is left of the rows that were
to be forgotten: the accuracy on their classes and on the others, what a membership attack finds,
and the distance to a model that was never given them (``clgym run --reference``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from clgym.data.sources import Source
from clgym.streams.deletion import DeletionStream, Forgets, deletions_of

from .class_incremental import ClassIncremental, ClassIncrementalConfig

PRESETS = {
    "deletion-digits": {
        "source": "digits",
        "increments": [2],
        "memory_size": 100,
        "numbers": [0, 5],
    },
    "deletion-experience-digits": {
        "source": "digits",
        "increments": [2],
        "memory_size": 100,
        "forget": "experience",
        "numbers": [1, 3],
    },
    "deletion-cifar10": {
        "source": "cifar10",
        "increments": [2],
        "memory_size": 500,
        "network": "resnet18",
        "numbers": [0, 5],
    },
    "deletion-experience-cifar10": {
        "source": "cifar10",
        "increments": [2],
        "memory_size": 500,
        "network": "resnet18",
        "forget": "experience",
        "numbers": [1, 3],
    },
}


@dataclass(frozen=True)
class DeletionConfig(ClassIncrementalConfig):
    """Options of `ForgetOnRequest`: those of the learning phase, then the requests."""

    forget: Forgets = "class"
    """Unit of a request: the rows of one class, or those of one experience."""
    numbers: tuple[Annotated[int, Ge(0)], ...] = (0,)
    """Numbers of what is to be forgotten, one request each, in this order: class indices in order
    of arrival, or experiences, from 0."""


class ForgetOnRequest(ClassIncremental):
    """A class-incremental stream with requests to forget behind it."""

    Config = DeletionConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> DeletionStream:  # type: ignore[override]
        """Cut both phases; see `Scenario.stream`."""
        learning = super().stream(sources, order_seed)
        requests = deletions_of(learning, self.config.forget, self.config.numbers)
        return DeletionStream(self.name, learning, requests)
