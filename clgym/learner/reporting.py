"""Reports of a learner to the gym: progress and logged numbers, at a limited rate."""

import time
from collections.abc import Callable, Mapping

from clgym.data.experience import Log, Report
from clgym.learner.logged import NumberLog, OwnNumbers
from clgym.learner.replies import checked_progress, own_numbers
from clgym.messages import Event, FeaturesComputed, NumbersLogged

__all__ = ["Clock", "EVENT_SECONDS", "Reporting"]

EVENT_SECONDS = 0.2
"""Seconds between two events of one kind."""


class Clock:
    """Returns True at most once per period of some seconds."""

    def __init__(self, seconds: float) -> None:
        """Begin a period now."""
        self._seconds, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether a period has passed; if so, the next one begins."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Reporting:
    """Makes the functions with which strategies report.

    Attributes:
        own_numbers: Numbers that a strategy logs through `StreamInfo.log`.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        """``emit`` sends an event."""
        self._emit = emit
        self.own_numbers = OwnNumbers()

    def features(self, images: int, total: int) -> None:
        """Report that features were computed."""
        self._emit(FeaturesComputed(images=images, total=total))

    def progress(self, place: int | None = None) -> Report:
        """Return a function that reports progress, under the number ``place`` if given."""
        clock = Clock(EVENT_SECONDS)

        def report(event: Mapping[str, object]) -> None:
            event = event if place is None else {**event, "experience": place}
            if own := own_numbers(event):
                self.own_numbers(own)
            if clock.due() or event.get("step") == event.get("steps"):
                self._emit(checked_progress(event))

        return report

    def logger(self, experience: int, log: NumberLog) -> Log:
        """Return a function that logs numbers of an experience, and reports them at intervals."""
        clock = Clock(EVENT_SECONDS)

        def take(numbers: Mapping[str, object], images: int, epoch: int, step: int) -> None:
            log.add(numbers, images, epoch, step)
            if clock.due():
                self.news(experience, log)

        return take

    def news(self, experience: int, log: NumberLog) -> None:
        """Report the numbers that were logged since the last report."""
        if (numbers := log.news()) is not None:
            self._emit(NumbersLogged(experience=experience, numbers=numbers))
