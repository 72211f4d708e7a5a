"""What the gym gives a strategy that is to forget: `clgym.strategy` offers it to authors."""

from collections.abc import Sequence
from typing import Literal

import torch

from clgym.data.experience import Experience
from clgym.data.generators import torch_generator
from clgym.errors import OutOfReach

__all__ = ["ForgetRequest"]


class ForgetRequest:
    """A request to forget the training rows of a class, or of an experience.

    Attributes:
        number: Number of the request on this stream, from 0.
        kind: Unit of the request.
        classes: Class indices whose rows are to be forgotten, ascending.
        columns: Number of classes seen so far: the width of the logits that `predict` must still
            return.
        forgotten: The rows, an `Experience` for each experience that brought some; readable until
            `Strategy.forget` returns.
    """

    def __init__(
        self,
        number: int,
        kind: Literal["class", "experience"],
        classes: tuple[int, ...],
        columns: int,
        forgotten: Sequence[Experience],
        retained: Sequence[Experience] | None,
        seed: int,
    ) -> None:
        """Made by the gym only."""
        self.number, self.kind, self.classes, self.columns = number, kind, classes, columns
        self.forgotten = tuple(forgotten)
        self._retained = None if retained is None else tuple(retained)
        self._seed = seed

    @property
    def retained(self) -> tuple[Experience, ...]:
        """The rows that remain, by experience in order of arrival.

        An experience of which nothing remains is left out. Index, classes and columns are those of
        the learning phase; draws from an experience are, too.

        Raises:
            OutOfReach: the strategy did not declare that it needs them.
        """
        if self._retained is None:
            raise OutOfReach(
                expected="a strategy that reads what remains to declare Needs(retained_data=True)",
                found="no such declaration",
                fix="Declare it in the strategy's needs",
            )
        return self._retained

    def generator(self, *name: str, step: int | None = None) -> torch.Generator:
        """A CPU generator for a draw of this request: a stream that no other name shares.

        Args:
            name: What is drawn, in words.
            step: Which draw of that name.
        """
        names = ("strategy", "forget", *name)
        return torch_generator(self._seed, *names, experience=self.number, step=step)

    def close(self) -> None:
        """Put the rows out of reach; called by the gym when `Strategy.forget` returns."""
        for experience in (*self.forgotten, *(self._retained or ())):
            experience.close()
