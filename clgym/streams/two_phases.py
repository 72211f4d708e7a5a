"""A stream of two phases: classes are learned in groups, then their images are corrupted.

First a learning stream, scored as every learning stream is; then unlabelled batches over the test
images of what was learned, each answer scored as it is given.
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
    """A plan of both phases."""

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
        """What each experience, then each segment, brings; the latter without labels."""
        return [*self.learning.outline(), *self.shift.outline()]
