"""Dark experience replay++: a memory of samples with the logits they had, matched and rehearsed.

Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS
2020 (arXiv 2004.07211). One step minimises::

    CE(net(x), y) + alpha * MSE(net(b1), logits of b1) + beta * CE(net(b2), labels of b2)

b1 and b2 are two draws from a reservoir; the terms are left out while it is empty. Each batch is
then offered to the reservoir: pixels as they are stored, not augmented, and the logits of this
step's forward pass. As in the authors' code the head has a column for every class of the stream
from the start, cross-entropy and squared error run over all of them, and a sample is offered again
in every epoch. With a head for every task, on task-incremental streams, all three terms run over
the classes of a sample's own task.
"""

from dataclasses import dataclass
from typing import Annotated

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
    "alpha": [0.1, 0.2, 0.5],
    "beta": [0.5, 1.0],
}
STABILITY = {"alpha": 1.0, "beta": 2.0}


@dataclass(frozen=True)
class DerppConfig(HeadsConfig):
    """Options of DER++."""

    memory_size: Annotated[int, Ge(1)] = 500
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of each of the two draws from the memory."""
    alpha: Annotated[float, Ge(0)] = 0.1
    """Weight of the squared distance to the stored logits."""
    beta: Annotated[float, Ge(0)] = 0.5
    """Weight of the cross-entropy on samples of the memory."""


class Derpp(SGDStrategy[DerppConfig]):
    """Training on new samples, with two draws from the memory as further terms of the loss."""

    @property
    def needs(self) -> Needs:
        """A memory, and the number of classes: stored logits keep one width."""
        return Needs(memory=self.config.memory_size, total_classes=True)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        """The squared distance to stored logits, and the cross-entropy of stored labels."""
        c = self.config
        stored = self.recall(c.replay_batch, "logits")
        again = self.recall(c.replay_batch, "labels")
        if stored is None or again is None:
            return None
        return c.alpha * self.match(stored) + c.beta * self.loss(self.forward(again), again.labels)

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Offer the new samples to the reservoir."""
        self.remember(batch.new, labels=batch.new.labels, logits=logits[: len(batch.new)])
