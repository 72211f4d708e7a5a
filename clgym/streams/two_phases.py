"""A stream of two phases: classes are learned in groups, then their images are corrupted.

First there is a learning stream, scored like every learning stream; then there are unlabelled
batches of test images of the learned classes, where each prediction is scored when it is made.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clgym.streams.adaptation import AdaptationStream
from clgym.streams.after_learning import AfterLearning

if TYPE_CHECKING:
    from clgym.messages import ExperienceOutline

__all__ = ["TwoPhases"]


@dataclass(frozen=True, eq=False)
class TwoPhases(AfterLearning):
    """Plan of a learning stream and of the adaptation stream that follows it."""

    shift: AdaptationStream
    """Adaptation stream of the second phase, with the class indices of the learning phase."""

    setting = "learn-then-shift"

    def __len__(self) -> int:
        """Count experiences and segments."""
        return len(self.learning) + len(self.shift)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        parts = f"{self.setting} {self.learning.digest} {self.shift.digest}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def outline(self) -> "list[ExperienceOutline]":
        """Content of each experience, then of each segment, whose images have no labels."""
        return [*self.learning.outline(), *self.shift.outline()]
