"""Numbers that a strategy logs: collected here, sent to the gym, saved with the learner's state.

The whole series of an experience goes to the gym when the experience ends. A run that is continued
inside an experience loads the rows that were logged before the save, so that no row comes twice or
is missing.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TypedDict

import numpy as np
import torch

from clgym.errors import BadAnswer
from clgym.messages import LoggedNumbers

__all__ = ["LogState", "NumberLog"]

_NAME = re.compile(r"[A-Za-z_][\w./ -]{0,63}")
_Row = tuple[int, float, int, int, int, float]
"""Index of the name, value, images, epoch, step, seconds."""


class LogState(TypedDict):
    """What was logged in an experience before it was saved."""

    names: str
    rows: torch.Tensor
    """float64 [n, 6]: counts are exact up to 2**53."""
    images: int
    seconds: float


class NumberLog:
    """The series of one experience, or of one batch of an adaptation stream."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin without rows; ``clock`` tells the time in seconds."""
        self._clock, self._began = clock, clock()
        self._names: dict[str, int] = {}
        self._rows: list[_Row] = []
        self._told = self._images_before = 0

    def add(
        self, numbers: Mapping[str, object], images: int = 0, epoch: int = 0, step: int = 0
    ) -> None:
        """Add numbers by name, as they are at a step.

        Raises:
            BadAnswer: a value is no number, or a name is no plain word.
        """
        seconds = self._clock() - self._began
        for name, value in numbers.items():
            index = self._names.setdefault(_checked_name(name), len(self._names))
            place = (images + self._images_before, epoch, step, seconds)
            self._rows.append((index, _checked_value(name, value), *place))

    def news(self) -> LoggedNumbers | None:
        """The rows since the last call; None without any."""
        rows, self._told = self._rows[self._told :], len(self._rows)
        return self._message(rows)

    def everything(self) -> LoggedNumbers | None:
        """All rows; None without any."""
        return self._message(self._rows)

    def _message(self, rows: list[_Row]) -> LoggedNumbers | None:
        if not rows:
            return None
        name, value, images, epoch, step, seconds = (np.array(c) for c in zip(*rows, strict=True))
        return LoggedNumbers(
            names=tuple(self._names),
            name=name.astype(np.int64),
            value=value.astype(np.float64),
            images=images.astype(np.int64),
            epoch=epoch.astype(np.int64),
            step=step.astype(np.int64),
            seconds=seconds.astype(np.float64),
        )

    def state_dict(self, images: int) -> LogState:
        """All rows, for a run that is continued here, ``images`` into this session."""
        return {
            "names": json.dumps(list(self._names)),
            "rows": torch.tensor(self._rows, dtype=torch.float64).reshape(-1, 6),
            "images": images + self._images_before,
            "seconds": self._clock() - self._began,
        }

    def load_state_dict(self, state: LogState) -> None:
        """Go on from `state_dict`; `news` leaves these rows out."""
        self._names = {name: i for i, name in enumerate(json.loads(state["names"]))}
        rows: list[list[float]] = state["rows"].numpy().tolist()
        self._rows = [
            (int(name), value, int(images), int(epoch), int(step), seconds)
            for name, value, images, epoch, step, seconds in rows
        ]
        self._told, self._images_before = len(self._rows), state["images"]
        self._began = self._clock() - state["seconds"]


def _checked_name(name: str) -> str:
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
    return float(value)
