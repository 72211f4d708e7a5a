"""Classes arrive in groups, and every training image may be seen once only (single pass)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge

from clgym.data.sources import Source
from clgym.scenario import Stream

from .class_incremental import ClassIncremental, ClassIncrementalConfig

PRESETS = {
    "online-digits": {"source": "digits", "increments": [2], "memory_size": 100},
    "online-mnist": {"source": "mnist", "increments": [2], "memory_size": 200},
    "online-cifar100": {
        "source": "cifar100",
        "increments": [5],
        "network": "slim-resnet18",
        "memory_size": 2000,
    },
}


@dataclass(frozen=True)
class OnlineConfig(ClassIncrementalConfig):
    """Options of `Online`."""

    anytime: Annotated[int, Ge(0)] = 20
    """Number of moments, equally spaced by training images, at which all classes that have come are
    tested, for the accuracy at any time; 0: none."""


class Online(ClassIncremental):
    """A class-incremental stream whose second epoch is refused."""

    Config = OnlineConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """The class-incremental plan, single-pass; see `Scenario.stream`."""
        plan = super().stream(sources, order_seed)
        return replace(plan, single_pass=True, anytime=self.config.anytime)
