"""CLS-ER: replay beside two slow copies of the network, whose better logits the network matches.

Arani, Sarfraz, Zonooz, "Learning Fast, Learning Slow: A General Continual Learning Method based on
Complementary Learning System", ICLR 2022 (arXiv 2201.12604). With (b, y_b) a draw from a reservoir
and z_b the logits of the stable or the plastic copy, whichever gives y_b the higher probability::

    CE(net(x and b), y and y_b) + strength * MSE(net(b), z_b)

After step s each copy is drawn towards the network with its own probability: copy <- a copy +
(1 - a) net, a = min(1 - 1 / (s + 1), its decay). The stable copy answers. Copies run in training
mode on b, as in the authors' code, so their running statistics are their own.
"""

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from clgym.avalanche import HeadsConfig, SGDStrategy
from clgym.avalanche.heads import TaskNetwork, logits_of_tasks
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch


@dataclass(frozen=True)
class CLSERConfig(HeadsConfig):
    """Options of CLS-ER."""

    memory_size: Annotated[int, Ge(1)] = 500
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of each draw from the memory."""
    strength: Annotated[float, Ge(0)] = 0.15
    """Weight of the squared distance to the copies' logits."""
    stable_rate: Annotated[float, Ge(0), Le(1)] = 0.1
    """Probability that a step moves the stable copy."""
    stable_decay: Annotated[float, Ge(0), Le(1)] = 0.999
    """Share of itself that the stable copy keeps."""
    plastic_rate: Annotated[float, Ge(0), Le(1)] = 0.3
    """Probability that a step moves the plastic copy."""
    plastic_decay: Annotated[float, Ge(0), Le(1)] = 0.999
    """Share of itself that the plastic copy keeps."""


class CLSER(SGDStrategy[CLSERConfig]):
    """A working network and its two copies.

    Attributes:
        stable: The copy that answers.
        plastic: The other one.
        steps: Steps so far.
    """

    @property
    def needs(self) -> Needs:
        """A memory, and the number of classes: the copies keep their width."""
        return Needs(memory=self.config.memory_size, total_classes=True)

    def setup(self, info: StreamInfo) -> None:
        """Build the network and copy it."""
        super().setup(info)
        self.steps = 0
        self.stable, self.plastic = (
            copy.deepcopy(self.network).requires_grad_(False) for _ in range(2)
        )

    def before_experience(self, experience: Experience) -> None:
        """Units for new tasks; the copies begin with the network's."""
        for slow in (self.stable, self.plastic):
            if isinstance(slow, TaskNetwork) and isinstance(self.network, TaskNetwork):
                slow.follow(self.network)
                slow.requires_grad_(False)

    def rehearse(self, batch: TrainBatch) -> TrainBatch | None:
        """Samples of the memory, which are matched, too."""
        return self.recall(self.config.replay_batch)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        """The squared distance to the better copy's logits."""
        if batch.old is None:
            return None
        return self.config.strength * self.match(batch.old, self.better(batch.old))

    @torch.no_grad()
    def better(self, batch: TrainBatch) -> Tensor:
        """Logits [n, columns] of the copy that is surer of each label."""
        images, tasks = batch.images, batch.tasks
        stable, plastic = (
            logits_of_tasks(slow.train(), images, tasks) for slow in (self.stable, self.plastic)
        )
        chances = [z.softmax(1).gather(1, batch.labels[:, None]) for z in (stable, plastic)]
        return torch.where(chances[0] > chances[1], stable, plastic)

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Offer the new samples to the reservoir, then perhaps move the copies."""
        config, new = self.config, batch.new
        self.remember(new, labels=new.labels, tasks=new.tasks)
        self.steps += 1
        plastic, stable = torch.rand(2, generator=self.rng("moves of the copies")).tolist()
        if plastic < config.plastic_rate:
            self.move(self.plastic, config.plastic_decay)
        if stable < config.stable_rate:
            self.move(self.stable, config.stable_decay)

    @torch.no_grad()
    def move(self, slow: nn.Module, decay: float) -> None:
        """Draw the parameters of a copy towards the network's."""
        share = min(1 - 1 / (self.steps + 1), decay)
        for p, q in zip(slow.parameters(), self.network.parameters(), strict=True):
            p.mul_(share).add_(q, alpha=1 - share)

    def predict(self, batch: Batch) -> Tensor:
        """The stable copy's logits, for the classes seen."""
        return logits_of_tasks(self.stable.eval(), batch.images, batch.task)[:, : self.seen]
