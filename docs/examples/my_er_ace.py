"""ER-ACE: replay, with a loss on new samples over the classes of the batch only.

Caccia et al., "New Insights on Reducing Abrupt Representation Change in Online Continual Learning",
ICLR 2022, https://arxiv.org/abs/2104.05025. Cross-entropy of new samples runs over the classes that
are among them, that of replayed ones over all classes seen; the two means are added.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.avalanche import HeadsConfig, SGDStrategy
from clgym.strategy import Needs, TrainBatch


@dataclass(frozen=True)
class ERACEConfig(HeadsConfig):
    """Options of ER-ACE."""

    memory_size: Annotated[int, Ge(1)] = 200
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of the memory that join each batch."""


class ERACE(SGDStrategy[ERACEConfig]):
    """Replay from a reservoir with an asymmetric loss."""

    @property
    def needs(self) -> Needs:
        """A memory."""
        return Needs(memory=self.config.memory_size)

    def rehearse(self, batch: TrainBatch) -> TrainBatch | None:
        """Old samples that join the batch."""
        return self.recall(self.config.replay_batch)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of new samples over their own classes, and of old ones over all."""
        new = len(self.batch.new)
        absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        absent[labels[:new]] = False
        own = cross_entropy(logits[:new].masked_fill(absent, -1e9), labels[:new])
        return own if new == len(labels) else own + cross_entropy(logits[new:], labels[new:])

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Offer the new samples to the reservoir."""
        self.remember(batch.new, labels=batch.new.labels)
