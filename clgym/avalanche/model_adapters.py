"""Adapters that give the network the form in which each Avalanche strategy takes its model."""

from typing import Any

import torch
from avalanche.models import DynamicModule, SCRModel
from avalanche.models.base_model import BaseModel
from torch import Tensor, nn

from clgym.avalanche.packnet import Packed
from clgym.models.networks import Classifier

__all__ = ["adaptive", "arguments"]

_EMBEDDING = 128
"""Width of the projection of supervised contrastive replay, as in its paper."""


class _Adaptive(Classifier, DynamicModule, BaseModel):
    """A classifier whose head grows to the classes seen when Avalanche adapts its model."""

    _auto_adapt = True

    def adaptation(self, experience: Any) -> None:
        if isinstance(self.head, nn.Linear):
            self.grow(len(experience.classes_seen_so_far))

    # Avalanche's own lacks the annotation: its body, a docstring, is taken for None.
    def get_features(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor
    ) -> Tensor:
        return self.features(x)


class _Features(nn.Module):
    """The part of a network before its head, as a separate module."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone((images - self.mean) / self.std)


class _Head(DynamicModule):
    """A linear head that grows."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.linear = head

    def adaptation(self, experience: Any) -> None:
        columns = len(experience.classes_seen_so_far)
        old = self.linear
        if columns > old.out_features:
            new = nn.Linear(old.in_features, columns).to(old.weight)
            with torch.no_grad():
                new.weight[: old.out_features] = old.weight
                new.bias[: old.out_features] = old.bias
            self.linear = new

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


def adaptive(network: Classifier) -> Classifier:
    """The same network, whose head grows when Avalanche adapts its model."""
    network.__class__ = _Adaptive
    return network


def arguments(body: str, network: Classifier) -> dict[str, object]:
    """The network as arguments of a strategy's constructor; ``body`` is that of its `Recipe`."""
    if body == "split":
        return {"feature_extractor": _Features(network), "classifier": _Head(network.head)}
    if body == "features":
        return {"slda_model": _Features(network)}
    if body == "contrastive":
        width = network.head.in_features
        device = network.head.weight.device
        layers = (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _EMBEDDING))
        projection = nn.Sequential(*layers).to(device)
        return {"model": SCRModel(_Features(network), projection)}
    if body == "packed":
        return {"model": Packed(network)}
    return {"model": network}
