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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from clgym.avalanche import HeadsConfig, SGDStrategy, SupervisedPlugin
from clgym.avalanche.heads import TaskNetwork, logits_of_tasks, match_loss
from clgym.models.networks import Classifier
from clgym.strategy import Batch, Needs, State, StreamInfo


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


class CLSER(SGDStrategy):
    """A working network and its two copies."""

    Config = CLSERConfig

    @property
    def needs(self) -> Needs:
        """A memory, and the number of classes: the copies keep their width."""
        return Needs(memory=self.config.memory_size, total_classes=True)

    def plugins(self) -> Sequence[Any]:
        """What rehearses and moves the copies."""
        self.copies = _Copies(self)
        return [self.copies]

    def setup(self, info: StreamInfo) -> None:
        """Build the network and copy it."""
        super().setup(info)
        self.copies.begin(self.network)

    def _add_tasks(self, network: Classifier) -> None:
        """Units for new tasks; the copies begin with the network's."""
        super()._add_tasks(network)
        self.copies.follow(network)

    def predict(self, batch: Batch) -> Tensor:
        """The stable copy's logits, for the classes seen."""
        stable = self.copies.stable.eval()
        return logits_of_tasks(stable, batch.images, batch.task)[:, : self.seen]

    def parameter_count(self) -> int:
        """Weights and buffers of the copy that answers."""
        return sum(t.numel() for t in self.copies.stable.state_dict().values())


class _Copies(SupervisedPlugin):
    stable: Classifier
    plastic: Classifier

    def __init__(self, owner: CLSER) -> None:
        super().__init__()
        self._owner = owner
        self._drawn: tuple[Tensor, Tensor, Tensor] | None = None
        self._copies: tuple[Classifier, ...] = ()
        self.step = 0

    def begin(self, network: Classifier) -> None:
        self.stable, self.plastic = (copy.deepcopy(network).requires_grad_(False) for _ in "ab")
        self._copies = (self.stable, self.plastic)

    def follow(self, network: Classifier) -> None:
        for slow in self._copies:
            if isinstance(slow, TaskNetwork) and isinstance(network, TaskNetwork):
                slow.follow(network)
                slow.requires_grad_(False)

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        """Draw once; the same samples join the batch and are matched."""
        owner, experience = self._owner, self._owner.experience
        if experience is None or not len(owner.info.memory):
            return
        drawn = owner.info.memory.draw(owner.config.replay_batch, owner.generator("replay"))
        images = owner.augmented(experience.to_float(drawn["pixels"]), "replay")
        self._drawn = (images, drawn["labels"], drawn["tasks"])
        strategy.mbatch = [
            torch.cat(pair) for pair in zip(strategy.mbatch, self._drawn, strict=True)
        ]

    def before_backward(self, strategy: Any, **_: Any) -> None:
        if self._drawn is not None:
            images, labels, tasks = self._drawn
            wanted = self.better(images, labels, tasks)
            logits = logits_of_tasks(strategy.model, images, tasks)
            distance = match_loss(strategy.model, logits, wanted)
            strategy.loss += self._owner.config.strength * distance

    @torch.no_grad()
    def better(self, images: Tensor, labels: Tensor, tasks: Tensor) -> Tensor:
        """Logits [n, columns] of the copy that is surer of each label."""
        stable, plastic = (logits_of_tasks(slow.train(), images, tasks) for slow in self._copies)
        chances = [z.softmax(1).gather(1, labels[:, None]) for z in (stable, plastic)]
        return torch.where(chances[0] > chances[1], stable, plastic)

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        owner, batch, config = self._owner, strategy.feed.batch, self._owner.config
        owner.info.memory.add(
            owner.generator("reservoir"),
            pixels=batch.pixels,
            labels=batch.labels,
            tasks=strategy.mb_task_id[: strategy.n_new],
        )
        self._drawn = None
        self.step += 1
        plastic, stable = torch.rand(2, generator=owner.generator("moves of the copies")).tolist()
        if plastic < config.plastic_rate:
            self.move(self.plastic, strategy.model, config.plastic_decay)
        if stable < config.stable_rate:
            self.move(self.stable, strategy.model, config.stable_decay)

    @torch.no_grad()
    def move(self, slow: nn.Module, network: nn.Module, decay: float) -> None:
        """Draw the parameters of a copy towards the network's."""
        share = min(1 - 1 / (self.step + 1), decay)
        for p, q in zip(slow.parameters(), network.parameters(), strict=True):
            p.mul_(share).add_(q, alpha=1 - share)

    def state_dict(self) -> State:
        copies = {"stable": self.stable.state_dict(), "plastic": self.plastic.state_dict()}
        return {"step": self.step, **{name: dict(state) for name, state in copies.items()}}

    def load_state_dict(self, state: State) -> None:
        self.step = state["step"]
        self.stable.load_state_dict(state["stable"])
        self.plastic.load_state_dict(state["plastic"])
