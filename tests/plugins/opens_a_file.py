"""Tries to open a file wherever it learns."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from clgym.strategies.source import Source
from clgym.strategy import Config, Needs, Strategy

PATH = ""
SOURCE = False


def attempt() -> str:
    try:
        np.load(PATH)
        return "GOT"
    except OSError as error:
        return type(error).__name__


@dataclass(frozen=True)
class FileConfig(Config):
    """Its option."""

    file: str = "none"
    """A file that it would like to open."""


class InTwoPhases(Strategy[FileConfig]):
    """While it learns, and while it adapts; it answers the first class."""

    @property
    def needs(self) -> Needs:
        return Needs(settings=("class-incremental", "learn-then-shift"))

    def setup(self, info) -> None:
        self.info, self.columns, self.learning, self.adapting = info, 0, "", ""

    def train(self, experience) -> None:
        self.columns, self.learning = experience.columns, attempt()

    def predict(self, batch) -> torch.Tensor:
        return torch.zeros(len(batch), self.columns)

    def adapt(self, batch) -> torch.Tensor:
        self.adapting = attempt()
        return torch.zeros(len(batch), self.columns)


class InAdaptation(Source):
    """While it adapts; it answers what the classifier does."""

    learning = adapting = ""

    @property
    def needs(self) -> Needs:
        return replace(super().needs, source_data=SOURCE)

    def adapt(self, batch) -> torch.Tensor:
        self.learning = self.adapting = attempt()
        return super().adapt(batch)
