"""Keeps statistics that no prediction depends on, under a budget in bytes."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from clgym.strategy import Batch, Config, Experience, Needs, Strategy, StreamInfo


@dataclass(frozen=True)
class SumsConfig(Config):
    """Options of `Sums`."""

    budget: Annotated[int, Ge(0)] = 4000
    """Number of bytes that it declares to store."""


class Sums(Strategy[SumsConfig]):
    """One parameter a class, and 500 statistics beside them."""

    @property
    def needs(self) -> Needs:
        """The budget."""
        return Needs(memory_bytes=self.config.budget)

    def setup(self, info: StreamInfo) -> None:
        """Begin with zeros."""
        super().setup(info)
        self.weights, self.statistics = torch.zeros(10), torch.zeros(500)

    def train(self, experience: Experience) -> None:
        """Add pixels up."""
        for batch in experience.batches(100):
            self.statistics[experience.index] += batch.images.sum()

    def predict(self, batch: Batch) -> Tensor:
        """Zeros, one a class that was seen."""
        logits = batch.images.flatten(1).sum(1, keepdim=True) * self.weights[None]
        return logits[:, : 2 * int((self.statistics != 0).sum())]
