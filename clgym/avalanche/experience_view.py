"""An experience as Avalanche's plugins know it, without the stream around it."""

from typing import Any

from clgym.avalanche.rows import Rows, dataset_of
from clgym.strategy import Experience

__all__ = ["ExperienceView"]


class ExperienceView:
    """Attributes of an Avalanche experience that plugins read, for the present and past.

    There is no ``origin_stream`` and no ``future_classes``: a plugin that looks for them fails.

    Attributes:
        rows: The samples behind `dataset`; None until it is first read.
        replaced: Whether a plugin has put another dataset in place (BiC sets rows aside).
    """

    def __init__(self, experience: Experience) -> None:
        """Show ``experience``."""
        self._experience = experience
        self._dataset: Any = None
        self.rows: Rows | None = None
        self.replaced = False
        self.current_experience = experience.index
        self.classes_in_this_experience = sorted(experience.classes)
        self.classes_seen_so_far = list(range(experience.columns))
        self.previous_classes = sorted(set(range(experience.columns)) - set(experience.classes))
        self.task_label = experience.task or 0
        self.task_labels = [self.task_label]
        self.benchmark: Any = None

    @property
    def dataset(self) -> Any:
        """The rows as a dataset of single samples, which is slow; made when it is first read."""
        if self._dataset is None:
            self.rows = Rows(self._experience)
            tasks = self._experience.task_of[self._experience.labels].tolist()
            self._dataset = dataset_of(self.rows, tasks)
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Any) -> None:
        self._dataset, self.replaced = dataset, True

    def logging(self) -> "ExperienceView":
        """Return the view itself: there is no copy with more access, for which Avalanche asks."""
        return self
