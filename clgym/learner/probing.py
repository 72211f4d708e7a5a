"""Tests inside an experience, for the accuracy at any time on single-pass streams."""

import time
from collections.abc import Callable
from typing import TypedDict

from clgym.messages import AnytimeTest

__all__ = ["Prober", "ProbeState"]

_TICK = 0.002
"""Seconds between two checks of whether a test is over."""


class ProbeState(TypedDict):
    """State that a run needs to continue inside an experience."""

    last: int
    """Number of training images at the last test."""


class Prober:
    """Saves the state when a test is due during training, and waits until the test has ended.

    Another process predicts, so that the process that trains never has a test image. If a strategy
    offers no safe points, there are only the gym's tests at the end of experiences.

    Attributes:
        seconds: Duration of the tests.
    """

    def __init__(
        self, probe: AnytimeTest | None, write: Callable[[], object], tell: Callable[[int], object]
    ) -> None:
        """Test nothing yet.

        Args:
            probe: Moments of the tests and path of the state; None for no tests.
            write: Writes the state.
            tell: Notifies the gym; called with the number of training images so far.
        """
        self._probe, self._write, self._tell = probe, write, tell
        self._last = 0
        self.seconds = 0.0

    def visit(self, images: int) -> None:
        """Request a test of the state if one is due.

        It is called at safe points, after ``images`` training images of the experience.
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
        """State that a run needs to continue here."""
        return {"last": self._last}

    def load_state_dict(self, state: ProbeState) -> None:
        """Continue from `state_dict`."""
        self._last = state["last"]
