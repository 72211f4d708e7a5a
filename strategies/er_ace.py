"""ER-ACE: replay whose new samples compete among the classes of their own batch only.

Caccia, Aljundi, Asadi, Tuytelaars, Pineau, Belilovsky, "New Insights on Reducing Abrupt
Representation Change in Online Continual Learning", ICLR 2022 (arXiv 2104.05025). One step
minimises::

    CE(net(x), y; classes of the batch) + CE(net(b), labels of b; all classes seen)

x are the new samples, b a draw from a reservoir; the second term is left out while it is empty. In
the first term the logits of all classes that are not in the new batch are masked, so that new
samples push no old class away. Samples are offered to the reservoir when they are seen for the
first time. Written from the paper's equation; no number of it was reproduced. The authors' code
was not used: there the mask may differ in the first experience.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from clgym.avalanche import HeadsConfig, SGDStrategy
from clgym.strategy import Needs, TrainBatch

SPACE = {
    "lr": [0.01, 0.03, 0.1, 0.3],
    "epochs": [1, 2, 4],
    "batch_size": [10, 32],
    "momentum": [0.0, 0.9],
    "weight_decay": [0.0, 0.0001],
    "replay_batch": [10, 32, 64],
}


@dataclass(frozen=True)
class ERACEConfig(HeadsConfig):
    """Options of ER-ACE."""

    memory_size: Annotated[int, Ge(1)] = 200
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of the memory that join each batch."""


class ERACE(SGDStrategy[ERACEConfig]):
    """Experience replay with an asymmetric cross-entropy."""

    @property
    def needs(self) -> Needs:
        """A memory of ``memory_size`` samples."""
        return Needs(memory=self.config.memory_size)

    def rehearse(self, batch: TrainBatch) -> TrainBatch | None:
        """Samples of the memory."""
        return self.recall(self.config.replay_batch)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over new samples, among their own classes, plus the mean over the memory's."""
        new = len(self.batch.new)
        absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        absent[labels[:new]] = False
        loss = super().loss(logits[:new].masked_fill(absent, -torch.inf), labels[:new])
        return loss + super().loss(logits[new:], labels[new:]) if len(labels) > new else loss

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Offer samples to the reservoir when they are seen for the first time."""
        if self.position.epoch == 0:
            self.remember(batch.new, labels=batch.new.labels)
