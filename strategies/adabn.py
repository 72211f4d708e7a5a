"""AdaBN: target statistics in batch normalisation, accumulated or blended with the source's.

Li et al. 2016 (arXiv 1603.04779), in the two online forms that are compared in practice:

* ``ema``: a first pass moves the running statistics by ``momentum``; a second one answers.
* ``blend`` (Schneider et al., NeurIPS 2020): mean = (1 - a) mean_source + a mean_batch and the same
  for the variance, a = ``momentum``; nothing is carried from batch to batch. The batch's variance
  is the unbiased one, as it would pass through a running statistic.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from clgym.adaptation import AdaptConfig, AdaptStrategy
from clgym.config import Search
from clgym.models.norm import batch_norms


@dataclass(frozen=True)
class AdaBNConfig(AdaptConfig):
    """Options of `AdaBN`."""

    mode: Annotated[Literal["ema", "blend"], Search("ema", "blend")] = "ema"
    """Accumulate over the stream, or blend each batch with the source."""
    momentum: Annotated[float, Ge(0), Le(1), Search(low=0.01, high=0.5, log=True)] = 0.1
    """Weight of the current batch."""


class AdaBN(AdaptStrategy[AdaBNConfig]):
    """Target statistics, no gradients."""

    DETERMINISTIC = True

    def prepare(self) -> None:
        """Let running statistics move by the momentum, or have each layer blend its own."""
        self._layers = batch_norms(self.model, "adabn")
        for layer in self._layers:
            layer.momentum = self.config.momentum
            if self.config.mode == "blend":
                layer.register_forward_hook(self._blended)

    @torch.no_grad()
    def step(self, images: Tensor) -> Tensor:
        """Accumulate in one pass whose output is discarded, then answer."""
        if self.config.mode == "ema":
            for layer in self._layers:
                layer.train()
            self.model(images)
            self.model.eval()
        return self.answer(images)

    def _blended(self, layer: _BatchNorm, inputs: tuple[Any, ...], _: Tensor) -> Tensor:
        """The layer's output under blended statistics, in place of the source's."""
        x, share = inputs[0], self.config.momentum
        assert layer.running_mean is not None and layer.running_var is not None
        over = [0, *range(2, x.ndim)]
        mean = torch.lerp(layer.running_mean, x.mean(over), share)
        variance = torch.lerp(layer.running_var, x.var(over, unbiased=True), share)
        return F.batch_norm(x, mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps)
