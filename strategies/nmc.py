"""Nearest class mean: no training, one mean of normalised features per class.

Janson, Zhang, Aljundi, Elhoseiny, "A Simple Baseline that Questions the Use of Pretrained-Models in
Continual Learning", 2022, https://arxiv.org/abs/2210.04428. Each feature is scaled to unit length,
then averaged; the mean is not scaled again. Prediction: the class whose mean is nearest, Euclidean.
Sums and counts are kept, so batches, sessions and classes may come in any order, more than once.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.config import Range
from clgym.strategy import Batch, Config, Experience, Strategy, StreamInfo


@dataclass(frozen=True)
class NMCConfig(Config):
    """Options of `NMC`."""

    batch_size: Annotated[int, Range(1)] = 256
    """Images a batch; changes nothing but memory."""


class NMC(Strategy):
    """Nearest class mean on the pixels."""

    Config = NMCConfig

    def setup(self, info: StreamInfo) -> None:
        """Begin with no class."""
        super().setup(info)
        self.sums: Tensor | None = None
        self.counts = torch.zeros(0, device=info.device, dtype=torch.float64)

    def train(self, experience: Experience) -> None:
        """Add every image once to its class's sum."""
        done = 0
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            assert batch.labels is not None
            self.update(self.features(batch.images), batch.labels, experience.columns)
            done += len(batch)
            experience.report(images=done, step=done, steps=len(experience))

    def features(self, images: Tensor) -> Tensor:
        """What is averaged: the pixels, float [n, d]."""
        return images.flatten(1)

    def update(self, features: Tensor, labels: Tensor, columns: int) -> None:
        """Count a batch of raw features, float [n, d], into the means of their classes.

        Sums are kept in float64: their order then moves the means by less than 1e-12.
        """
        unit = F.normalize(features.double())
        if self.sums is None:
            self.sums = unit.new_zeros(0, unit.shape[1])
        self.sums = F.pad(self.sums, (0, 0, 0, columns - len(self.sums)))
        self.counts = F.pad(self.counts, (0, columns - len(self.counts)))
        self.sums.index_add_(0, labels, unit)
        self.counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))

    @property
    def means(self) -> Tensor:
        """Class means, float64 [columns, d]; NaN rows for classes without an image."""
        assert self.sums is not None
        return self.sums / self.counts[:, None]

    def predict(self, batch: Batch) -> Tensor:
        """Negative distance to each mean; ties go to the lower column, unseen classes to -inf."""
        return self.scores(self.features(batch.images))

    def scores(self, features: Tensor) -> Tensor:
        """Negative Euclidean distances of raw features to the means, float64 [n, columns]."""
        distances = torch.cdist(F.normalize(features.double()), self.means)
        return (-distances).nan_to_num(nan=-torch.inf)

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore sums and counts."""
        device = self.info.device
        self.sums = None if state["sums"] is None else state["sums"].to(device)
        self.counts = state["counts"].to(device)
