"""An experience whose batches are given: what golden files prescribe instead of an order."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clgym.strategy import TrainBatch


class GivenExperience:
    """The same batches in every pass; reports are kept.

    Attributes:
        losses: One per step, as reported.
    """

    single_pass, task, min_batch = False, None, 1

    def __init__(self, batches: Sequence[TrainBatch], index: int, classes: Sequence[int]) -> None:
        self.given, self.index = list(batches), index
        self.classes, self.columns = tuple(classes), max(classes) + 1
        self.losses: list[float] = []
        if self.given:
            self.pixels = torch.cat([batch.images for batch in self.given])
            self.labels = torch.cat([batch.labels for batch in self.given])

    def __len__(self) -> int:
        return sum(map(len, self.given))

    def to_float(self, pixels: Tensor) -> Tensor:
        return pixels

    def steps(self, size: int) -> int:
        return len(self.given)

    def batches(self, size: int, *, start: int = 0, **_: Any) -> Iterator[TrainBatch]:
        yield from self.given[start:]

    def generator(self, *name: str, epoch: int = 0, step: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(epoch)

    @property
    def loss(self) -> float:
        """Loss of the last step, as a strategy sets it."""
        return self.losses[-1]

    @loss.setter
    def loss(self, loss: Tensor) -> None:
        self.losses.append(float(loss))

    def report(self, **event: Any) -> None:
        if "loss" in event:
            self.losses.append(event["loss"])

    def safe_point(self) -> None: ...


def tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor; real numbers in torch's default type."""
    found = torch.from_numpy(np.array(array))
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found


def session_of(golden: Any, index: int, x: str, y: str) -> GivenExperience:
    """Session ``index`` of a file, with batches named by formats of ``index`` and a number."""
    count = golden.count(x.format(index, ""))
    batches = [
        TrainBatch(tensor(golden[x.format(index, i)]), tensor(golden[y.format(index, i)]))
        for i in range(count)
    ]
    first, size = sizes_before(golden, index)
    return GivenExperience(batches, index, range(first, first + size))


def sizes_before(golden: Any, index: int) -> tuple[int, int]:
    """Number of classes before session ``index``, and in it."""
    name = next(k for k in ("classes_per_task", "classes_per_session") if k in golden)
    sizes = golden[name].tolist()
    return sum(sizes[:index]), sizes[index]


def near(found: Any, wanted: np.ndarray, share: float = 1e-8) -> None:
    """Equal within a share of the greatest magnitude."""
    found = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=share * max(np.abs(wanted).max(), 1e-15))


def moved(found: Tensor, wanted: np.ndarray, before: np.ndarray, share: float = 1e-7) -> None:
    """Equal within a share of the greatest movement."""
    atol = share * max(np.abs(wanted - before).max(), 1e-9 * np.abs(wanted).max())
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=atol)
