"""Dark experience replay: a memory of samples with the logits they had, which are matched.

Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS
2020 (arXiv 2004.07211); derpp without labels of the memory. One step minimises::

    CE(net(x), y) + alpha * MSE(net(b), logits of b)

with b a draw from a reservoir; see derpp for what is kept of a sample, and when, and for streams
with tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from clgym.avalanche import HeadsConfig, SGDStrategy, SupervisedPlugin
from clgym.avalanche.heads import logits_of_tasks, match_loss
from clgym.strategy import Needs


@dataclass(frozen=True)
class DERConfig(HeadsConfig):
    """Options of DER."""

    memory_size: Annotated[int, Ge(1)] = 500
    """Samples kept in the reservoir."""
    replay_batch: Annotated[int, Ge(1)] = 32
    """Samples of each draw from the memory."""
    alpha: Annotated[float, Ge(0)] = 0.3
    """Weight of the squared distance to the stored logits."""


class DER(SGDStrategy):
    """Training on new samples, with a draw from the memory as a further term of the loss."""

    Config = DERConfig

    @property
    def needs(self) -> Needs:
        """A memory, and the number of classes: stored logits keep one width."""
        return Needs(memory=self.config.memory_size, total_classes=True)

    def plugins(self) -> Sequence[Any]:
        """What adds the term and fills the memory."""
        return [_Matching(self)]


class _Matching(SupervisedPlugin):
    def __init__(self, owner: DER) -> None:
        super().__init__()
        self._owner = owner

    def before_backward(self, strategy: Any, **_: Any) -> None:
        owner, experience = self._owner, self._owner.experience
        if experience is None or not len(owner.info.memory):
            return
        drawn = owner.info.memory.draw(owner.config.replay_batch, owner.generator("replay"))
        images = owner.augmented(experience.to_float(drawn["pixels"]), "replay")
        logits = logits_of_tasks(strategy.model, images, drawn.get("tasks"))
        strategy.loss += owner.config.alpha * match_loss(strategy.model, logits, drawn["logits"])

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        owner, batch = self._owner, strategy.feed.batch
        new = slice(strategy.n_new)
        tasks = {} if owner.heads == "shared" else {"tasks": strategy.mb_task_id[new]}
        owner.info.memory.add(
            owner.generator("reservoir"),
            pixels=batch.pixels,
            logits=strategy.mb_output[new].detach(),
            **tasks,
        )
