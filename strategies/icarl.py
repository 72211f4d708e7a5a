"""iCaRL: exemplars by herding, distillation, and the nearest mean of exemplars as classifier.

Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017 (arXiv 1611.07725), as the protocol of Cha & Cho (arXiv 2403.09066) and PyCIL train it:
softmax cross-entropy over all classes, plus lambda times the distillation of the old classes'
logits, on new images and exemplars alike. The original has a sigmoid for each class instead, and
mirror images in its means. Defaults are PyCIL's; ``avalanche:ICaRL`` is another implementation.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

from clgym.avalanche import ExemplarConfig, ExemplarStrategy
from clgym.models.distillation import distillation
from clgym.strategy import TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005, 0.01],
    "schedule": ["step", "cosine"],
    "temperature": [0.5, 1, 1.5, 2, 2.5],
    "lambda_aux": [0.5, 1, 1.5, 2, 3],
}


@dataclass(frozen=True)
class IcarlConfig(ExemplarConfig):
    """Options of `Icarl`."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of each experience after the first."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (8 / 17, 12 / 17)
    """Fractions of the epochs at which the learning rate falls, where milestones is 0."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Temperature of the distillation."""
    lambda_aux: Annotated[float, Ge(0)] = 1.0
    """Weight of the distillation."""
    head: Literal["linear", "nme"] = "nme"
    """Head whose answers count: the network's own (linear), or the nearest mean of exemplars
    (nme). The record has the accuracies of both."""


class Icarl(ExemplarStrategy[IcarlConfig]):
    """Cross-entropy and distillation."""

    TEACHER = True

    def objective(self, batch: TrainBatch, output: Any) -> Tensor:
        """CE over all classes + lambda_aux * KD over the old ones."""
        loss = super().objective(batch, output)
        if not self.known:
            return loss
        taught = self.taught(batch)
        c = self.config
        return loss + c.lambda_aux * distillation(output, taught, c.temperature)
