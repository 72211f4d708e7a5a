"""Class-incremental streams with a long tail: class sizes fall by Zipf's law."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from clgym.data.sources import Source
from clgym.scenario import (
    Scenario,
    ScenarioConfig,
    Step,
    Stream,
    class_permutation,
    split_validation,
)

PRESETS = {"zipf-digits": {"source": "digits", "memory_size": 100}}


@dataclass(frozen=True)
class ZipfConfig(ScenarioConfig):
    """Options of the scenario."""

    exponent: Annotated[float, Ge(0)] = 1.0
    """Exponent s of Zipf's law: the class of rank r keeps the fraction r^-s of its rows."""
    group: Annotated[int, Ge(1)] = 2
    """Classes per experience."""


class Zipf(Scenario):
    """Classes in an order of the seed; the first that arrives is the largest."""

    Config = ZipfConfig
    CHECK_CONFIG = {"exponent": 0.5}

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """Plan the stream: largest classes first."""
        (source,), group = sources, self.config.group
        order = class_permutation(len(source.classes), order_seed)
        columns = np.argsort(order)  # place of each class in the order
        kept, own = self._kept(source, order), columns[source.train.labels]
        tested = columns[source.test.labels]
        steps = []
        for first in range(0, len(order), group):
            now = np.arange(first, min(first + group, len(order)))
            rows = kept[np.isin(own[kept], now)]
            train, valid = split_validation(rows, source.train.labels[rows], self.config.validation)
            test = np.flatnonzero(np.isin(tested, now))
            steps.append(Step(train, test, tuple(now.tolist()), valid))
        height, width, channels = source.train.images.shape[1:]
        side = self.config.resize
        return Stream(
            name=self.name,
            setting="class-incremental",
            sources=(source.name,),
            fingerprints=(source.fingerprint,),
            image_shape=(channels, side or height, side or width),
            columns=(tuple(columns.tolist()),),
            steps=tuple(steps),
            class_order=tuple(source.classes[c] for c in order),
        )

    def _kept(self, source: Source, order: list[int]) -> np.ndarray:
        """Training rows that remain, ascending; at least one of every class."""
        rows = [np.flatnonzero(source.train.labels == label) for label in order]
        counts = [len(r) * (rank + 1) ** -self.config.exponent for rank, r in enumerate(rows)]
        return np.sort(
            np.concatenate([r[: max(1, round(n))] for r, n in zip(rows, counts, strict=True)])
        )
