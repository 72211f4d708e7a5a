"""Repeated random subsets: each epoch trains on a new share of the rows, so that it costs a share.

Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR
2024; released code PatrikOkanovic/RS2 99edfc8. Of n rows an epoch has ``m = round(n * fraction)``,
halves going to the even number. Nothing is scored, which makes it the honest cheap baseline for
whatever selects samples. Only the rows of the experience are drawn; a memory stays as it is.

* ``without-replacement`` cuts one random order of all rows into blocks of m; when fewer are left
they
  are dropped and a new order is drawn. ``released`` takes the rest of the order then and goes on at
  the order's own start, with one row too few; the next epoch has a new order.
* ``with-replacement`` draws m different rows in every epoch, whatever was drawn before.

As in the released code a last batch that is not full is dropped, save with replacement, or where it
is the only one: an epoch has at least one row.

``--budget steps`` trains for epochs / fraction epochs, as many steps as the base takes without it:
the control that tells fewer steps from other samples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor

from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.strategy import Experience

SPACE = {"fraction": [0.1, 0.25, 0.5]}

Mode = Literal["without-replacement", "with-replacement", "released"]


@dataclass(frozen=True)
class RS2Config(WrapperConfig):
    """Options of repeated random subsets."""

    fraction: Annotated[float, Gt(0), Le(1)] = 0.25
    """Share of an experience's rows in each epoch."""
    mode: Mode = "without-replacement"
    """How rows are drawn."""
    budget: Literal["fraction", "steps"] = "fraction"
    """Quantity that stays that of the base: its number of epochs (fraction) or of steps (steps)."""


class RS2(Wrapper[RS2Config]):
    """A base strategy that sees a share of the rows in each epoch."""

    def __init__(self, config: RS2Config) -> None:
        """Take the base from the config, with its epochs made longer by ``--budget steps``."""
        super().__init__(config)
        if config.budget == "steps":
            learner = self.learner
            epochs = round(learner.config.epochs / config.fraction)
            learner.config = replace(learner.config, epochs=epochs)

    def train(self, experience: Experience) -> None:
        """Train the base on subsets."""
        config, batch = self.config, self.learner.config.batch_size
        rows = len(experience)
        size = max(1, round(rows * config.fraction))
        keeps_all = config.mode == "with-replacement" or size < batch
        subsets = Subsets(
            rows, size, config.mode, lambda i: experience.generator("subsets", epoch=i)
        )

        def rows_of(epoch: int) -> Tensor:
            found = subsets(epoch)
            shuffled = experience.generator("order within a subset", epoch=epoch)
            return found[torch.randperm(len(found), generator=shuffled)]

        sampled = experience.sampled(rows_of, size if keeps_all else size - size % batch)
        try:
            self.base.train(sampled)
        finally:
            experience.images += sampled.images


class Subsets:
    """Rows of each epoch, by the epoch's number alone: a continued run draws the same."""

    def __init__(
        self, rows: int, size: int, mode: Mode, generator: Callable[[int], torch.Generator]
    ) -> None:
        """Draw ``size`` of ``rows``; ``generator`` gives the i-th order's random numbers."""
        self._rows, self._size, self._mode = rows, size, mode
        self._generator = generator

    def __call__(self, epoch: int) -> Tensor:
        """Row numbers of an epoch, int64 [m]; ``released`` may give one less."""
        place = epoch if self._mode == "with-replacement" else 0
        for rows in self.blocks(self.orders(place)):
            if place == epoch:
                return rows
            place += 1
        raise AssertionError("blocks never end")

    def orders(self, first: int) -> Iterator[Tensor]:
        """Random orders of the rows, from the ``first`` on."""
        order = torch.arange(self._rows)
        while True:
            shuffled = torch.randperm(self._rows, generator=self._generator(first))
            # The released code shuffles the order that it has.
            order = order[shuffled] if self._mode == "released" else shuffled
            yield order
            first += 1

    def blocks(self, orders: Iterator[Tensor]) -> Iterator[Tensor]:
        """The epochs' rows, given the orders."""
        size, rows = self._size, self._rows
        for order in orders:
            if self._mode == "with-replacement":
                yield order[:size]
                continue
            start = 0
            while start + size <= rows:
                yield order[start : start + size]
                start += size
            if self._mode == "released" and start < rows:
                yield torch.cat([order[start:], order[: start + size - rows - 1]])
