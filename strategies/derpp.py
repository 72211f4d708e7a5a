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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.avalanche import HeadsConfig, SGDStrategy, SupervisedPlugin
from clgym.avalanche.heads import logits_of_tasks, match_loss
from clgym.strategy import Needs

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


class Derpp(SGDStrategy):
    """Training on new samples, with two draws from the memory as further terms of the loss."""

    Config = DerppConfig

    @property
    def needs(self) -> Needs:
        """A memory, and the number of classes: stored logits keep one width."""
        return Needs(memory=self.config.memory_size, total_classes=True)

    def plugins(self) -> Sequence[Any]:
        """What adds the two terms and fills the memory."""
        return [_DarkReplay(self)]


class _DarkReplay(SupervisedPlugin):
    def __init__(self, owner: Derpp) -> None:
        super().__init__()
        self._owner = owner

    def _draw(self, strategy: Any, matched: str) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of a draw from the memory, and what is stored of it."""
        owner, experience = self._owner, self._owner.experience
        assert experience is not None
        draws = owner.generator("replay", matched)
        drawn = owner.info.memory.draw(owner.config.replay_batch, draws)
        images = owner.augmented(experience.to_float(drawn["pixels"]), "replay", matched)
        return logits_of_tasks(strategy.model, images, drawn.get("tasks")), drawn

    def before_backward(self, strategy: Any, **_: Any) -> None:
        config = self._owner.config
        if not len(self._owner.info.memory):
            return
        logits, drawn = self._draw(strategy, "logits")
        strategy.loss += config.alpha * match_loss(strategy.model, logits, drawn["logits"])
        logits, drawn = self._draw(strategy, "labels")
        strategy.loss += config.beta * cross_entropy(logits, drawn["labels"])

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        owner, batch = self._owner, strategy.feed.batch
        new = slice(strategy.n_new)
        tasks = {} if owner.heads == "shared" else {"tasks": strategy.mb_task_id[new]}
        owner.info.memory.add(
            owner.generator("reservoir"),
            pixels=batch.pixels,
            labels=batch.labels,
            logits=strategy.mb_output[new].detach(),
            **tasks,
        )
