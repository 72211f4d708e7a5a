"""Experience replay: every batch is joined by samples of a reservoir memory.

Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019 (arXiv 1902.10486): plain
cross-entropy over new and memory samples alike; ``--memory-weight`` weighs the memory's mean
against that of the new samples instead. Samples are offered to the reservoir (Vitter's algorithm R)
when they are seen for the first time, so that after n samples each has been kept with probability
memory_size / n.
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
    "replay_batch": [10, 32, 64],
}

ALIASES = ("er",)


@dataclass(frozen=True)
class ReplayConfig(HeadsConfig):
    """Options of replay."""

    memory_size: Annotated[int, Ge(1)] = 200
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of the memory that join each batch."""
    memory_weight: Annotated[float, Ge(0)] | None = None
    """Weight of the memory samples' mean loss, added to the new samples' mean loss; none: one mean
    over all samples of the batch."""


class Replay(SGDStrategy[ReplayConfig]):
    """Training on batches of new samples, to which samples of the memory are appended."""

    @property
    def needs(self) -> Needs:
        """A memory of ``memory_size`` samples."""
        return Needs(memory=self.config.memory_size)

    def rehearse(self, batch: TrainBatch) -> TrainBatch | None:
        """Samples of the memory."""
        return self.recall(self.config.replay_batch)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One mean over the batch, or the weighted sum of two: new samples, and the memory's."""
        weight, new = self.config.memory_weight, len(self.batch.new)
        if weight is None or len(labels) == new:
            return super().loss(logits, labels)
        memory = super().loss(logits[new:], labels[new:])
        return super().loss(logits[:new], labels[:new]) + weight * memory

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Offer samples to the reservoir when they are seen for the first time."""
        if self.position.epoch == 0:
            new = batch.new
            self.remember(new, labels=new.labels, tasks=new.tasks)
