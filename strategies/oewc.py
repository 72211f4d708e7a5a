"""Online EWC: one quadratic pull to the last task's weights, by a running Fisher estimate.

Schwarz et al., "Progress & Compress", ICML 2018 (arXiv 1805.06370), in the form of the dark
experience papers' code. With theta* the weights after the last experience::

    loss = CE(net(x), y) + strength * sum F (theta - theta*)^2
    F <- decay * F + sum_i pi_i (d log pi_i / d theta)^2 / N      after each experience

pi_i is the probability of sample i's own label, N the batches of one epoch times their size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from clgym.avalanche import HeadsConfig, SGDStrategy, SupervisedPlugin
from clgym.models.fisher import fisher_sum, fitted
from clgym.strategy import Needs, State


@dataclass(frozen=True)
class OEWCConfig(HeadsConfig):
    """Options of online EWC."""

    strength: Annotated[float, Ge(0)] = 10.0
    """Weight of the pull."""
    decay: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the old Fisher estimate that is kept."""
    bn_mode: Literal["eval", "train"] = "eval"
    """Batch normalisation in the Fisher pass: stored statistics, or each sample's own."""


class OEWC(SGDStrategy):
    """SGD with a pull towards the weights of the experience before."""

    Config = OEWCConfig

    @property
    def needs(self) -> Needs:
        """The rows once more: F is estimated after training."""
        return Needs(rereads=True)

    def plugins(self) -> Sequence[Any]:
        """What adds the pull and estimates F."""
        return [_Pull(self.config)]


class _Pull(SupervisedPlugin):
    def __init__(self, config: OEWCConfig) -> None:
        super().__init__()
        self._config = config
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def before_backward(self, strategy: Any, **_: Any) -> None:
        if self.fisher:
            strategy.loss += self._config.strength * self.penalty(strategy.model)

    def penalty(self, model: Any) -> Tensor:
        """Sum F (theta - theta*)^2; columns that are new since then are free."""
        terms = [
            (fitted(self.fisher[n], p) * (p - fitted(self.anchor[n], p)).square()).sum()
            for n, p in model.named_parameters()
            if n in self.fisher
        ]
        return torch.stack(terms).sum()

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        feed, model = strategy.feed, strategy.model
        total: dict[str, Tensor] = {}
        for batch in feed.experience.batches(feed.size, epoch=feed.epochs, augment=feed.augment):
            part = fisher_sum(model, batch.images, batch.labels, self._config.bn_mode)
            total = {n: total[n] + f for n, f in part.items()} if total else part
        count, named = len(feed) * feed.size, dict(model.named_parameters())
        old = {n: fitted(f, named[n]) for n, f in self.fisher.items()}
        self.fisher = {
            n: f / count + self._config.decay * old.get(n, 0.0) for n, f in total.items()
        }
        self.anchor = {n: named[n].detach().clone() for n in total}

    def state_dict(self) -> State:
        return {"fisher": self.fisher, "anchor": self.anchor}

    def load_state_dict(self, state: State) -> None:
        self.fisher, self.anchor = dict(state["fisher"]), dict(state["anchor"])
