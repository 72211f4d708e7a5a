"""Frozen features for learners: computed by a process that loads no plugin, handed on as files.

A learner that could open the cache would read the features of images that are not due.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clgym.files import writing
from clgym.gym.plan import ResolvedRun
from clgym.messages import FillFeatures, RowGroup, Start

__all__ = ["FeatureFiller", "FeatureFiles"]


class FeatureFiller(Protocol):
    """Has the process that completes the cache."""

    def fill_features(self, message: FillFeatures) -> None:
        """Compute frozen features that the cache lacks."""
        ...


@dataclass(frozen=True)
class FeatureFiles:
    """Frozen features of a run's images, if its strategy needs them."""

    run: ResolvedRun
    filler: FeatureFiller
    start: Callable[[], Start]
    """Returns the message that starts the strategy, which names the images."""

    def compute(
        self,
        groups: tuple[RowGroup, ...],
        rows: np.ndarray,
        where: np.ndarray,
        to: Path | None = None,
    ) -> Path | None:
        """Compute the features of rows that the cache lacks.

        Args:
            groups: Groups of rows.
            rows: Row numbers, int64 [n].
            where: Index of each row's group, int64 [n].
            to: File to which the features of all these rows are written, float32 [n, width].

        Returns:
            ``to``; None if the strategy needs no features.

        Raises:
            BadOutput: The file cannot be written.
        """
        needs = self.run.needs
        if not needs.features or needs.backbone is None:
            return None
        if to is not None:
            with writing(to):
                to.parent.mkdir(parents=True, exist_ok=True)
        self.filler.fill_features(
            FillFeatures(
                start=self.start(),
                backbone=needs.backbone,
                rows=rows,
                where=where,
                groups=groups,
                to=to,
            )
        )
        return to
