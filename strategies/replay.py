"""Experience replay: every batch is joined by samples of a reservoir memory.

Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019 (arXiv 1902.10486): plain
cross-entropy over new and memory samples alike; ``--memory-weight`` weighs the memory's mean
against that of the new samples instead. Samples are offered to the reservoir (Vitter's algorithm R)
when they are seen for the first time, so that after n samples each has been kept with probability
memory_size / n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from clgym.avalanche import HeadsConfig, SGDStrategy, SupervisedPlugin
from clgym.strategy import Needs

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


class Replay(SGDStrategy):
    """Training on batches of new samples, to which samples of the memory are appended."""

    Config = ReplayConfig

    @property
    def needs(self) -> Needs:
        """A memory of ``memory_size`` samples."""
        return Needs(memory=self.config.memory_size)

    def plugins(self) -> Sequence[Any]:
        """What draws from the memory and adds to it."""
        return [_Rehearsal(self)]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One mean over the batch, or the weighted sum of two: new samples, and the memory's."""
        weight, new = self.config.memory_weight, self.template.n_new
        if weight is None or len(labels) == new:
            return super().loss(logits, labels)
        memory = super().loss(logits[new:], labels[new:])
        return super().loss(logits[:new], labels[:new]) + weight * memory


class _Rehearsal(SupervisedPlugin):
    """New samples stay in front: ``strategy.n_new`` of them."""

    def __init__(self, owner: Replay) -> None:
        super().__init__()
        self._owner = owner

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        owner, experience = self._owner, self._owner.experience
        if experience is None or not len(owner.info.memory):
            return
        drawn = owner.info.memory.draw(owner.config.replay_batch, owner.generator("replay"))
        images = owner.augmented(experience.to_float(drawn["pixels"]), "replay")
        old = (images, drawn["labels"], drawn["tasks"])
        strategy.mbatch = [torch.cat(pair) for pair in zip(strategy.mbatch, old, strict=True)]

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        owner, batch = self._owner, strategy.feed.batch
        if owner.position.epoch == 0:
            tasks = strategy.mb_task_id[: strategy.n_new]
            owner.info.memory.add(
                owner.generator("reservoir"), pixels=batch.pixels, labels=batch.labels, tasks=tasks
            )
