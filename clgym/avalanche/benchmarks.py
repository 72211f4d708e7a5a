"""A clgym stream as an ordinary Avalanche benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.scenarios.task_aware import with_task_labels
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_classification_dataset as as_dataset,
)
from torch import Tensor

from clgym.data.images import Images
from clgym.data.sources import Source, Split, load_source
from clgym.scenario import Step, Stream

__all__ = ["benchmark"]


def benchmark(stream: Stream, data_root: Path | None = None) -> Any:
    """Streams ``train`` and ``test``, and ``valid`` where the plan holds rows out.

    Samples are (image, column, task id): float [C, H, W] in [0, 1], and 0 for the task where the
    setting gives none. Images are gathered when a step is first read. Nothing is withheld.

    Args:
        stream: The plan.
        data_root: Data root of the sources; None means ``CLGYM_DATA``, else the user's data folder.

    Raises:
        MissingData: The files of a source do not exist.
    """
    sources = [load_source(name, data_root) for name in stream.sources]
    parts = {"train": "train", "test": "test", "valid": "valid"}
    if not any(len(step.valid) for step in stream.steps):
        del parts["valid"]
    datasets = {
        name: [_dataset(stream, sources, index, part) for index in range(len(stream))]
        for name, part in parts.items()
    }
    made: Any = with_task_labels(with_classes_timeline(benchmark_from_datasets(**datasets)))
    for experiences in made.streams.values():
        for experience in experiences:
            # Avalanche's heads index with it, which a set does not allow.
            found = sorted(experience.classes_in_this_experience)
            experience.classes_in_this_experience = found
    return made


def _dataset(stream: Stream, sources: list[Source], index: int, part: str) -> AvalancheDataset[Any]:
    step = stream.steps[index]
    source = sources[step.source]
    split = source.test if part == "test" else source.train
    numbers = getattr(step, part)
    columns = np.array(stream.columns[step.source])[split.labels[numbers]]
    if part == "train":
        columns = stream.training_labels(step, source)
    largest = max(one.max_value for one in sources)  # one range for all, as in the gym
    rows: Any = _StepRows(
        split, numbers, columns, step, stream.image_shape, (source.max_value, largest)
    )
    task = index if stream.gives_task_ids else 0
    return as_dataset(rows, targets=rows.targets, task_labels=task)


class _StepRows:
    """Samples of one step, gathered as a whole when the first is read."""

    def __init__(
        self,
        split: Split,
        numbers: np.ndarray,
        columns: np.ndarray,
        step: Step,
        shape: tuple[int, int, int],
        greatest: tuple[int, int],
    ) -> None:
        """``greatest``: the greatest pixel value of this source, and of all of the stream's."""
        self.targets: list[int] = columns.tolist()
        self._split, self._numbers, self._step = split, numbers, step
        self._shape, self._gain = shape, greatest[1] / greatest[0]
        self._scale = 1.0 / greatest[1]
        self._pixels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if self._pixels is None:
            self._pixels = self._gather()
        return self._pixels[row].float().mul_(self._scale), self.targets[row]

    def _gather(self) -> Tensor:
        stored, side = self._split.images.shape[1:3], self._shape[1]
        resized = None if tuple(stored) == self._shape[1:] else side
        channels, white = self._shape[0], round(1 / self._scale)
        cpu = torch.device("cpu")
        images = Images(self._split.path, resized, cpu, channels, self._gain, white)
        change = self._step.transform
        return images.gather(self._numbers, change and change.message)
