"""A stream of two phases: classes are learned in groups, then their images are corrupted.

First a learning stream, scored as every learning stream is; then unlabelled batches over the test
images of what was learned, each answer scored as it is given.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clgym.errors import BadStream
from clgym.scenario import Step, Stream
from clgym.streams.adaptation import AdaptationStream

if TYPE_CHECKING:
    from clgym.messages import ExperienceOutline

__all__ = ["TwoPhases"]


@dataclass(frozen=True, eq=False)
class TwoPhases:
    """A plan of both phases; two are equal if their plans are."""

    name: str
    learning: Stream
    shift: AdaptationStream
    """Adaptation stream of the second phase, with the class indices of the learning phase."""

    setting = "learn-then-shift"
    gives_task_ids = False

    def __len__(self) -> int:
        """Count experiences and segments."""
        return len(self.learning) + len(self.shift)

    def __eq__(self, other: object) -> bool:
        """Say whether both plan the same."""
        return isinstance(other, TwoPhases) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash the plan."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        parts = f"{self.setting} {self.learning.digest} {self.shift.digest}"
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def sources(self) -> tuple[str, ...]:
        """Source names."""
        return self.learning.sources

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Fingerprint of each source."""
        return self.learning.fingerprints

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of what reaches the learner."""
        return self.learning.image_shape

    @property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """For each source the column of each of its classes."""
        return self.learning.columns

    @property
    def steps(self) -> tuple[Step, ...]:
        """What each experience of the learning phase consists of."""
        return self.learning.steps

    @property
    def class_order(self) -> tuple[str, ...]:
        """Class names by column."""
        return self.learning.class_order

    @property
    def single_pass(self) -> bool:
        """Whether training rows may be seen once only."""
        return self.learning.single_pass

    def columns_after(self, index: int) -> int:
        """Classes seen once experience or segment ``index`` is over."""
        return self.learning.columns_after(min(index, len(self.learning) - 1))

    def measured_after(self, index: int) -> list[int]:
        """Which experiences are scored after experience ``index``."""
        return self.learning.measured_after(index)

    def outline(self) -> "list[ExperienceOutline]":
        """What each experience, then each segment, brings; the latter without labels."""
        return [*self.learning.outline(), *self.shift.outline()]

    def on_validation(self) -> "TwoPhases":
        """Nothing is held out of the second phase.

        Raises:
            BadStream: always.
        """
        raise BadStream(
            expected="a stream with held-out rows in every part",
            found=f"{self.name}, whose second phase is scored while it is adapted to",
            fix="Tune the learner on a class-incremental stream, the method on corruptions",
        )

    def part(self, first: int, end: int) -> "TwoPhases":
        """The whole only.

        Raises:
            BadStream: a part is asked for.
        """
        if (first, end) == (0, len(self)):
            return self
        raise BadStream(
            expected=f"the whole of {self.name}",
            found=f"a part of it, {first} to {end}",
            fix="Use a class-incremental stream for that",
        )
