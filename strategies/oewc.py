"""Online EWC: one quadratic pull to the last task's weights, by a running Fisher estimate.

Schwarz et al., "Progress & Compress", ICML 2018 (arXiv 1805.06370), in the form of the dark
experience papers' code. With theta* the weights after the last experience::

    loss = CE(net(x), y) + strength * sum F (theta - theta*)^2
    F <- decay * F + sum_i pi_i (d log pi_i / d theta)^2 / N      after each experience

pi_i is the probability of sample i's own label, N the batches of one epoch times their size.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from clgym.avalanche import HeadsConfig, SGDStrategy
from clgym.models.fisher import fisher_sum, fitted
from clgym.strategy import Experience, Needs, StreamInfo, TrainBatch


@dataclass(frozen=True)
class OEWCConfig(HeadsConfig):
    """Options of online EWC."""

    strength: Annotated[float, Ge(0)] = 10.0
    """Weight of the pull."""
    decay: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the old Fisher estimate that is kept."""
    bn_mode: Literal["eval", "train"] = "eval"
    """Batch normalisation in the Fisher pass: stored statistics, or each sample's own."""


class OEWC(SGDStrategy[OEWCConfig]):
    """SGD with a pull towards the weights of the experience before.

    Attributes:
        fisher: F by parameter, shaped as the parameters were; empty at first.
        anchor: theta* by parameter.
    """

    @property
    def needs(self) -> Needs:
        """The rows once more: F is estimated after training."""
        return Needs(rereads=True)

    def setup(self, info: StreamInfo) -> None:
        """Begin without a pull."""
        super().setup(info)
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        """Strength times sum F (theta - theta*)^2; columns that are new since then are free."""
        if not self.fisher:
            return None
        terms = [
            (fitted(self.fisher[n], p) * (p - fitted(self.anchor[n], p)).square()).sum()
            for n, p in self.network.named_parameters()
            if n in self.fisher
        ]
        return self.config.strength * torch.stack(terms).sum()

    def after_experience(self, experience: Experience) -> None:
        """Estimate F, and take the weights as theta*."""
        size, total = self.config.batch_size, dict[str, Tensor]()
        for batch in self.reread(experience):
            part = fisher_sum(self.network, batch.images, batch.labels, self.config.bn_mode)
            total = {n: total[n] + f for n, f in part.items()} if total else part
        count, named = experience.steps(size) * size, dict(self.network.named_parameters())
        old = {n: fitted(f, named[n]) for n, f in self.fisher.items()}
        self.fisher = {n: f / count + self.config.decay * old.get(n, 0.0) for n, f in total.items()}
        self.anchor = {n: named[n].detach().clone() for n in total}
