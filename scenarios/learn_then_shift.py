"""Classes are learned group by group; then corruptions of their test images come without labels.

Continual learning and test-time adaptation on one stream: what is learned incrementally, with
labels, has to answer under a look that nobody showed it. The first phase is scored as every
class-incremental stream is, the second one online; labels of the second never leave the gym.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from clgym.data.sources import Source
from clgym.scenario import Seed
from clgym.streams import orders
from clgym.streams.adaptation import AdaptationStream, Arrival, Domain, Order, Segment, stream_of
from clgym.streams.arrangement import rows_by_segment
from clgym.streams.two_phases import TwoPhases

from .class_incremental import ClassIncremental, ClassIncrementalConfig
from .corruptions import GRADUAL, corruption_names

PRESETS = {
    "learn-then-shift-digits": {
        "source": "digits",
        "increments": [2],
        "memory_size": 100,
        "network": "slim-resnet18",
        "batch_size": 64,
    },
    "learn-then-shift-cifar10-v2": {
        "source": "cifar10",
        "increments": [2],
        "memory_size": 500,
        "network": "resnet18",
    },
    "learn-then-shift-cifar100-v2": {
        "source": "cifar100",
        "increments": [10],
        "memory_size": 2000,
        "network": "resnet18",
    },
    # These keep the images that they had before there was a v2.
    "learn-then-shift-cifar10": {
        "source": "cifar10",
        "increments": [2],
        "memory_size": 500,
        "network": "resnet18",
        "hsv": "scaled",
    },
    "learn-then-shift-cifar100": {
        "source": "cifar100",
        "increments": [10],
        "memory_size": 2000,
        "network": "resnet18",
        "hsv": "scaled",
    },
}


@dataclass(frozen=True)
class LearnThenShiftConfig(ClassIncrementalConfig):
    """Options of `LearnThenShift`: those of the learning phase, then those of the shift."""

    corruptions: str = "no-frost"
    """Corruptions in order of arrival: standard (15), no-frost (the 14 that need no texture
    photographs), extra (4), or names separated by commas."""
    severity: Annotated[int, Ge(1), Le(5)] = 5
    """Severity of the corruptions, from 1 to 5; gradual shifts rise to 5 and fall again."""
    shift: Literal["continual", "gradual"] = "continual"
    """Protocol of the shift: one corruption after another, or severities 1 to 5 to 1 of each."""
    batch_size: Annotated[int, Ge(1)] = 200
    """Batch size of the shift."""
    images: Annotated[int, Ge(1)] | None = None
    """Number of images per corruption, drawn at random; none: all test images of the learned
    classes."""
    order: Order = "iid"
    """Order of the images within a corruption: shuffled, sorted by class, or Dirichlet chunks."""
    delta: Annotated[float, Gt(0)] = 0.1
    """Concentration of the Dirichlet order; smaller values give longer runs of few classes."""
    shift_seed: Seed = 1
    """Seed of the image order in the shift."""
    arrival: Arrival = "withheld"
    """Order of the images over the segments of the shift. withheld: a fresh one in every segment,
    which the learner cannot compute, and batches that cross the ends of segments; published: the
    same in every segment, computed from the seed, and a smaller last batch in each."""
    corruption_seed: Seed = 0
    """Seed of the random numbers of the corruptions."""
    hsv: Literal["exact", "scaled"] = "exact"
    """How brightness and saturate change colours: through HSV and back as in the published code, or
    by scaling channels, which is one grey level off in 0.2 to 3 % of the values. On grey images
    both are the same."""


class LearnThenShift(ClassIncremental):
    """A class-incremental stream with a shift behind it."""

    Config = LearnThenShiftConfig
    CHECK_CONFIG = {"corruptions": "fog"}

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> TwoPhases:  # type: ignore[override]
        """Cut both phases; see `Scenario.stream`. The order seed is the classes'."""
        learning = super().stream(sources, order_seed)
        tested = np.concatenate([step.test for step in learning.steps])
        shift = self._shift(sources, np.sort(tested))
        return TwoPhases(self.name, learning, replace(shift, class_order=learning.class_order))

    def _shift(self, sources: Sequence[Source], tested: np.ndarray) -> AdaptationStream:
        """The rows that measured the learning phase, under one corruption after another."""
        config = self.config
        rows = tested[orders.shuffled(len(tested), config.shift_seed, config.images)]
        severities = GRADUAL if config.shift == "gradual" else (config.severity,)
        domains = [
            Domain(
                f"{name}-{severity}",
                0,
                "test",
                name,
                severity,
                config.corruption_seed,
                hsv=config.hsv,
            )
            for name in corruption_names(config.corruptions)
            for severity in severities
        ]
        own = rows_by_segment(rows, sources[0].test.labels, config, config.shift_seed, len(domains))
        segments = [
            Segment(domain.name, np.full(len(rows), number), own[number])
            for number, domain in enumerate(domains)
        ]
        return stream_of(self, sources, domains, segments, home=None)
