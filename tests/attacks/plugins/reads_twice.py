"""Reads every experience many times, and never says that it is another epoch."""

from dataclasses import dataclass

import torch
from torch import nn

from clgym.strategy import Config, Strategy


@dataclass(frozen=True)
class ReadsTwiceConfig(Config):
    """Options."""

    passes: int = 20
    """Passes over each experience."""


class ReadsTwice(Strategy):
    """A linear classifier by SGD."""

    Config = ReadsTwiceConfig

    def setup(self, info):
        super().setup(info)
        self.net, self.seen = nn.Linear(info.image_shape[1] * info.image_shape[2], 10), 0

    def train(self, experience):
        self.seen = experience.columns
        optimizer = torch.optim.SGD(self.net.parameters(), 0.01)
        for _ in range(self.config.passes):
            for batch in experience.batches(10):
                logits = self.net(batch.images.flatten(1))[:, list(experience.classes)]
                labels = batch.labels - min(experience.classes)
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits, labels).backward()
                optimizer.step()

    def predict(self, batch):
        return self.net(batch.images.flatten(1))[:, : self.seen]

    def state_dict(self):
        return {"net": self.net.state_dict(), "seen": self.seen}

    def load_state_dict(self, state):
        self.net.load_state_dict(state["net"])
        self.seen = state["seen"]
