"""A stream of two phases: classes are learned in groups, then some of them must be forgotten.

First there is a learning stream, scored like every learning stream; then there are requests, one
after another, to forget the training rows of a class or of an experience.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from clgym.errors import BadStream
from clgym.scenario import Stream
from clgym.streams.after_learning import AfterLearning

if TYPE_CHECKING:
    from clgym.messages import ExperienceOutline

__all__ = ["Deletion", "DeletionStream", "Forgets", "deletions_of"]

Forgets = Literal["class", "experience"]


@dataclass(frozen=True)
class Deletion:
    """A request to forget the rows of some classes."""

    kind: Forgets
    number: int
    """Class index or experience, from 0."""
    classes: tuple[int, ...]
    """Class indices of the rows, ascending."""
    name: str
    """Name of the request: that of the class, or the number of the experience from 1."""


@dataclass(frozen=True, eq=False)
class DeletionStream(AfterLearning):
    """Plan of a learning stream and of the requests that follow it."""

    deletions: tuple[Deletion, ...]
    """Requests of the second phase, in order."""

    setting = "deletion"

    def __len__(self) -> int:
        """Count experiences and requests."""
        return len(self.learning) + len(self.deletions)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        requests = [[d.kind, d.number, d.classes] for d in self.deletions]
        parts = f"{self.setting} {self.learning.digest} {json.dumps(requests)}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def outline(self) -> "list[ExperienceOutline]":
        """Content of each experience, and the classes that each request removes."""
        # imported here, since using a stream does not need pydantic
        from clgym.messages import SegmentOutline

        requests = [
            SegmentOutline(name=f"forget {d.name}", classes=len(d.classes), train=0, test=0)
            for d in self.deletions
        ]
        return [*self.learning.outline(), *requests]

    def forgotten(self, count: int) -> tuple[int, ...]:
        """Class indices that are forgotten after ``count`` requests, ascending."""
        return tuple(sorted({c for d in self.deletions[:count] for c in d.classes}))

    def rows(self, labels: Sequence[np.ndarray], classes: Sequence[int]) -> list[np.ndarray]:
        """Training rows of some classes, int64, by experience.

        Args:
            labels: Labels of the training split of each source.
            classes: Class indices.
        """
        found: list[np.ndarray] = []
        for step in self.steps:
            columns = np.array(self.columns[step.source])[labels[step.source][step.train]]
            found.append(step.train[np.isin(columns, list(classes))])
        return found


def deletions_of(stream: Stream, kind: Forgets, numbers: Sequence[int]) -> tuple[Deletion, ...]:
    """Requests to forget classes or experiences, in the order of their numbers.

    Args:
        stream: The learning stream.
        kind: What the numbers count: classes or experiences.
        numbers: Class indices in order of arrival, or experiences, from 0.

    Raises:
        BadStream: A class or experience does not exist or is named twice, or nothing would remain;
            or training labels are wrong on purpose, so that a class is not one set of rows.
    """
    if any(step.labels is not None for step in stream.steps):
        raise BadStream(
            expected="true training labels on a stream with requests to forget",
            found="some labels that are wrong on purpose",
            fix="Leave Step.labels out",
        )
    last = len(stream) - 1
    count = len(stream) if kind == "experience" else stream.columns_after(last)
    known = len(set(numbers)) == len(numbers) and all(0 <= n < count for n in numbers)
    if not known or not 0 < len(numbers) < count:
        raise BadStream(
            expected=f"different numbers from 0 to {count - 1} to forget, fewer than {count}",
            found=" ".join(map(str, numbers)) or "none",
            fix=f"Give --numbers the {'classes' if kind == 'class' else 'experiences'} to forget",
        )
    if kind == "class":
        names = [f"class {stream.class_order[n]}" for n in numbers]
        return tuple(Deletion(kind, n, (n,), name) for n, name in zip(numbers, names, strict=True))
    return tuple(Deletion(kind, n, stream.steps[n].classes, f"experience {n + 1}") for n in numbers)
