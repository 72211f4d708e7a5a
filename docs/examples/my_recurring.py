"""Rotations that come again: every angle is visited several times, each time with other images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from clgym.data.sources import Source
from clgym.scenario import Scenario, ScenarioConfig, Step, Stream, Transform, split_validation

PRESETS = {"recurring-digits": {"source": "digits", "memory_size": 100}}


@dataclass(frozen=True)
class RecurringConfig(ScenarioConfig):
    """Options of the scenario."""

    angles: tuple[Annotated[float, Ge(0), Le(360)], ...] = (0.0, 45.0, 90.0)
    """Angles in degrees, in the order of a round."""
    rounds: Annotated[int, Ge(1)] = 2
    """Number of rounds, each of which visits every angle once."""


class Recurring(Scenario):
    """Each round has its own training and test images, so that none comes twice at one angle."""

    Config = RecurringConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Plan the stream; the seed decides which images each round gets."""
        (source,), config = sources, self.config
        draw = np.random.RandomState(order_seed or 0)
        dealt = [
            [np.sort(part) for part in np.array_split(draw.permutation(count), config.rounds)]
            for count in (len(source.train.labels), len(source.test.labels))
        ]
        steps = []
        for rows, test in zip(*dealt, strict=True):
            for angle in config.angles:
                train, valid = split_validation(rows, source.train.labels[rows], config.validation)
                classes = tuple(np.unique(source.train.labels[train]).tolist())
                turned = Transform("rotate", angle) if angle else None
                steps.append(Step(train, test, classes, valid, transform=turned))
        height, width, channels = source.train.images.shape[1:]
        side = config.resize
        return Stream(
            name=self.name,
            setting="domain-incremental",
            sources=(source.name,),
            fingerprints=(source.fingerprint,),
            image_shape=(channels, side or height, side or width),
            columns=(tuple(range(len(source.classes))),),
            steps=tuple(steps),
            class_order=source.classes,
        )
