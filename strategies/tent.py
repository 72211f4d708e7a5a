"""TENT: scale and shift of normalisation layers follow the gradient of the entropy.

Wang, Shelhamer, Liu, Olshausen, Darrell, "Tent: Fully Test-Time Adaptation by Entropy
Minimization", ICLR 2021, https://arxiv.org/abs/2006.10726. Batch statistics as in bn-1; loss: mean
entropy of the softmax; the answer is that of the forward pass which the loss is computed from.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from clgym.adaptation import AdaptConfig, AdaptStrategy, make_optimizer
from clgym.config import Search
from clgym.errors import Incompatible
from clgym.models.norm import affine_parameters, use_batch_statistics


@dataclass(frozen=True)
class TentConfig(AdaptConfig):
    """Options of `Tent`."""

    optimizer: Annotated[Literal["adam", "sgd"], Search("adam", "sgd")] = "adam"
    """Adam (CIFAR), or SGD with Nesterov momentum 0.9 (ImageNet, at lr 0.00025)."""
    lr: Annotated[float, Ge(0), Search(low=1e-5, high=1e-2, log=True)] = 1e-3
    """Learning rate."""


class Tent(AdaptStrategy[TentConfig]):
    """Entropy minimisation over gamma and beta."""

    DETERMINISTIC = True

    def prepare(self) -> None:
        """Batch statistics; gradients for scale and shift alone."""
        use_batch_statistics(self.model)
        parameters = [value.requires_grad_() for _, value in affine_parameters(self.model)]
        if not parameters:
            raise Incompatible(
                expected="a network with normalisation layers, which tent adapts",
                found="none in the classifier",
                fix="Give --model a network that has them, or take lame or source",
            )
        self.optimizer = make_optimizer(self.config.optimizer, parameters, self.config.lr)

    def step(self, images: Tensor) -> Tensor:
        """One step down the mean entropy."""
        logits = self.model(images)
        loss = entropy(logits).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return logits


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax of each row, in nats, [n]."""
    return -(logits.softmax(1) * torch.log_softmax(logits, 1)).sum(1)
