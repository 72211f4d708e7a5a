"""The rows that an experience hands out, and the selection of an epoch's rows among them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clgym.errors import OutOfReach

__all__ = ["Count", "HandedOut", "HeldRows", "second_pass"]


@dataclass(frozen=True, eq=False)
class HeldRows:
    """Rows of one experience, or chosen from them."""

    pixels: Tensor
    """All images as stored, uint8 [n, C, H, W], on the device."""
    given_labels: Tensor | None
    """int64 [n], on the device; None on streams that bring no labels."""
    features: Tensor | None
    places: Tensor
    """int64 [n], on the CPU: places among the rows that the experience brought."""
    length: int
    """Rows of an epoch."""
    of_epoch: Callable[[int], Tensor] | None = None
    """Places of an epoch's rows among these, by the epoch's number; None: all, shuffled."""

    @classmethod
    def whole(
        cls, pixels: Tensor, labels: Tensor | None, features: Tensor | None = None
    ) -> "HeldRows":
        """All of these rows, each of them once in an epoch."""
        return cls(pixels, labels, features, torch.arange(len(pixels)), len(pixels))

    @property
    def labels(self) -> Tensor:
        """int64 [n], on the device.

        Raises:
            OutOfReach: The stream brings no labels.
        """
        if self.given_labels is None:
            raise OutOfReach(
                expected="a strategy that learns without labels on a pretraining stream",
                found="a read of the labels",
                fix="Read images alone, or use a stream with labels (`clgym list scenarios`)",
            )
        return self.given_labels

    def part(self, rows: Tensor) -> "HeldRows":
        """The rows at some places, int64 [m]."""
        return replace(
            self,
            pixels=self.pixels[rows],
            given_labels=None if self.given_labels is None else self.given_labels[rows],
            features=None if self.features is None else self.features[rows],
            places=self.places[rows.to(self.places.device)],
            length=len(rows),
        )

    def joined(self, pixels: Tensor, labels: Tensor) -> "HeldRows":
        """These rows, followed by others: uint8 [m, C, H, W] with labels int64 [m]."""
        return self.whole(torch.cat([self.pixels, pixels]), torch.cat([self.labels, labels]))

    def sampled(self, of_epoch: Callable[[int], Tensor], size: int) -> "HeldRows":
        """These rows, of which every epoch brings ``size``."""
        return replace(self, length=size, of_epoch=of_epoch)


class HandedOut:
    """Record of the rows of a single-pass stream that were given: each may be given once."""

    def __init__(self, rows: int) -> None:
        """Start a record of ``rows`` rows, none of which is given."""
        self._given = torch.zeros(rows, dtype=torch.bool)

    def note(self, places: Tensor) -> None:
        """Record that rows are given.

        Args:
            places: int64 [n], row numbers.

        Raises:
            OutOfReach: Some of them were given before.
        """
        if (again := int(self._given[places].sum())) > 0:
            raise second_pass(f"another reading of {again} of them")
        self._given[places] = True


class Count:
    """A number of images that an experience and its parts share."""

    images = 0


def second_pass(found: str) -> OutOfReach:
    """The error for a second reading of single-pass rows."""
    return OutOfReach(
        expected="one pass over the rows of a single-pass stream",
        found=found,
        fix="Set --epochs 1, or use a stream that is not online",
    )
