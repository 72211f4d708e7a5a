"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console
from rich.markup import escape

from clgym.messages import (
    CheckpointSaved,
    ChosenBackbone,
    Event,
    FeaturesComputed,
    PredictionProgress,
    RequestScored,
    RunFinished,
    RunOutline,
    RunPlanned,
    RunResumed,
    Scored,
    TrainProgress,
)
from clgym.text import duration, printable

__all__ = ["Watcher", "watch"]

_LINE_SECONDS = 5.0


class Tracker:
    """Progress, speed and remaining time of a run, computed from its events alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns a time in seconds."""
        self._clock = clock
        self._rows: list[int] = []
        self._began: tuple[float, float] | None = None
        self._first: tuple[float, int, int] | None = None  # time, experience, images
        self.done = 0.0
        """Fraction of all training rows that are done, in [0, 1]."""
        self.status = "starting"

    def update(self, event: Event) -> None:
        """Process one event."""
        match event:
            case RunPlanned():
                self._rows = [step.train for step in event.plan.experiences]
            case RunResumed():
                self.done = self._share(event.experience, 0.0)
            case TrainProgress():
                self._train(event)
            case PredictionProgress():
                self.status = f"testing {event.images}/{event.total}"
            case FeaturesComputed():
                self.status = f"features of the backbone {event.images}/{event.total}"
            case Scored():
                self._first = None
                self.done = self._share(event.experience + 1, 0.0)
            case _:
                pass

    def _train(self, event: TrainProgress) -> None:
        now, images = self._clock(), event.images or 0
        self.done = self._share(event.experience, _inside(event))
        self._began = self._began or (now, self.done)
        # A resumed run, or another experience, counts its images anew.
        if self._first is None or self._first[1] != event.experience or images < self._first[2]:
            self._first = (now, event.experience, images)
        parts = [f"experience {event.experience + 1}/{len(self._rows)}"]
        if event.epoch is not None:
            # The last report of an epoch still carries its number; it counts from 0.
            parts.append(f"epoch {event.epoch + 1}/{event.epochs}")
        if event.loss is not None:
            parts.append(f"loss {event.loss:.3f}")
        if now > self._first[0]:
            parts.append(f"{(images - self._first[2]) / (now - self._first[0]):,.0f} images/s")
        self.status = " · ".join(parts)

    def _share(self, experience: int, inside: float) -> float:
        total = sum(self._rows)
        here = self._rows[experience] * inside if experience < len(self._rows) else 0.0
        return (sum(self._rows[:experience]) + here) / total if total else 0.0

    @property
    def left(self) -> str:
        """Remaining time in words; empty as long as it is unknown."""
        if self._began is None or self.done <= self._began[1]:
            return ""
        spent = self._clock() - self._began[0]
        return f"{duration(spent * (1 - self.done) / (self.done - self._began[1]))} left"


def _inside(event: TrainProgress) -> float:
    """Fraction of an experience's training that is done, in [0, 1]."""
    step = (event.step or 0) / event.steps if event.steps else 0.0
    return ((event.epoch or 0) + step) / event.epochs if event.epochs else step


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Something that shows events while it is open."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        ...


def watch(console: Console) -> Watcher:
    """Return a bar for a terminal, lines for anything else."""
    return _Bar(console) if console.is_terminal else _RunLines(console)


def _lasting(event: Event) -> list[str]:
    """Lines that stay on the screen, escaped, since names in them may contain markup."""
    return [printable(line) for line in _lines(event)]


def _lines(event: Event) -> list[str]:
    match event:
        case RunPlanned():
            return _plan_lines(event.plan)
        case RunResumed():
            return [f"continuing with experience {event.experience + 1}; earlier ones are saved"]
        case CheckpointSaved():
            return [f"saved inside experience {event.experience + 1}"]
        case RunFinished(finished_before=True):
            return ["this run is already finished; its record follows"]
        case Scored():
            place = f"experience {event.experience + 1}/{event.experiences}"
            if event.accuracy is None:
                return [f"{place}: learned, not tested"]
            if event.name is not None:  # a segment of unlabelled images, by itself
                return [f"{place}, {event.name}: error {100 - 100 * event.accuracy:.2f} %"]
            return [f"{place}: accuracy {100 * event.accuracy:.2f} % over what was seen"]
        case RequestScored():
            own, rest = (percent(v) for v in (event.forgotten_accuracy, event.retained_accuracy))
            place = f"request {event.number + 1}/{event.requests}, forget {event.name}"
            return [f"{place}: accuracy {own} on it, {rest} on the rest"]
        case _:
            return []


def percent(share: float | None) -> str:
    """A fraction in percent; ``none`` where it was not measured."""
    return "none" if share is None else f"{100 * share:.2f} %"


def _plan_lines(plan: RunOutline) -> list[str]:
    """Lines that describe the run that is about to start."""
    options = " ".join(f"{k}={v}" for k, v in plan.strategy.config.items())
    rows = sum(step.train for step in plan.experiences)
    adapting = plan.scenario.setting == "adaptation"
    images = "unlabelled images" if adapting else "training images"
    lines = [
        f"{plan.strategy.name} on {plan.scenario.name} "
        f"({plan.scenario.setting}), seed {plan.seed}: "
        f"{len(plan.experiences)} experiences, {rows:,} {images}"
    ]
    lines += [f"options: {options}"] if options else []
    lines += [f"note: run with {plan.numerics}"] if plan.numerics else []
    lines += [f"note: {s.name}: {flag}" for s in plan.sources for flag in s.flags]
    return lines + _backbone_lines(plan.backbone)


def _backbone_lines(backbone: ChosenBackbone | None) -> list[str]:
    """Line about the pretrained network, if there is one."""
    if backbone is None:
        return []
    seen = ", ".join(backbone.pretraining) or "unknown images"
    line = f"backbone: {backbone.name} ({backbone.check}, {backbone.licence}), trained on {seen}"
    if backbone.overlap:
        line += f", where {len(backbone.overlap)} of these classes are named too"
    return [line]


class _RunLines:
    """Plain lines for a log: one for each lasting event, and one at intervals in between."""

    def __init__(self, console: Console) -> None:
        self._console, self._tracker = console, Tracker()
        self._next = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> "_RunLines":
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to close."""

    def __call__(self, event: Event) -> None:
        self._tracker.update(event)
        lines = _lasting(event)
        if not lines and time.monotonic() >= self._next:
            lines = [
                " · ".join(part for part in (self._tracker.status, self._tracker.left) if part)
            ]
        for line in lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._next = time.monotonic() + _LINE_SECONDS


class _Bar:
    """A progress bar below the lines that stay."""

    def __init__(self, console: Console) -> None:
        # Imported here: a dry run and a run that writes to a file draw no bar.
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._tracker = Tracker()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=1.0, left="")

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        self._tracker.update(event)
        for line in _lasting(event):
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._bar.update(
            self._task,
            description=escape(printable(self._tracker.status)),
            completed=self._tracker.done,
            left=self._tracker.left,
        )
