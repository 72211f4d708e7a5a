"""Streams that begin with a learning stream: what they have of it, and that they are one piece."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clgym.errors import BadStream
from clgym.scenario import Step, Stream

if TYPE_CHECKING:
    from clgym.messages import ExperienceOutline

__all__ = ["AfterLearning"]


@dataclass(frozen=True, eq=False)
class AfterLearning:
    """A plan of a learning stream and of what comes after it; two are equal if their plans are."""

    name: str
    learning: Stream

    setting = ""
    gives_task_ids = False

    def __len__(self) -> int:
        """Count the experiences, and the parts of what comes after them."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        raise NotImplementedError

    def outline(self) -> "list[ExperienceOutline]":
        """Content of each experience, and of each part of what comes after them."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        """Say whether both plan the same."""
        return isinstance(other, type(self)) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash the plan."""
        return hash(self.digest)

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
        """Classes seen once experience ``index``, or the part after all of them, is over."""
        return self.learning.columns_after(min(index, len(self.learning) - 1))

    def measured_after(self, index: int) -> list[int]:
        """Which experiences are scored after experience ``index``."""
        return self.learning.measured_after(index)

    def on_validation(self) -> Any:
        """Nothing is held out of what comes after learning.

        Raises:
            BadStream: always.
        """
        raise BadStream(
            expected="a stream with held-out rows in every part",
            found=f"{self.name}, whose second phase has none",
            fix="Tune the learner on a class-incremental stream",
        )

    def part(self, first: int, end: int) -> Any:
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
