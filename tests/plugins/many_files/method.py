"""The strategy."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from clgym.strategy import Batch, Config, Experience, Strategy, StreamInfo

from .arithmetic import brightness


@dataclass(frozen=True)
class BrightnessConfig(Config):
    """Options of `Brightness`."""

    scale: Annotated[float, Gt(0)] = 1.0
    """Factor of the distance."""


class Brightness(Strategy):
    """Nearest mean brightness."""

    Config = BrightnessConfig
    DETERMINISTIC = True

    def setup(self, info: StreamInfo) -> None:
        """Begin with no class."""
        super().setup(info)
        self.means = torch.zeros(0, device=info.device)

    def train(self, experience: Experience) -> None:
        """One mean a class."""
        means = torch.full((experience.columns,), torch.inf, device=self.info.device)
        means[: len(self.means)] = self.means
        for batch in experience.batches(len(experience)):
            assert batch.labels is not None
            light = brightness(batch.images)
            for label in batch.labels.unique().tolist():
                means[label] = light[batch.labels == label].mean()
        self.means = means

    def predict(self, batch: Batch) -> Tensor:
        """Distances to the means."""
        return -self.config.scale * (brightness(batch.images)[:, None] - self.means).abs()
