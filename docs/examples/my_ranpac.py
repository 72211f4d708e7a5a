"""RanPAC: class prototypes after a random projection of frozen features, decorrelated by a ridge.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning",
NeurIPS 2023, https://arxiv.org/abs/2307.02251. With h = relu(f P) for features f and a fixed
Gaussian P, and one-hot labels y: G = sum h'h, C = sum h'y, logits = h (G + ridge I)^-1 C. No first
session of fine-tuning, and the ridge is an option instead of being chosen on a part of the data.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor

from clgym.config import Search
from clgym.models.pretrained import PretrainedConfig, PretrainedStrategy
from clgym.strategy import Batch, Experience, StreamInfo


@dataclass(frozen=True)
class RanPACConfig(PretrainedConfig):
    """Options of RanPAC."""

    units: Annotated[int, Ge(1), Search(500, 2000)] = 500
    """Length of a projected feature vector."""
    ridge: Annotated[float, Gt(0), Search(low=1.0, high=1e6, log=True)] = 100.0
    """Value added to the diagonal of G."""


class RanPAC(PretrainedStrategy[RanPACConfig]):
    """Keeps sums over images only, and no data of a single image."""

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "units": 32,
    }

    def setup(self, info: StreamInfo) -> None:
        """Begin with no class; P is drawn when the length of a feature is known."""
        super().setup(info)
        self.projection: Tensor | None = None
        self.gram = torch.zeros(self.config.units, self.config.units, device=info.device)
        self.sums = torch.zeros(self.config.units, 0, device=info.device)

    def train(self, experience: Experience) -> None:
        """Add one experience to the sums."""
        self.sums = F.pad(self.sums, (0, experience.columns - self.sums.shape[1]))
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            features = self.features(batch)
            if self.projection is None:
                shape = features.shape[1], self.config.units
                self.projection = torch.randn(shape, generator=self.rng("P")).to(features)
            h = (features @ self.projection).relu()
            self.gram += h.T @ h
            self.sums += h.T @ F.one_hot(batch.labels, experience.columns).to(h)

    def predict(self, batch: Batch) -> Tensor:
        """Logits of the ridge solution."""
        assert self.projection is not None
        ridge = self.config.ridge * torch.eye(len(self.gram)).to(self.gram)
        weights = torch.linalg.solve(self.gram + ridge, self.sums)
        return (self.features(batch) @ self.projection).relu() @ weights
