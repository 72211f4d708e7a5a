"""Answers that need a task id, and options of every kind."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from clgym.strategy import Config, Needs, Strategy


@dataclass(frozen=True)
class Options(Config):
    seed: int = 3
    """A name that the run has too."""
    fast: bool = False
    """A switch."""
    widths: tuple[Annotated[int, Ge(1)], ...] = (8, 4)
    """A list."""
    kind: Literal["plain", "odd"] = "plain"
    """A choice."""
    share: Annotated[float, Ge(0), Le(1)] | None = None
    """Fewer than 100 % of the rows."""


class Guess(Strategy):
    Config = Options

    @property
    def needs(self):
        return Needs(task_ids=self.config.kind == "odd")

    def train(self, experience):
        self.columns = experience.columns

    def predict(self, batch):
        return torch.zeros(len(batch), self.columns)

    def state_dict(self):
        return {"columns": self.columns}

    def load_state_dict(self, state):
        self.columns = state["columns"]
