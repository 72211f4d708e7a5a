"""The rows of one experience as an Avalanche dataset, for code that reads one sample at a time."""

from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_classification_dataset as as_dataset,
)
from torch import Tensor

from clgym.data.memory import Memory
from clgym.errors import OutOfReach
from clgym.strategy import Experience

__all__ = ["Rows", "dataset_of"]


class Rows:
    """Samples (image, column) of an experience; afterwards of those rows that the memory keeps.

    The images of the experience belong to the gym, which takes them away when the experience is
    over. `keep` says which rows live on, and at which places of the memory.
    """

    def __init__(self, experience: Experience) -> None:
        """Show the rows of ``experience``."""
        self.index = experience.index
        self.targets: list[int] = experience.labels.tolist()
        self.memory: Memory | None = None
        self.places: dict[int, int] = {}
        self._experience: Experience | None = experience
        self._floats: Tensor | None = None

    def __len__(self) -> int:
        """Count the rows, those out of reach included: Avalanche addresses them by number."""
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """One sample: float [C, H, W] in [0, 1] and its column.

        Raises:
            OutOfReach: the experience is over and the row was not kept.
        """
        row = int(row)
        return self._image(row), self.targets[row]

    def _image(self, row: int) -> Tensor:
        if self.memory is not None:
            if row not in self.places:
                raise OutOfReach(
                    expected="rows of the present experience, or of the declared memory",
                    found=f"row {row} of experience {self.index}, which is over",
                    fix="Keep samples in a buffer that the strategy's memory counts",
                )
            return self.memory["images"][self.places[row]]
        assert self._experience is not None  # noqa: S101
        if self._floats is None:
            self._floats = self._experience.to_float(self._experience.pixels)
        return self._floats[row]

    def keep(self, memory: Memory, places: dict[int, int]) -> None:
        """End the experience: from now on only the rows in ``places`` can be read."""
        self.memory, self.places = memory, places
        self._experience = self._floats = None


def dataset_of(experience: Experience) -> AvalancheDataset[Any]:
    """Samples (image, column, task id) as Avalanche's plugins and buffers want them."""
    rows: Any = Rows(experience)
    return as_dataset(rows, targets=rows.targets, task_labels=experience.task or 0)
