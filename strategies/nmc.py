"""Nearest class mean: no training, one mean of normalised features per class.

Janson, Zhang, Aljundi, Elhoseiny, "A Simple Baseline that Questions the Use of Pretrained-Models in
Continual Learning", 2022, https://arxiv.org/abs/2210.04428. Each feature is scaled to unit length,
then averaged; the mean is not scaled again. Prediction: the class whose mean is nearest, Euclidean.
Sums and counts are kept, so batches, sessions and classes may come in any order, more than once.

The paper's numbers belong to ``--backbone vit_base_patch16_224.augreg_in21k``, fed with images that
are stretched to 224 pixels and not normalised. Without a backbone the pixels are the features.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.config import Range
from clgym.models.heads import ClassMeans
from clgym.models.pretrained import PretrainedConfig, PretrainedStrategy
from clgym.strategy import Batch, Experience, Needs, StreamInfo


@dataclass(frozen=True)
class NMCConfig(PretrainedConfig):
    """Options of `NMC`."""

    backbone: str | None = None  # type: ignore[assignment]
    """Pretrained network: timm's full tag, NAME@FILE or NAME@random; none: the pixels."""
    fit: Literal["stretch", "crop"] = "stretch"
    """stretch: bilinear to that side; crop: shorter side to 8/7 of it, bicubic, centre cut out."""
    batch_size: Annotated[int, Range(1)] = 256
    """Images a batch; changes nothing but memory."""


class NMC(PretrainedStrategy[NMCConfig]):
    """Nearest class mean on frozen features, or on the pixels."""

    DETERMINISTIC: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Nothing without a backbone."""
        return super().needs if self.config.backbone else Needs()

    def setup(self, info: StreamInfo) -> None:
        """Begin with no class."""
        super().setup(info)
        self.classes = ClassMeans(info.device)

    def train(self, experience: Experience) -> None:
        """Add every image once to its class's sum."""
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            self.update(self.features(batch), batch.labels, experience.columns)

    def features(self, batch: Batch) -> Tensor:
        """What is averaged: the backbone's features, else the pixels; float [n, d]."""
        return super().features(batch) if self.config.backbone else batch.images.flatten(1)

    def update(self, features: Tensor, labels: Tensor, columns: int) -> None:
        """Count a batch of raw features, float [n, d], into the means of their classes."""
        self.classes.update(F.normalize(features.double()), labels, columns)

    def predict(self, batch: Batch) -> Tensor:
        """Negative distance to each mean; ties go to the lower column, unseen classes to -inf."""
        return self.scores(self.features(batch))

    def scores(self, features: Tensor) -> Tensor:
        """Negative Euclidean distances of raw features to the means, float64 [n, columns]."""
        distances = torch.cdist(F.normalize(features.double()), self.classes.means)
        return (-distances).nan_to_num(nan=-torch.inf)
