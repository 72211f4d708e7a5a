"""Classes arrive in groups, and the task id of every batch is known, in training and at test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from clgym.data.sources import Source
from clgym.scenario import Stream

from .class_incremental import ClassIncremental, ClassIncrementalConfig

PRESETS = {
    "task-digits": {"source": "digits", "increments": [2], "memory_size": 100},
    "task-mnist": {"source": "mnist", "increments": [2], "memory_size": 200},
    "task-cifar10": {
        "source": "cifar10",
        "increments": [2],
        "network": "resnet18",
        "memory_size": 500,
    },
    "task-cifar100": {
        "source": "cifar100",
        "increments": [10],
        "network": "resnet18",
        "memory_size": 2000,
    },
}


@dataclass(frozen=True)
class TaskIncrementalConfig(ClassIncrementalConfig):
    """Options of `TaskIncremental`."""

    compete: Literal["own", "seen"] = "own"
    """Classes that compete in a prediction: those of the task, or all seen so far, as in the code
    of some papers."""


class TaskIncremental(ClassIncremental):
    """The groups of a class-incremental stream, with their task ids given."""

    Config = TaskIncrementalConfig
    setting = "task-incremental"

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Cut the source by class; see `Scenario.stream`."""
        return replace(super().stream(sources, order_seed), compete=self.config.compete)
