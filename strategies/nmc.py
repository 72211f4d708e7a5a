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
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import normalize

from clgym.models.pretrained import ClassMeanStrategy, PretrainedConfig
from clgym.strategy import Batch


@dataclass(frozen=True)
class NMCConfig(PretrainedConfig):
    """Options of `NMC`."""

    backbone: str | None = None  # type: ignore[assignment]
    """Pretrained network: timm's full tag, NAME@FILE or NAME@random; none: the pixels."""
    fit: Literal["stretch", "crop"] = "stretch"
    """stretch: bilinear to that side; crop: shorter side to 8/7 of it, bicubic, centre cut out."""
    batch_size: Annotated[int, Ge(1)] = 256
    """Images a batch; changes nothing but memory."""


class NMC(ClassMeanStrategy[NMCConfig]):
    """Nearest class mean on frozen features, or on the pixels."""

    DETERMINISTIC: ClassVar[bool] = True

    def embed(self, batch: Batch) -> Tensor:
        """Features of unit length, float64 [n, d]."""
        return normalize(self.features(batch).double())

    def predict(self, batch: Batch) -> Tensor:
        """Negative distance to each mean; ties go to the lower column, unseen classes to -inf."""
        distances = torch.cdist(self.embed(batch), self.classes.means)
        return (-distances).nan_to_num(nan=-torch.inf)
