"""The label mix shifts: classes arrive in groups, in Dirichlet chunks, or under a Zipf prior.

The streams of LAME (Boudiaf et al., CVPR 2022): i.i.d. or not, balanced or with a prior shift, on
the clean test images or under a mixture of corruptions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from clgym.data.sources import Source
from clgym.scenario import Seed
from clgym.streams import orders
from clgym.streams.adaptation import (
    AdaptationConfig,
    AdaptationScenario,
    AdaptationStream,
    Domain,
    Segment,
    stream_of,
)
from clgym.streams.arrangement import labels_of, rows_of

from .corruptions import corruption_names

PRESETS = {
    "label-shift-digits": {"source": "digits", "batch_size": 64, "order": "grouped"},
    "label-shift-cifar10": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "batch_size": 64,
        "order": "grouped",
        "arrival": "published",
    },
    "label-shift-cifar100": {
        "source": "cifar100",
        "batch_size": 64,
        "order": "grouped",
        "arrival": "published",
    },
}
_LONGEST = 50_000


@dataclass(frozen=True)
class LabelShiftConfig(AdaptationConfig):
    """Options of `LabelShift`."""

    order: Literal["iid", "grouped", "sorted", "dirichlet", "by-domain"] = "iid"  # type: ignore[assignment]
    """Order of the images: shuffled; class by class by first appearance or by number; Dirichlet
    chunks; or corruption by corruption by first appearance."""
    prior: Literal["uniform", "zipf"] = "uniform"
    """Class distribution: that of the source, or a Zipf prior drawn with replacement."""
    corruptions: str = "none"
    """Corruptions, of which each image shows one at random: none, or a set or list as in the
    corruption streams."""
    severities: tuple[Annotated[int, Ge(1), Le(5)], ...] = (1, 2, 3, 4, 5)
    """Severities from 1 to 5, of which each image shows one at random."""
    corruption_seed: Seed = 0
    """Seed of the random numbers of the corruptions."""
    hsv: Literal["exact", "scaled"] = "exact"
    """How brightness and saturate change colours: through HSV and back as in the published code, or
    by scaling channels, which is one grey level off in 0.2 to 3 % of the values. On grey images
    both are the same."""


class LabelShift(AdaptationScenario):
    """One segment, at most 50,000 images long."""

    Config = LabelShiftConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> AdaptationStream:
        """Shuffle, draw by the prior, group; see `Scenario.stream`."""
        config = self.config
        seed = config.order_seed if order_seed is None else order_seed
        domains = self._domains()
        labels = labels_of(domains[0], sources)
        rows = rows_of(domains[0], sources, config, seed, len(labels))
        if config.prior == "zipf":
            rows = orders.zipf_rows(rows, labels, seed)
        shown = np.random.RandomState(seed).randint(len(domains), size=len(labels))
        place = np.arange(len(rows))
        if config.order == "grouped":
            place = orders.grouped(place, labels[rows])
        elif config.order == "by-domain":
            place = orders.grouped(place, shown[rows])
        elif config.order == "sorted":
            place = orders.sorted_by_label(place, labels[rows])
        elif config.order == "dirichlet":
            place = orders.dirichlet(place, labels[rows], config.delta, seed)
        rows = rows[place][:_LONGEST]
        return stream_of(self, sources, domains, [Segment(config.order, shown[rows], rows)], home=0)

    def _domains(self) -> list[Domain]:
        config = self.config
        if config.corruptions == "none":
            return [Domain("clean", 0)]
        return [
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
            for severity in config.severities
        ]
