"""SAR: sharpness-aware entropy minimisation on reliable samples, with a way back from collapse.

Niu et al., "Towards Stable Test-Time Adaptation in Dynamic Wild World", ICLR 2023,
https://arxiv.org/abs/2302.12400. Samples of low entropy count; a first gradient leads up to the
sharpest point within ``rho``, the gradient there is the one that is followed. When the moving
average of the loss falls below ``collapse`` the classifier returns to the source. All normalisation
layers adapt; the authors leave out those of the last stage of ImageNet networks.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from clgym.adaptation import AdaptConfig, AdaptStrategy
from clgym.config import Range
from clgym.errors import Incompatible
from clgym.models.norm import affine_parameters, use_batch_statistics

SPACE = {
    "lr": {"low": 1e-5, "high": 1e-2, "log": True},
    "rho": [0.02, 0.05, 0.1],
    "entropy": {"low": 0.2, "high": 0.8},
}


@dataclass(frozen=True)
class SARConfig(AdaptConfig):
    """Options of `SAR`."""

    lr: Annotated[float, Range(0)] = 0.00025
    """Learning rate of SGD with momentum 0.9."""
    entropy: Annotated[float, Range(0, 1)] = 0.4
    """Samples count whose entropy is below this share of a uniform guess's."""
    rho: Annotated[float, Range(0, exclusive=True)] = 0.05
    """How far, in Euclidean norm, the sharpest point is looked for."""
    collapse: Annotated[float, Range(0)] = 0.2
    """Moving average of the loss below which it returns to the source; 0 never."""


class SAR(AdaptStrategy):
    """Sharpness-aware and reliable entropy minimisation."""

    Config = SARConfig
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
        moved = self._climb()
        sharp = _entropy(self.model(images))[counts]
        sharp = sharp[sharp.detach() < limit]
        self.optimizer.zero_grad()
        if len(sharp):
            loss = sharp.mean()
            loss.backward()
        with torch.no_grad():
            for value, move in zip(self._weights, moved, strict=True):
                value.sub_(move)
        if len(sharp):
            self.optimizer.step()
            self._watch(sharp.mean().item())
        return logits

    @torch.no_grad()
    def _climb(self) -> list[Tensor]:
        """Move the weights by rho along their gradient; the moves."""
        gradients = [torch.zeros_like(v) if v.grad is None else v.grad for v in self._weights]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        moves = [g * (self.config.rho / (norm + 1e-12)) for g in gradients]
        for value, move in zip(self._weights, moves, strict=True):
            value.add_(move)
        return moves

    def _watch(self, loss: float) -> None:
        """Return to the source where the loss has become suspiciously low."""
        self.average = loss if self.average is None else 0.9 * self.average + 0.1 * loss
        if self.average < self.config.collapse:
            self.reset()


def _entropy(logits: Tensor) -> Tensor:
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1)
