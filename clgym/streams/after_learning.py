"""Common base of streams that begin with a learning stream and cannot be divided."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clgym.errors import BadStream
from clgym.scenario import Step, Stream

if TYPE_CHECKING:
    from clgym.messages import ExperienceOutline

__all__ = ["AfterLearning"]


@dataclass(frozen=True, eq=False)
class AfterLearning:
    """A plan of a learning stream and of a second phase; two are equal if their plans are."""

    name: str
    learning: Stream

    setting = ""
    gives_task_ids = False

    def __len__(self) -> int:
        """Count the experiences, and the parts of the second phase."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        raise NotImplementedError

    def outline(self) -> "list[ExperienceOutline]":
        """Content of each experience, and of each part of the second phase."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        """Whether both plans are equal."""
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
        """Channels, height and width of the images that the learner receives."""
        return self.learning.image_shape

    @property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """For each source the class index of each of its classes."""
        return self.learning.columns

    @property
    def steps(self) -> tuple[Step, ...]:
        """Experiences of the learning phase."""
        return self.learning.steps

    @property
    def class_order(self) -> tuple[str, ...]:
        """Class names by class index."""
        return self.learning.class_order

    @property
    def single_pass(self) -> bool:
        """Whether training rows may be read only once."""
        return self.learning.single_pass

    def columns_after(self, index: int) -> int:
        """Number of classes seen after experience, or part of the second phase, ``index``."""
        return self.learning.columns_after(min(index, len(self.learning) - 1))

    def measured_after(self, index: int) -> list[int]:
        """Which experiences are scored after experience ``index``."""
        return self.learning.measured_after(index)

    def on_validation(self) -> Any:
        """Raise, since no rows of the second phase are held out.

        Raises:
            BadStream: Always.
        """
        raise BadStream(
            expected="a stream with held-out rows in every part",
            found=f"{self.name}, whose second phase has none",
            fix="Tune the learner on a class-incremental stream",
        )

    def part(self, first: int, end: int) -> Any:
        """Return the stream if the range covers all of it, since it cannot be divided.

        Raises:
            BadStream: The range is a part of the stream.
        """
        if (first, end) == (0, len(self)):
            return self
        raise BadStream(
            expected=f"the whole of {self.name}",
            found=f"a part of it, {first} to {end}",
            fix="Use a class-incremental stream for that",
        )
