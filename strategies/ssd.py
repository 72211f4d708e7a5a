"""Selective synaptic dampening: weights that matter for what is to be forgotten are made smaller.

Foster, Schoepf, Brintrup, "Fast Machine Unlearning Without Retraining Through Selective Synaptic
Dampening", AAAI 2024 (arXiv 2308.07707); released code if-loops/selective-synaptic-dampening
cdfdc0e. With I_D the importance of each weight for all training data and I_f that for the rows of
the request, weights with ``I_f > alpha I_D`` are multiplied by
``min((dampening I_D / I_f)^exponent, bound)``; the others stay. Nothing is trained.

* In a stream I_D is gathered when each experience has been learned, at the weights of that time,
  and stored: ``I_D = sum_k N_k I_k / sum N_k``. A request then needs only the rows to be forgotten.
  The paper computes both at the weights of the request, over all data at once.
* ``--importance sample`` (default) is the mean of squared gradients of single samples; ``batch``
  is the released code's, the mean of squared gradients of batch means, which depends on the batch
  size and counts a smaller last batch as a full one.
* A share of selected weights of 0 or 1 is a failure of tuning: ``selected_share`` in the costs says
  which it was. Where both importances are of the same weights, ``I_f / I_D`` is at most the number
  of all samples over that of the request's, so an alpha above it selects nothing.

Networks answer in evaluation mode while gradients are taken, and running statistics stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.avalanche.adapter import AvalancheStrategy
from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.errors import Incompatible
from clgym.models.fisher import fisher_sum, fitted
from clgym.strategy import Experience, ForgetRequest, Needs, StreamInfo

SPACE = {"alpha": [1.0, 2.0, 5.0, 10.0, 25.0], "dampening": [0.1, 0.5, 1.0, 2.0]}

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images and labels."""


@dataclass(frozen=True)
class SSDConfig(WrapperConfig):
    """Options of selective synaptic dampening."""

    alpha: Annotated[float, Gt(0)] = 10.0
    """Factor of the importance for all data above which a weight is selected: 10 for residual
    networks, 5 for whole classes and transformers, in the paper."""
    dampening: Annotated[float, Gt(0)] = 1.0
    """Factor lambda of the selected weights' multiplier."""
    exponent: Annotated[float, Gt(0)] = 1.0
    """Power of the multiplier, taken before its bound."""
    bound: Annotated[float, Ge(0), Le(1)] = 1.0
    """Largest multiplier."""
    importance: Literal["sample", "batch"] = "sample"
    """Squared gradients that importances are means of: those of single samples, or of batches."""


class SSD(Wrapper[SSDConfig]):
    """A base strategy whose network is dampened on request.

    Attributes:
        full: I_D by parameter name; empty before the first experience is over.
        rows: Samples that it is the mean over.
        selected: Share of the weights that the last request selected.
    """

    @property
    def needs(self) -> Needs:
        """What the base needs; importances are taken from the rows once more."""
        return replace(self.base.needs, rereads=True)

    def setup(self, info: StreamInfo) -> None:
        """Set up the base.

        Raises:
            Incompatible: the base does not answer by one network, or keeps samples where the gym
                cannot remove them.
        """
        super().setup(info)
        wrapped, name = isinstance(self.base, Wrapper), self.config.base.name
        if wrapped or (isinstance(self.base, AvalancheStrategy) and self.base.needs.memory):
            raise Incompatible(
                expected="a base that trains one network by SGD and answers by it alone",
                found=f"{name}, " + ("a wrapper" if wrapped else "with a buffer of Avalanche's"),
                fix="Give --base naive, replay, derpp or avalanche:EWC",
            )
        self.full: dict[str, Tensor] = {}
        self.rows = 0
        self.selected: float | None = None

    def train(self, experience: Experience) -> None:
        """Train the base, then add the importances of this experience."""
        self.base.train(experience)
        own, count = self._importance([experience]), len(experience)
        total = self.rows + count
        self.full = {
            name: (self.rows * self._before(name, value) + count * value) / total
            for name, value in own.items()
        }
        self.rows = total

    def _before(self, name: str, like: Tensor) -> Tensor:
        """The importance so far: zero for rows of the head that are new."""
        return fitted(self.full[name], like) if name in self.full else torch.zeros_like(like)

    def forget(self, request: ForgetRequest) -> None:
        """Dampen what matters for the request."""
        own = self._importance(request.forgotten)
        parameters = {n: p for n, p in self.learner.network.named_parameters() if n in own}
        full = {name: self._before(name, value) for name, value in own.items()}
        c = self.config
        chosen = dampen(parameters, full, own, c.alpha, c.dampening, c.exponent, c.bound)
        count = sum(mask.numel() for mask in chosen.values())
        self.selected = sum(int(mask.sum()) for mask in chosen.values()) / count

    def _importance(self, parts: Iterable[Experience]) -> dict[str, Tensor]:
        """Importances for the rows of experiences, at the present weights."""
        size, behind = self.learner.config.batch_size, self.learner.config.epochs
        batches = (
            (batch.images, batch.labels)
            for part in parts
            for batch in part.batches(size, epoch=behind, shuffle=False, silent=True)
        )
        by = batch_importance if self.config.importance == "batch" else sample_importance
        return by(self.learner.network, batches)

    def costs(self) -> dict[str, float]:
        """The base's, and the share of weights that the last request selected."""
        own = {} if self.selected is None else {"selected_share": self.selected}
        return {**super().costs(), **own}


def batch_importance(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    """Mean over batches of the squared gradient of a batch's mean cross-entropy, by parameter name.

    Args:
        model: Logits of images; answers in evaluation mode and is left as it was.
        batches: The last may be smaller and counts as much as the others.
    """
    was_training, count = model.training, 0
    model.eval()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in trained.items()}
    for images, labels in batches:
        loss = cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        for name, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.square()
        count += 1
    model.train(was_training)
    return {name: value.detach() / count for name, value in total.items()}


def sample_importance(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    """Mean over samples of the squared gradient of a sample's cross-entropy, by parameter name."""
    total: dict[str, Tensor] = {}
    count = 0
    for images, labels in batches:
        found = fisher_sum(model, images, labels, "eval", weighted=False)
        total = {name: total.get(name, 0) + value for name, value in found.items()}
        count += len(labels)
    return {name: value / count for name, value in total.items()}


@torch.no_grad()
def dampen(
    parameters: Mapping[str, Tensor],
    full: Mapping[str, Tensor],
    forget: Mapping[str, Tensor],
    alpha: float,
    dampening: float = 1.0,
    exponent: float = 1.0,
    bound: float = 1.0,
) -> dict[str, Tensor]:
    """Dampen, in place, what matters more than ``alpha`` times as much for what is to be forgotten.

    Args:
        parameters: By name.
        full: Importances for all data.
        forget: Importances for the rows to be forgotten.
        alpha: Factor above which a weight is selected; the comparison is strict.
        dampening: Factor of the multiplier.
        exponent: Its power, taken before the bound.
        bound: Largest multiplier.

    Returns:
        Which weights were selected, bool by name.
    """
    chosen: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        mask = forget[name] > alpha * full[name]
        ratio = dampening * full[name][mask] / forget[name][mask]
        parameter[mask] = parameter[mask] * ratio.pow(exponent).clamp(max=bound)
        chosen[name] = mask
    return chosen
