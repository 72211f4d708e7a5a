"""EATA: entropy minimisation on reliable, new-looking samples; a Fisher penalty holds the rest.

Niu et al., "Efficient Test-Time Model Adaptation without Forgetting", ICML 2022,
https://arxiv.org/abs/2204.02610. Of a batch, samples count whose entropy E is below E0 and whose
softmax is not like the running mean of those that counted before (|cosine| below ``margin``)::

    L = mean_counted[ exp(E0 - E) E ] + fisher * sum_i F_i (w_i - w_source_i)^2

F: squared gradients of the cross-entropy against the classifier's own labels on source images.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from clgym.adaptation import AdaptConfig, AdaptStrategy
from clgym.config import Search
from clgym.models.norm import affine_parameters, batch_norms, use_batch_statistics
from clgym.strategy import Needs


@dataclass(frozen=True)
class EATAConfig(AdaptConfig):
    """Options of `EATA`."""

    lr: Annotated[float, Ge(0), Search(low=1e-5, high=1e-2, log=True)] = 0.005
    """Learning rate of SGD with momentum 0.9: 0.005 CIFAR, 0.00025 ImageNet."""
    entropy: Annotated[float, Ge(0), Le(1)] = 0.4
    """E0 as a share of the entropy of a uniform guess."""
    margin: Annotated[float, Ge(0), Le(1), Search(0.05, 0.2, 0.4)] = 0.4
    """Largest cosine with what was seen: 0.4 CIFAR-10, 0.05 ImageNet."""
    fisher: Annotated[float, Ge(0), Search(0.0, 1.0, 2000.0)] = 1.0
    """Weight of the Fisher penalty: 1 CIFAR, 2000 ImageNet; 0 needs no source data."""
    fisher_images: Annotated[int, Ge(1)] = 2000
    """Source images that F is computed from."""


class EATA(AdaptStrategy[EATAConfig]):
    """Sample-efficient entropy minimisation with anti-forgetting."""

    CHECK_CONFIG = {"entropy": 1.0, "margin": 1.0, "fisher_images": 16}  # all samples count

    @property
    def needs(self) -> Needs:
        """Source data for F, unless its weight is 0."""
        source = self.config.fisher > 0
        return Needs(settings=("adaptation",), classifier=self.config.model, source_data=source)

    def prepare(self) -> None:
        """Batch statistics; F of scale and shift; no samples seen."""
        batch_norms(self.model, "eata")
        use_batch_statistics(self.model)
        self._weights = [value.requires_grad_() for _, value in affine_parameters(self.model)]
        self._source = [value.detach().clone() for value in self._weights]
        self._fisher = self._importance()
        self.optimizer = torch.optim.SGD(self._weights, self.config.lr, momentum=0.9)
        self.mean: Tensor | None = None

    def _importance(self) -> list[Tensor]:
        """Mean over source batches of the squared gradients."""
        totals = [torch.zeros_like(value) for value in self._weights]
        if self.config.fisher == 0:
            return totals
        assert self.info.source_data is not None
        size = max(2, self.info.batch_size or 2)
        batches = max(1, self.config.fisher_images // size)
        for number in range(batches):
            images, _ = self.info.source_data.batch(size, number)
            logits = self.model(images)
            loss = cross_entropy(logits, logits.argmax(1))
            gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total += gradient**2 / batches
        return totals

    def step(self, images: Tensor) -> Tensor:
        """One step on the samples that count, if any do."""
        logits = self.model(images)
        logs = logits.log_softmax(1)
        entropy = -(logs.exp() * logs).sum(1)
        limit = self.config.entropy * math.log(logits.shape[1])
        counts = entropy.detach() < limit
        if self.mean is not None:
            alike = cosine_similarity(logits.detach().softmax(1), self.mean[None])
            counts &= alike.abs() < self.config.margin
        if not counts.any():
            return logits
        self._remember(logits[counts].detach().softmax(1))
        entropy = entropy[counts]
        loss = (torch.exp(limit - entropy.detach()) * entropy).mean() + self._penalty()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return logits

    def _remember(self, probabilities: Tensor) -> None:
        new = probabilities.mean(0)
        self.mean = new if self.mean is None else 0.9 * self.mean + 0.1 * new

    def _penalty(self) -> Tensor:
        parts = zip(self._fisher, self._weights, self._source, strict=True)
        total = torch.stack([(f * (w - s) ** 2).sum() for f, w, s in parts]).sum()
        return self.config.fisher * total
