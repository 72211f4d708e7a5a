"""Replay at a rate: old samples take the places of new ones, so that a step costs what it cost.

Ibrahim et al., "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
TMLR 2024 (arXiv 2403.08763). From the second experience on a batch of B holds about ``rate * B``
old samples, a whole number of them in each step and the rate on average; batches and steps stay as
they are without replay. An old sample comes from a past experience drawn at random, and is the next
one in that experience's order. The whole of the past is at hand, as in the paper, so this is no
memory of a fixed size: the record says that past data were read.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.data.rate_replay import RateReplay
from clgym.strategy import Experience, Needs, StreamInfo

SPACE = {"rate": [0.01, 0.05, 0.1, 0.25, 0.5]}


@dataclass(frozen=True)
class RateReplayConfig(WrapperConfig):
    """Options of replay at a rate."""

    rate: Annotated[float, Ge(0), Le(0.99)] = 0.05
    """Share of old samples in a batch: 0.05 for weak shifts, 0.25 for strong ones, in the paper."""
    weighting: Literal["uniform", "size"] = "uniform"
    """Past experiences are drawn alike, or in proportion to their sizes."""


class RateReplayStrategy(Wrapper[RateReplayConfig]):
    """A base strategy whose batches hold a share of the past.

    Attributes:
        sizes: Rows of each experience that is over.
        pointers: The next row to replay of each of them.
    """

    @property
    def needs(self) -> Needs:
        """The rows of all earlier experiences."""
        return replace(self.base.needs, past_data=True)

    def setup(self, info: StreamInfo) -> None:
        """Set up the base; nothing is past."""
        super().setup(info)
        self.sizes: list[int] = []
        self.pointers: list[int] = []

    def train(self, experience: Experience) -> None:
        """Train the base on mixed batches."""
        past = sum(self.sizes)
        new = len(experience) - past
        batch = self.learner.config.batch_size
        steps = -(-new // batch)
        size = steps * batch if past else new
        mixed = experience.sampled(lambda epoch: self._rows(experience, epoch, new), size)
        try:
            self.base.train(mixed)
        finally:
            experience.images += mixed.images
        replay = self._mix(experience, self.learner.config.epochs, new)[1]
        self.sizes, self.pointers = replay.sizes, replay.pointers

    def _rows(self, experience: Experience, epoch: int, new: int) -> Tensor:
        """Rows of an epoch in the order of its batches."""
        return self._mix(experience, epoch + 1, new)[0]

    def _mix(self, experience: Experience, epochs: int, new: int) -> tuple[Tensor, RateReplay]:
        """Rows of the last of so many epochs, and where replay stands after it."""
        config, batch = self.config, self.learner.config.batch_size
        replay = RateReplay(config.rate, config.weighting)
        replay.sizes, replay.pointers = list(self.sizes), list(self.pointers)
        replay.begin(len(self.sizes), new)
        starts = np.cumsum([0, *self.sizes])
        rows: list[Any] = []
        for epoch in range(epochs):
            order = torch.randperm(new, generator=experience.generator("new order", epoch=epoch))
            draws = experience.generator("replay at a rate", epoch=epoch)
            rows, replay.used = [], 0
            for _step in range(-(-new // batch)):
                chance, *picks = torch.rand(1 + batch, generator=draws).double().tolist()
                source, row = replay.batch(batch, chance, picks)
                own = source == len(self.sizes)
                row[own] = order.numpy()[row[own]]
                rows.append(starts[source] + row)
        return torch.from_numpy(np.concatenate(rows)), replay
