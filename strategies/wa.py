"""WA: distillation, and after training the new rows of the head are scaled to the old ones' length.

Zhao, Xiao, Gan, Zhang, Xia, "Maintaining Discrimination and Fairness in Class Incremental
Learning", CVPR 2020 (arXiv 1911.07053), as the protocol of Cha & Cho (arXiv 2403.09066) and PyCIL
have it.
Training is iCaRL's. Then the weights of the new classes are multiplied by gamma, the mean length of
the old rows over that of the new ones; biases stay. Everything later sees the aligned head:
evaluation, the teacher of the next experience, and its training. Defaults are PyCIL's.

The protocol's code trains WA in steps whatever schedule a trial drew, the first experience
included; ``--schedule-honoured`` follows the schedule.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from clgym.avalanche import ExemplarConfig, ExemplarStrategy
from clgym.models.distillation import distillation
from clgym.models.incremental import align_new_rows
from clgym.models.schedules import Schedule
from clgym.strategy import Experience, TrainBatch

# milestones and lr_decay count in every trial: the authors' WA always trains in steps.
SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": [2, 3, 4],
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": [0.1, 0.3, 0.5],
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005, 0.01],
    "schedule": ["step", "cosine"],
    "temperature": [0.5, 1, 1.5, 2, 2.5],
    "lambda_kd": [0.5, 1, 1.5, 2, 3],
}


@dataclass(frozen=True)
class WaConfig(ExemplarConfig):
    """Options of `Wa`."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of each experience after the first."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (6 / 17, 10 / 17, 14 / 17)
    """Fractions of the epochs at which the learning rate falls, where milestones is 0."""
    schedule_honoured: bool = False
    """Whether the option schedule has an effect; the protocol's code always trains in steps."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Temperature of the distillation."""
    lambda_kd: Annotated[float, Gt(0)] | None = None
    """Weight of the distillation, added to the cross-entropy; none: K/C of it and 1 - K/C of the
    cross-entropy, for K old classes of C, as in the paper."""
    clip_weights: bool = False
    """Whether the head's weights are kept from below 0 after every step, as the paper describes."""
    align: bool = True
    """Whether the head is aligned after training."""


class Wa(ExemplarStrategy[WaConfig]):
    """Distillation and weight aligning.

    Attributes:
        gamma: Factor of the last alignment. It may be above 1: after short training new rows are
            the shorter ones.
    """

    TEACHER = True
    gamma: float | None = None

    def schedule(self, stage: str, epochs: int, lr: float) -> Schedule:
        """In steps, unless the option ``schedule`` is honoured."""
        honoured = self.config.schedule_honoured
        return (super().schedule if honoured else self.steps)(stage, epochs, lr)

    def objective(self, batch: TrainBatch, output: Any) -> Tensor:
        """CE over all classes + lambda_kd * KD over the old ones, or both weighted by K/C."""
        entropy = super().objective(batch, output)
        if not self.known:
            return entropy
        taught = self.taught(batch)
        kd = distillation(output, taught, self.config.temperature)
        if self.config.lambda_kd is not None:
            return entropy + self.config.lambda_kd * kd
        share = self.known / output.shape[1]
        return (1 - share) * entropy + share * kd

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Cut off negative weights of the head, if so configured."""
        if self.config.clip_weights:
            with torch.no_grad():
                self.network.head.weight.clamp_(min=0)

    def after_experience(self, experience: Experience) -> None:
        """Align first: exemplars, means and the next teacher belong to the aligned network."""
        if self.config.align and self.known:
            self.gamma = align_new_rows(self.network.head.weight, self.known)
        super().after_experience(experience)
