"""A strategy that fails unless its option has the value that a variable names."""

import os
from dataclasses import dataclass

import torch

from clgym.strategy import Config, Strategy


@dataclass(frozen=True)
class HeedsVariableConfig(Config):
    """Options."""

    value: float = 1.0
    """Value that is to win."""


SPACE = {"value": [0.5, 1.0, 2.0]}


class HeedsVariable(Strategy):
    Config = HeedsVariableConfig

    def setup(self, info):
        super().setup(info)
        self.known = 0

    def train(self, experience):
        if os.environ.get("WINNER", str(self.config.value)) != str(self.config.value):
            raise ValueError("another value is to win")
        self.known += len(experience.classes)

    def predict(self, batch):
        return torch.zeros(len(batch.images), self.known)

    def state_dict(self):
        return {"known": self.known}

    def load_state_dict(self, state):
        self.known = state["known"]
