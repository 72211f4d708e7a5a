"""Dark experience replay: a memory of samples with the logits they had, which are matched.

Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS
2020 (arXiv 2004.07211); derpp without labels of the memory. One step minimises::

    CE(net(x), y) + alpha * MSE(net(b), logits of b)

with b a draw from a reservoir; see derpp for what is kept of a sample, and when, and for streams
with tasks.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from clgym.avalanche import HeadsConfig, SGDStrategy
from clgym.strategy import Needs, TrainBatch


@dataclass(frozen=True)
class DERConfig(HeadsConfig):
    """Options of DER."""

    memory_size: Annotated[int, Ge(1)] = 500
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of each draw from the memory."""
    alpha: Annotated[float, Ge(0)] = 0.3
    """Weight of the squared distance to the stored logits."""


class DER(SGDStrategy[DERConfig]):
    """Training on new samples, with a draw from the memory as a further term of the loss."""

    @property
    def needs(self) -> Needs:
        """A memory, and the number of classes: stored logits keep one width."""
        return Needs(memory=self.config.memory_size, total_classes=True)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        """The squared distance to stored logits."""
        stored = self.recall(self.config.replay_batch)
        return None if stored is None else self.config.alpha * self.match(stored)

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Offer the new samples to the reservoir."""
        self.remember(batch.new, logits=logits[: len(batch.new)])
