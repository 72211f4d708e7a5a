"""CoTTA: a student follows the averaged views of its slow teacher; some weights are restored.

Wang, Fink, Van Gool, Dai, "Continual Test-Time Domain Adaptation", CVPR 2022,
https://arxiv.org/abs/2203.13591. Student, teacher and anchor (the frozen source) all normalise by
the batch. Where the anchor's mean confidence is below ``threshold`` the target is the mean of the
teacher's logits over augmented copies, else the teacher's on the clean batch; the target is also
the answer. After the step and the teacher's average, each weight returns to its source value with a
small probability.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.adaptation import (
    AdaptConfig,
    AdaptStrategy,
    make_optimizer,
    move_average,
    symmetric_cross_entropy,
    weights_and_biases,
)
from clgym.config import Search
from clgym.data.view import random_view
from clgym.models.norm import use_batch_statistics


@dataclass(frozen=True)
class CottaConfig(AdaptConfig):
    """Options of `Cotta`."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer: Adam (CIFAR), or SGD with Nesterov momentum 0.9 (ImageNet, at lr 0.01)."""
    lr: Annotated[float, Ge(0), Search(low=1e-5, high=1e-2, log=True)] = 1e-3
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.999
    """Decay of the teacher's exponential moving average."""
    threshold: Annotated[float, Ge(0), Search(0.1, 0.72, 0.92)] = 0.92
    """Anchor confidence below which augmented views are averaged: 0.92 CIFAR-10, 0.72 CIFAR-100,
    0.1 others."""
    views: Annotated[int, Ge(1)] = 32
    """Number of augmented views that are averaged."""
    restore: Annotated[float, Ge(0), Le(1), Search(0.0, 0.001, 0.01, 0.03)] = 0.01
    """Probability that a weight returns to its source value: 0.01 CIFAR, 0.001 others."""
    loss: Literal["ce", "symmetric"] = "ce"
    """Loss against the target: cross-entropy (CIFAR) or its symmetric form (others)."""


class Cotta(AdaptStrategy[CottaConfig]):
    """Weight-averaged, augmentation-averaged targets and stochastic restoring."""

    CHECK_CONFIG = {"views": 2}
    transient = ("anchor",)

    def prepare(self) -> None:
        """Student, teacher and anchor, all with batch statistics."""
        use_batch_statistics(self.model)
        self.teacher = copy.deepcopy(self.model)
        self.anchor = copy.deepcopy(self.model)
        self._weights = weights_and_biases(self.model)
        parameters = [value.requires_grad_() for value in self._weights.values()]
        self.optimizer = make_optimizer(self.config.optimizer, parameters, self.config.lr)

    def step(self, images: Tensor) -> Tensor:
        """One step towards the target, which is the answer."""
        student, target = self.model(images), self.answer(images)
        if self.config.loss == "ce":
            loss = cross_entropy(student, target.softmax(1))
        else:
            loss = symmetric_cross_entropy(student, target).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        move_average(self.teacher, self.model, self.config.momentum)
        self._restore()
        return target

    @torch.no_grad()
    def answer(self, images: Tensor) -> Tensor:
        """The teacher's logits: of the clean batch, or averaged views where the anchor doubts."""
        confidence = self.anchor(images).softmax(1).max(1).values.mean()
        if confidence >= self.config.threshold:
            return self.teacher(images)
        total = self.teacher(self.view(images))
        for _ in range(self.config.views - 1):
            total += self.teacher(self.view(images))
        return total / self.config.views

    def view(self, images: Tensor) -> Tensor:
        """One augmented copy of the batch."""
        return random_view(images)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        """Numbers in [0, 1) that decide which entries of a weight are restored."""
        return torch.rand_like(like)

    @torch.no_grad()
    def _restore(self) -> None:
        source = weights_and_biases(self.anchor)
        for name, value in self._weights.items():
            back = self.uniform(name, value) < self.config.restore
            value.copy_(torch.where(back, source[name], value))
