"""Tests in the middle of an experience, for the accuracy at any time of single-pass streams."""

import time
from collections.abc import Callable
from typing import TypedDict

from clgym.messages import AnytimeTest

__all__ = ["Prober", "ProbeState"]

_TICK = 0.002
"""Seconds between two looks at whether a test is over."""


class ProbeState(TypedDict):
    """What a run that is continued inside an experience must know."""

    last: int
    """Training images at the last test."""


class Prober:
    """Saves the state when training has come so far that a test is due, and waits for its end.

    Another process answers, so that no test image is ever in the process that trains. Where a
    strategy offers no safe points there are tests at the end only, which are the gym's own.

    Attributes:
        seconds: Duration of the tests.
    """

    def __init__(
        self, probe: AnytimeTest | None, write: Callable[[], object], tell: Callable[[int], object]
    ) -> None:
        """Test nothing yet.

        Args:
            probe: Moments and the state's path; None for no tests at all.
            write: Writes the state.
            tell: Tells the gym of it; called with the training images so far.
        """
        self._probe, self._write, self._tell = probe, write, tell
        self._last = 0
        self.seconds = 0.0

    def visit(self, images: int) -> None:
        """Have the state tested if a moment has come.

        Called at safe points, ``images`` into the experience.
        """
        if self._probe is None:
            return
        if images < self._probe.at[-1] and any(self._last < at <= images for at in self._probe.at):
            started = time.perf_counter()
            self._last = images
            self._write()
            self._tell(images)
            while self._probe.state.exists():
                time.sleep(_TICK)
            self.seconds += time.perf_counter() - started

    def state_dict(self) -> ProbeState:
        """What a run that is continued here must know."""
        return {"last": self._last}

    def load_state_dict(self, state: ProbeState) -> None:
        """Go on from `state_dict`."""
        self._last = state["last"]
