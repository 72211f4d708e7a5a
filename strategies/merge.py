"""Merging: a network for each experience from one start, and their merged weights answer.

Averages after Na et al., "Scalable Data Ablation Approximations for Language Models through Modular
Training and Merging", EMNLP 2024 (arXiv 2410.15661); task arithmetic, Ilharco et al., ICLR 2023
(arXiv 2212.04089); TIES, Yadav et al., NeurIPS 2023 (arXiv 2306.01708). With theta_0 the start,
theta_i the weights after experience i, and ``tau_i = theta_i - theta_0``::

    average      mean of theta_i             weighted   by the experiences' samples
    arithmetic   theta_0 + scale sum tau_i   ties       trim, elect signs, merge what agrees

A row of the head belongs to the experience that brought its class and is not averaged: the other
networks have never seen that class. Running statistics of an average are not those of averaged
weights: they are taken again from the experience's rows. From a start at random averages collapse,
which is the expected result and no fault: the papers start from pretrained networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.errors import Incompatible
from clgym.models.merging import ties
from clgym.models.norm import has_batch_norm, reestimate
from clgym.strategy import Experience, Needs, StreamInfo

SPACE = {"method": ["average", "arithmetic", "ties"], "scale": [0.2, 0.3, 0.4, 0.6, 1.0]}


@dataclass(frozen=True)
class MergeConfig(WrapperConfig):
    """Options of merging."""

    method: Literal["average", "weighted", "arithmetic", "ties"] = "average"
    """How weights are merged."""
    scale: Annotated[float, Ge(0)] = 0.4
    """Factor of the task vectors, of arithmetic and ties."""
    keep: Annotated[float, Gt(0), Le(100)] = 20.0
    """Ties: percentage of each task vector's entries that stay."""
    start: Literal["shared", "previous", "merged"] = "shared"
    """Where an experience starts: from theta_0, from the weights trained last, or from the merged
    ones. Ties and arithmetic want the shared one."""
    statistics: Literal["current", "average"] = "current"
    """Running statistics of the merged network: from the experience's rows, or averaged."""


class Merge(Wrapper[MergeConfig]):
    """A base strategy whose weights of all experiences are merged.

    Attributes:
        start: theta_0, by name; what is merged.
        total: Sum of theta_i, weighted by samples where the method is.
        weight: Sum of their weights.
        trained: theta_i of the last experience; of all of them for ties.
        rows: The head's tensors, row by row from the experience that brought the class.
    """

    @property
    def needs(self) -> Needs:
        """What the base needs; running statistics are taken from the rows once more."""
        needs = self.base.needs
        return replace(needs, rereads=needs.rereads or self.config.statistics == "current")

    @property
    def moves_on_elsewhere(self) -> bool:
        """True unless experiences begin at the merged weights."""
        return self.config.start != "merged" or super().moves_on_elsewhere

    def setup(self, info: StreamInfo) -> None:
        """Set up the base; its weights are the start.

        Raises:
            Incompatible: a wrapper inside has a say where experiences begin.
        """
        super().setup(info)
        if super().moves_on_elsewhere:
            raise Incompatible(
                expected="a base whose experiences begin where this wrapper says",
                found=f"{self.config.base.name}, which has weights of its own to go on from",
                fix="Put merge inside it, or give lr-schedule --resume chain",
            )
        self.start = self._merged_part()
        self.total = {name: torch.zeros_like(w) for name, w in self.start.items()}
        self.weight = 0.0
        self.trained: list[dict[str, Tensor]] = []
        self.rows: dict[str, Tensor] = {}

    def train(self, experience: Experience) -> None:
        """Train the base from its start, and merge what it has become."""
        if self.learner.position.experience != experience.index and self.trained:
            if self.config.start == "shared":
                self._write(self.start)
            elif self.config.start == "previous":
                self._write(self.trained[-1])
        self.base.train(experience)
        self._keep(experience)
        self._write(self._merge())
        network = self.learner.network
        if self.config.statistics == "current" and has_batch_norm(network):
            config = self.learner.config
            batches = experience.batches(config.batch_size, epoch=config.epochs)
            reestimate(network, (batch.images for batch in batches))

    def _keep(self, experience: Experience) -> None:
        """Take in the weights of this experience."""
        found = self._merged_part()
        weight = float(len(experience)) if self.config.method == "weighted" else 1.0
        for name, value in found.items():
            self.total[name].add_(value, alpha=weight)
        self.weight += weight
        self.trained = [*self.trained, found] if self.config.method == "ties" else [found]
        own = torch.tensor(experience.classes)
        for name, value in self._head().items():
            rows = value.detach().clone()
            if (old := self.rows.get(name)) is not None:
                rows[: len(old)] = old
                rows[own] = value.detach()[own]
            self.rows[name] = rows

    def _merge(self) -> dict[str, Tensor]:
        config, start, count = self.config, self.start, self.weight
        if config.method == "ties":
            return ties(start, self.trained, config.scale, config.keep)
        if config.method == "arithmetic":
            return {n: w + config.scale * (self.total[n] - count * w) for n, w in start.items()}
        return {name: total / count for name, total in self.total.items()}

    @torch.no_grad()
    def _write(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights, and the head's rows, into the network."""
        state = self.learner.network.state_dict()
        for name, value in {**weights, **self.rows}.items():
            state[name][: len(value)].copy_(value) if value.ndim else state[name].copy_(value)

    def _merged_part(self) -> dict[str, Tensor]:
        """All floating tensors but those of heads that grow, and what normalises the images."""
        state = self.learner.network.state_dict()
        apart = {"mean", "std", *self._head()}
        return {
            name: value.detach().clone()
            for name, value in state.items()
            if value.is_floating_point() and name not in apart and not name.startswith("heads.")
        }

    def _head(self) -> dict[str, Tensor]:
        """Tensors of the one head, a row for each class, where classes come with experiences."""
        if self.info.setting == "domain-incremental":
            return {}
        state = self.learner.network.state_dict()
        return {name: value for name, value in state.items() if name.startswith("head.")}
