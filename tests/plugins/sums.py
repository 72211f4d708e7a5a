"""Keeps sums of pixels that no prediction depends on."""

import torch

from clgym.strategy import Needs, Strategy

BUDGET = 4000


class Sums(Strategy):
    """One parameter a class, and statistics beside them."""

    @property
    def needs(self):
        return Needs(memory_bytes=BUDGET)

    def setup(self, info):
        super().setup(info)
        self.weights, self.statistics = torch.zeros(10), torch.zeros(500)

    def train(self, experience):
        for batch in experience.batches(100):
            self.statistics[experience.index] += batch.images.sum()

    def predict(self, batch):
        logits = batch.images.flatten(1).sum(1, keepdim=True) * self.weights[None]
        return logits[:, : 2 * int((self.statistics != 0).sum())]
