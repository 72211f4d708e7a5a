"""Class means of pixels to a power: one option that matters, one that makes it fail."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge

from clgym.strategy import Config, Strategy

SPACE = {"power": [0.5, 1.0, 2.0, 4.0], "batch_size": [64, 128, 256]}
STABILITY = {"power": 4.0}
FULL_DISK = ""
FULL_DISK_AT = ()
OUT_OF_MEMORY_AT = ()


def die_once():
    """End the process, unless an earlier one left a note in the learner's folder."""
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("request"), "checkpoint"):
        frame = frame.f_back
    note = Path(frame.f_locals["request"].checkpoint).with_name("died")
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class PowerConfig(Config):
    """Options."""

    power: Annotated[float, Ge(0)] = 1.0
    """Exponent."""
    fails: float = -1.0
    """Power at which it raises."""
    lr: float = 0.1
    """Nothing."""
    batch_size: int = 64
    """Images a batch."""


class Power(Strategy):
    Config = PowerConfig

    def setup(self, info):
        super().setup(info)
        self.means = torch.zeros(0, 0)

    def features(self, images):
        return images.flatten(1) ** self.config.power

    def train(self, experience):
        if self.config.power == self.config.fails:
            raise ValueError("this setting fails")
        if self.config.power in FULL_DISK_AT and Path(FULL_DISK).exists():
            raise ValueError("the disk is full")
        if self.config.power in OUT_OF_MEMORY_AT:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if experience.index == 1 and Path(__file__).with_name("dies").exists():
            die_once()
        found = {}
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            for feature, label in zip(
                self.features(batch.images), batch.labels.tolist(), strict=True
            ):
                found.setdefault(label, []).append(feature)
        means = [torch.stack(found[c]).mean(0) for c in experience.classes]
        self.means = torch.stack([*self.means, *means])

    def predict(self, batch):
        return -torch.cdist(self.features(batch.images), self.means)

    def state_dict(self):
        return {"means": self.means}

    def load_state_dict(self, state):
        self.means = state["means"]
