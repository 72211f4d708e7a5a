"""A test-time method with a bank of past images, declared or not."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge

from clgym.adaptation import AdaptConfig, AdaptStrategy
from clgym.strategy import Needs


@dataclass(frozen=True)
class TestTimeBankConfig(AdaptConfig):
    """Options."""

    bank: Annotated[int, Ge(1)] = 32
    """Images in the bank."""
    declared: bool = False
    """Whether the bank is declared, and kept in `info.memory`."""
    declared_size: Annotated[int, Ge(0)] = 32
    """Images that are declared."""


class TestTimeBank(AdaptStrategy):
    """Normalises by the statistics of the bank."""

    Config = TestTimeBankConfig

    @property
    def needs(self):
        size = self.config.declared_size if self.config.declared else 0
        return Needs(settings=("adaptation",), classifier=self.config.model, memory=size)

    def prepare(self):
        self.past = torch.zeros(0, *self.info.image_shape)

    def step(self, images):
        bank, size = self.info.memory, self.config.bank
        if self.config.declared:
            bank.replace(images=images[:size])
        else:
            self.past = torch.cat([images, self.past])[:size]
        logits = super().step(images)
        self.log(confidence=float(logits.softmax(1).max(1).values.mean()), size=len(images))
        return logits
