"""`Classifier`: a backbone and a linear head, which a strategy is given or builds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """A backbone and a linear head; images are in [0, 1] and are normalised inside."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        columns: int,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        """Add a head of ``columns`` outputs to ``backbone``.

        Args:
            backbone: Module from images [n, C, H, W] to features [n, width].
            width: Length of a feature vector.
            columns: Number of classes at the beginning.
            mean: Mean by channel; empty or zeros if unknown.
            std: Standard deviation by channel; empty or zeros if unknown, which means no scaling.
        """
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(width, columns)
        self.register_buffer("mean", torch.tensor(list(mean) or [0.0]).view(-1, 1, 1))
        scale = [s if s > 0 else 1.0 for s in std] or [1.0]
        self.register_buffer("std", torch.tensor(scale).view(-1, 1, 1))

    @property
    def columns(self) -> int:
        """Number of classes of the head."""
        return self.head.out_features

    def features(self, images: Tensor) -> Tensor:
        """Features [n, width] of images in [0, 1]."""
        return self.backbone((images - self.mean) / self.std)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, columns] of features."""
        return self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, columns] of images in [0, 1]."""
        return self.logits(self.features(images))

    def grow(self, columns: int) -> None:
        """Widen the head; the rows of the old classes are kept exactly.

        The parameters are new objects, so create the optimizer afterwards.
        """
        if columns <= self.columns:
            return
        old = self.head
        new = nn.Linear(old.in_features, columns, bias=old.bias is not None).to(old.weight)
        with torch.no_grad():
            new.weight[: old.out_features] = old.weight
            if old.bias is not None:
                new.bias[: old.out_features] = old.bias
        self.head = new.train(old.training)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the width of the state first; torch loads a module before its children."""
        if isinstance(weight := state_dict.get(f"{prefix}head.weight"), Tensor):
            if len(weight) < self.columns:
                old = self.head
                self.head = nn.Linear(old.in_features, len(weight), old.bias is not None)
                self.head.to(old.weight)
            self.grow(len(weight))
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
