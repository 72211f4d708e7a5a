"""Classes arrive in groups, and every training image may be seen once only (single pass)."""

from collections.abc import Sequence
from dataclasses import replace

from clgym.data.sources import Source
from clgym.scenario import Stream

from .class_incremental import ClassIncremental

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


class Online(ClassIncremental):
    """A class-incremental stream whose second epoch is refused."""

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """The class-incremental plan, single-pass; see `Scenario.stream`."""
        return replace(super().stream(sources, order_seed), single_pass=True)
