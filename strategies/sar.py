"""SAR: sharpness-aware entropy minimisation on reliable samples, with a way back from collapse.

Niu et al., "Towards Stable Test-Time Adaptation in Dynamic Wild World", ICLR 2023,
https://arxiv.org/abs/2302.12400. Samples of low entropy count; a first gradient leads up to the
sharpest point within ``rho``, the gradient there is the one that is followed. Where no sample is
below the limit at that point, the momentum alone moves the weights. When the moving average of the
loss falls below ``collapse`` the classifier returns to the source; the record counts how often
(``cost.own.resets``). Both limits are shares of the entropy of a uniform guess, so that they mean
the same on 10 classes and on 1000. All normalisation layers adapt; the authors leave out those of
the last stage of ImageNet networks.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from clgym.adaptation import AdaptConfig, AdaptStrategy
from clgym.config import Search
from clgym.errors import Incompatible
from clgym.models.norm import affine_parameters, use_batch_statistics


@dataclass(frozen=True)
class SARConfig(AdaptConfig):
    """Options of `SAR`."""

    lr: Annotated[float, Ge(0), Search(low=1e-5, high=1e-2, log=True)] = 0.00025
    """Learning rate of SGD with momentum 0.9."""
    entropy: Annotated[float, Ge(0), Le(1), Search(low=0.2, high=0.8)] = 0.4
    """Samples count whose entropy is below this share of a uniform guess's."""
    rho: Annotated[float, Gt(0), Search(0.02, 0.05, 0.1)] = 0.05
    """How far, in Euclidean norm, the sharpest point is looked for."""
    collapse: Annotated[float, Ge(0)] = 0.2 / math.log(1000)
    """Moving average of the loss, as a share of a uniform guess's entropy, below which the
    classifier returns to the source; 0 never. The authors' 0.2 nats on 1000 classes by default."""


class SAR(AdaptStrategy[SARConfig]):
    """Sharpness-aware and reliable entropy minimisation."""

    DETERMINISTIC = True

    def prepare(self) -> None:
        """Batch statistics; gradients for scale and shift alone."""
        use_batch_statistics(self.model)
        self._weights = [value.requires_grad_() for _, value in affine_parameters(self.model)]
        if not self._weights:
            raise Incompatible(
                expected="a network with normalisation layers, which sar adapts",
                found="none in the classifier",
                fix="Give --model a network that has them, or take lame or source",
            )
        self.optimizer = torch.optim.SGD(self._weights, self.config.lr, momentum=0.9)
        self.average: float | None = None
        self.resets = 0

    def step(self, images: Tensor) -> Tensor:
        """Up to the sharpest point, down along the gradient there."""
        logits = self.model(images)
        limit = self.config.entropy * math.log(logits.shape[1])
        entropy = _entropy(logits)
        counts = entropy.detach() < limit
        if not counts.any():
            return logits
        self.optimizer.zero_grad()
        entropy[counts].mean().backward()
        before = self._climb()
        sharp = _entropy(self.model(images))[counts]
        sharp = sharp[sharp.detach() < limit]
        self.optimizer.zero_grad(set_to_none=False)  # without samples the momentum alone moves
        if len(sharp):
            sharp.mean().backward()
        with torch.no_grad():
            for value, old in zip(self._weights, before, strict=True):
                value.copy_(old)
        self.optimizer.step()
        if len(sharp):
            self._watch(sharp.mean().item(), math.log(logits.shape[1]))
        return logits

    @torch.no_grad()
    def _climb(self) -> list[Tensor]:
        """Move the weights by rho along their gradient; what they were before, bit for bit."""
        before = [value.clone() for value in self._weights]
        gradients = [torch.zeros_like(v) if v.grad is None else v.grad for v in self._weights]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        for value, gradient in zip(self._weights, gradients, strict=True):
            value.add_(gradient * (self.config.rho / (norm + 1e-12)))
        return before

    def _watch(self, loss: float, uniform: float) -> None:
        """Return to the source where the loss has become suspiciously low.

        Args:
            loss: Mean entropy of the samples that count, in nats.
            uniform: Entropy of a uniform guess.
        """
        self.average = loss if self.average is None else 0.9 * self.average + 0.1 * loss
        if self.average < self.config.collapse * uniform:
            self._return_to_source()

    def _return_to_source(self) -> None:
        """Take back what was learned. The stream goes on, so the window of last images stays."""
        recent, singles = self._recent, self._singles
        self.reset()
        self._recent, self._singles = recent, singles
        self.resets += 1

    def reset(self) -> None:
        """Go back to the state after `setup`; returns to the source stay counted."""
        resets = self.resets
        super().reset()
        self.resets = resets

    def costs(self) -> dict[str, float]:
        """How often the classifier returned to the source."""
        return {"resets": float(self.resets)}


def _entropy(logits: Tensor) -> Tensor:
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1)
