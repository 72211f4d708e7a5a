"""Class means that learn at the rate of their seed alone, so that streams choose other rates."""

from dataclasses import dataclass

import torch

from clgym.strategy import Config, Strategy

STABILITY = {"stiffness": 4.0}


@dataclass(frozen=True)
class RatedConfig(Config):
    """Options."""

    lr: float = 0.0
    """Rate, which must be the seed."""
    stiffness: float = 0.0
    """Nothing."""
    batch_size: int = 64
    """Images a batch."""


class Rated(Strategy):
    Config = RatedConfig

    def setup(self, info):
        super().setup(info)
        self.means = torch.zeros(0, 0)

    def train(self, experience):
        found = {}
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            for image, label in zip(batch.images.flatten(1), batch.labels.tolist(), strict=True):
                found.setdefault(label, []).append(image)
        means = [torch.stack(found[c]).mean(0) for c in experience.classes]
        self.means = torch.stack([*self.means, *means])

    def predict(self, batch):
        near = -torch.cdist(batch.images.flatten(1), self.means)
        return near if self.config.lr == self.info.seed else -near

    def state_dict(self):
        return {"means": self.means}

    def load_state_dict(self, state):
        self.means = state["means"]
