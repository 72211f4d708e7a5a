"""The rows of one experience as an Avalanche dataset, for code that reads one sample at a time."""

from typing import Any

import torch
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
    """Samples (image, class index) of an experience; when it is over, of rows in the memory.

    The images of the experience belong to the gym, which takes them away when the experience is
    over. `keep` says which rows stay, and at which places of the memory.
    """

    def __init__(self, experience: Experience) -> None:
        """Show the rows of ``experience``."""
        self.index = experience.index
        self.targets: list[int] = experience.labels.tolist()
        self.scale = float(experience.to_float(torch.ones(1)))
        self.memory: Memory | None = None
        self.places: dict[int, int] = {}
        self._experience: Experience | None = experience
        self._floats: Tensor | None = None

    def __len__(self) -> int:
        """Count the rows, those out of reach included: Avalanche addresses them by number."""
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """One sample: float [C, H, W] in [0, 1] and its class index.

        Raises:
            OutOfReach: The experience is over and the row was not kept.
        """
        row = int(row)
        if self.memory is not None:
            return self.pixels(row).float().mul_(self.scale), self.targets[row]
        if self._floats is None:
            assert self._experience is not None
            self._floats = self._experience.to_float(self._experience.pixels)
        return self._floats[row], self.targets[row]

    def pixels(self, row: int) -> Tensor:
        """One image as it is stored, uint8 [C, H, W].

        Raises:
            OutOfReach: The experience is over and the row was not kept.
        """
        if self._experience is not None:
            return self._experience.pixels[row]
        if self.memory is None or row not in self.places:
            raise OutOfReach(
                expected="rows of the present experience, or of the declared memory",
                found=f"row {row} of experience {self.index}, which is over",
                fix="Keep samples in a buffer that the strategy's memory counts",
            )
        return self.memory["pixels"][self.places[row]]

    def keep(self, memory: Memory, places: dict[int, int]) -> None:
        """End the experience: from now on only the rows in ``places`` can be read."""
        self.memory, self.places = memory, places
        self._experience = self._floats = None


def dataset_of(rows: Rows, tasks: list[int]) -> AvalancheDataset[Any]:
    """Samples (image, class index, task id) as a dataset for Avalanche's plugins and buffers."""
    source: Any = rows
    alike = len(set(tasks)) == 1
    return as_dataset(source, targets=rows.targets, task_labels=tasks[0] if alike else tasks)
