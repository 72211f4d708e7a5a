"""Numbers that a strategy logs: collected here, sent to the gym, saved with the learner's state.

The whole series of an experience is sent to the gym when the experience ends. A run that continues
inside an experience loads the rows that were logged before the save, so that no row is missing or
occurs twice.
"""

import json
import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypedDict

import numpy as np
import torch

from clgym.data.experience import Experience
from clgym.errors import BadAnswer, OutOfReach
from clgym.messages import LoggedNumbers

__all__ = ["LogState", "NumberLog", "OwnNumbers"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./ -]{0,63}")
_MOST = 100
"""Maximum number of names in an experience, since each is a curve and a line of the record."""
_Row = tuple[int, float, int, int, int]
"""Index of the name, value, images, epoch, step."""


class LogState(TypedDict):
    """Numbers that were logged in an experience before it was saved."""

    names: str
    rows: torch.Tensor
    """float64 [n, 5]: counts are exact up to 2**53."""


class NumberLog:
    """The series of one experience, or of one batch of an adaptation stream."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._names: dict[str, int] = {}
        self._rows: list[_Row] = []
        self._sent = 0

    def add(
        self, numbers: Mapping[str, object], images: int = 0, epoch: int = 0, step: int = 0
    ) -> None:
        """Add numbers of a step by name.

        Raises:
            BadAnswer: A value is not a finite number, or a name is not valid or one too many.
        """
        for name, value in numbers.items():
            if name not in self._names:
                self._names[_checked_name(name, len(self._names))] = len(self._names)
            row = (self._names[name], _checked_value(name, value), images, epoch, step)
            self._rows.append(row)

    def news(self) -> LoggedNumbers | None:
        """The rows since the last call; None if there are none."""
        rows, self._sent = self._rows[self._sent :], len(self._rows)
        return self._message(rows)

    def everything(self) -> LoggedNumbers | None:
        """All rows; None if there are none."""
        return self._message(self._rows)

    def _message(self, rows: list[_Row]) -> LoggedNumbers | None:
        if not rows:
            return None
        name, value, images, epoch, step = (np.array(c) for c in zip(*rows, strict=True))
        return LoggedNumbers(
            names=tuple(self._names),
            name=name.astype(np.int64),
            value=value.astype(np.float64),
            images=images.astype(np.int64),
            epoch=epoch.astype(np.int64),
            step=step.astype(np.int64),
        )

    def state_dict(self) -> LogState:
        """All rows, for a run that continues here."""
        rows = torch.tensor(self._rows, dtype=torch.float64).reshape(-1, 5)
        return {"names": json.dumps(list(self._names)), "rows": rows}

    def load_state_dict(self, state: LogState) -> None:
        """Continue from `state_dict`; `news` leaves these rows out."""
        self._names = {name: i for i, name in enumerate(json.loads(state["names"]))}
        rows: list[list[float]] = state["rows"].numpy().tolist()
        self._rows = [
            (int(name), value, int(images), int(epoch), int(step))
            for name, value, images, epoch, step in rows
        ]
        self._sent = len(self._rows)


class OwnNumbers:
    """Receives the numbers of `Strategy.log`, and gives a strategy access to nothing else.

    Attributes:
        experience: Experience that is being trained on.
        log: Log of the batch that is being adapted to.
    """

    def __init__(self) -> None:
        """Begin outside of experiences and batches."""
        self.experience: Experience | None = None
        self.log: NumberLog | None = None

    def __call__(self, numbers: Mapping[str, Any]) -> None:
        """Log numbers by name while the strategy learns.

        Raises:
            OutOfReach: The strategy is not learning.
        """
        if self.experience is not None:
            self.experience.log(**numbers)
        elif self.log is not None:
            self.log.add(numbers)
        else:
            raise OutOfReach(
                expected="log(...) inside train or adapt",
                found=f"{', '.join(map(ascii, numbers))} logged in another hook",
                fix="Log only while the strategy learns",
            )


def _checked_name(name: str, known: int) -> str:
    if known >= _MOST:
        raise BadAnswer(
            expected=f"at most {_MOST} names in log(...) within an experience",
            found=f"{ascii(name)} besides {known} others",
            fix="Log fewer numbers, or the same names at every step",
        )
    if not _NAME.fullmatch(name):
        raise BadAnswer(
            expected="names of letters, digits, spaces and _./- in log(...), at most 64 of them",
            found=ascii(name),
            fix="Give the number another name",
        )
    return name


def _checked_value(name: str, value: object) -> float:
    if not isinstance(value, Real):
        raise BadAnswer(
            expected=f"a plain number for {name!r} in log(...)",
            found=f"a {type(value).__name__}",
            fix="Give a plain number, such as float(tensor)",
        )
    try:
        number = float(value)
    except OverflowError:  # an integer larger than all floats
        number = math.inf
    if not math.isfinite(number):
        raise BadAnswer(
            expected=f"a finite number for {name!r} in log(...)",
            found=str(number),
            fix="Leave it out if it is not defined; otherwise training may have diverged",
        )
    return number
