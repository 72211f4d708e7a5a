"""Loggers that forward a run's progress to common tools, through their own clients.

They are off by default. A client is imported when it is requested, in the gym's process, so that
the learner's side has no access to it. Logged values are ``loss`` at intervals in training, every
number that the strategy logs, and after each experience ``accuracy`` over the classes seen and
``accuracy/NUMBER`` on each experience. The axis is the number of images trained on or predicted so
far, over the whole run and all epochs.
"""

import contextlib
import csv
import importlib
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from clgym.errors import MissingExtra, UnknownName, near
from clgym.gym.conversation import OnEvent
from clgym.messages import (
    Event,
    NumbersLogged,
    RequestScored,
    RunFinished,
    RunOutline,
    RunPlanned,
    RunResumed,
    Scored,
    TrainProgress,
)

__all__ = ["LOGGERS", "Logger", "Point", "listening"]


class Point(NamedTuple):
    """A point of a run; numbers other than images count from 1, and are 0 if not applicable."""

    images: int
    """Number of images trained on or predicted so far, over the whole run."""
    experience: int
    epoch: int
    step: int


_COLUMNS = ("images", "experience", "epoch", "step", "seconds", "name", "value")
"""Columns of ``log.csv``: a `Point`, seconds of the run so far, and the name and value logged."""


class _Sink(Protocol):
    """Destination of logged values."""

    def write(self, name: str, value: float, where: Point) -> None: ...

    def close(self) -> None: ...


class Logger:
    """Forwards numbers of a run's events to a client, which is opened at the first event."""

    def __init__(self, kind: str) -> None:
        """Choose a client by its name in `LOGGERS`.

        Raises:
            UnknownName: There is no logger of this name.
            MissingExtra: The client's package is not installed.
        """
        if kind not in LOGGERS:
            raise UnknownName(
                expected=f"loggers among {', '.join(LOGGERS)}",
                found=ascii(kind),
                fix=f"{near(kind, LOGGERS)}Rename it",
            )
        package, self._open = LOGGERS[kind]
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingExtra(
                expected=f"the package {package} for --log {kind}",
                found="it is not installed",
                fix=f"pip install 'clgym[{kind}]'",
            ) from error
        self._plan: RunOutline | None = None
        self._sink: _Sink | None = None
        self._before: dict[int, int] = {0: 0}
        """Number of images of the run before an experience or segment, by its number."""

    def __call__(self, event: Event) -> None:
        """Process one event of `clgym.gym.run.run`."""
        match event:
            case RunPlanned():
                self._plan, self._before = event.plan, {0: 0}
            case RunResumed():
                self._before = {event.experience: event.images}
            case TrainProgress(loss=float() as loss):
                epoch = 0 if event.epoch is None else event.epoch + 1
                where = self._point(event.experience, event.images or 0, epoch, event.step or 0)
                self._write("loss", loss, where)
            case NumbersLogged():
                self._write_numbers(event)
            case Scored():
                where = self._point(event.experience, event.images)
                self._before[event.experience + 1] = where.images
                if event.accuracy is not None:
                    self._write("accuracy", event.accuracy, where)
                for number, value in enumerate(event.row):
                    if value is not None:
                        self._write(f"accuracy/{number + 1}", value, where)
            case RequestScored():
                where = self._point(event.experience, event.images)
                self._before[event.experience + 1] = where.images
                if event.retained_accuracy is not None:
                    self._write("accuracy", event.retained_accuracy, where)
            case RunFinished():
                self.close()
            case _:
                pass

    def _point(self, experience: int, images: int, epoch: int = 0, step: int = 0) -> Point:
        """A point of the run, by the images of an experience."""
        before = self._before.setdefault(experience, 0)  # a run may continue another run
        return Point(before + images, experience + 1, epoch, step)

    def _write_numbers(self, event: NumbersLogged) -> None:
        found = event.numbers
        for row, index in enumerate(found.name):
            place = (int(column[row]) for column in (found.images, found.epoch, found.step))
            where = self._point(event.experience, *place)
            self._write(found.names[int(index)], float(found.value[row]), where)

    def _write(self, name: str, value: float, where: Point) -> None:
        if self._sink is None:
            assert self._plan is not None  # the first event of a run is its plan
            self._sink = self._open(Path(self._plan.out), self._plan, where)
        self._sink.write(name, value, where)

    def close(self) -> None:
        """Let the client finish."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


@contextlib.contextmanager
def listening(kinds: Sequence[str], callbacks: Sequence[OnEvent]) -> Generator[OnEvent, None, None]:
    """Yield a function that forwards events to loggers and callbacks; close the loggers then.

    Args:
        kinds: Names of loggers; each is opened once.
        callbacks: Called with every event, after the loggers.
    """
    with contextlib.ExitStack() as opened:
        loggers = [Logger(kind) for kind in dict.fromkeys(kinds)]
        for logger in loggers:
            opened.callback(logger.close)
        listeners = [*loggers, *callbacks]

        def listen(event: Event) -> None:
            for listener in listeners:
                listener(event)

        yield listen


class _Csv:
    """``log.csv`` in the output folder; a continued run removes rows that it will log again."""

    def __init__(self, out: Path, plan: RunOutline, first: Point) -> None:
        path = out / "log.csv"
        kept = _rows_before(path, first)
        self._began = time.monotonic() - (float(kept[-1]["seconds"]) if kept else 0.0)
        self._file = path.open("w", newline="")
        self._writer: csv.DictWriter[str] = csv.DictWriter(
            self._file, _COLUMNS, lineterminator="\n"
        )
        self._writer.writeheader()
        self._writer.writerows(kept)

    def write(self, name: str, value: float, where: Point) -> None:
        seconds = f"{time.monotonic() - self._began:.3f}"
        row = {**where._asdict(), "seconds": seconds, "name": name, "value": repr(float(value))}
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _rows_before(path: Path, first: Point) -> list[dict[str, str]]:
    """Rows of an earlier session up to where this one begins."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and rows[0].keys() != set(_COLUMNS):  # of an earlier version
        return []
    here = (first.experience, first.images)
    return [row for row in rows if (int(row["experience"]), int(row["images"])) < here]


class _TensorBoard:
    """Event files in ``tensorboard/`` of the output folder.

    They are written by TensorBoard's own package, since torch's writer would import torch in the
    gym.
    """

    def __init__(self, out: Path, plan: RunOutline, first: Point) -> None:
        # Imported as `Any`, since neither TensorBoard nor MLflow has types.
        proto = "tensorboard.compat.proto"
        self._events: Any = importlib.import_module(f"{proto}.event_pb2")
        self._summaries: Any = importlib.import_module(f"{proto}.summary_pb2")
        writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._writer = writer.EventFileWriter(str(out / "tensorboard"))
        # TensorBoard ignores values that an earlier session logged after this point.
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._add(first, session_log=start)

    def write(self, name: str, value: float, where: Point) -> None:
        scalar = self._summaries.Summary.Value(tag=name, simple_value=value)
        summary = self._summaries.Summary(value=[scalar])
        self._add(where, summary=summary)

    def _add(self, where: Point, **content: Any) -> None:
        event = self._events.Event(wall_time=time.time(), step=where.images, **content)
        self._writer.add_event(event)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run in the project ``clgym``; the client reads the variables WANDB_*."""

    def __init__(self, out: Path, plan: RunOutline, first: Point) -> None:
        import wandb

        self._run = wandb.init(
            project="clgym", name=_title(plan), config=_options(plan), dir=str(out), reinit=True
        )
        self._run.define_metric("*", step_metric="images")

    def write(self, name: str, value: float, where: Point) -> None:
        self._run.log({name: value, "images": where.images})

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """A run in MLflow's current experiment; the client reads the variables MLFLOW_*."""

    def __init__(self, out: Path, plan: RunOutline, first: Point) -> None:
        self._client: Any = importlib.import_module("mlflow")
        self._client.start_run(run_name=_title(plan))
        self._client.log_params(_options(plan))

    def write(self, name: str, value: float, where: Point) -> None:
        self._client.log_metric(name, value, step=where.images)

    def close(self) -> None:
        self._client.end_run()


def _title(plan: RunOutline) -> str:
    return f"{plan.strategy.name}-{plan.scenario.name}-s{plan.seed}"


def _options(plan: RunOutline) -> dict[str, object]:
    """All options of the run as a flat dict."""
    strategy = {f"strategy.{name}": value for name, value in plan.strategy.config.items()}
    scenario = {f"scenario.{name}": value for name, value in plan.scenario.config.items()}
    return {**strategy, **scenario, "seed": plan.seed, "device": plan.device}


LOGGERS: dict[str, tuple[str, Callable[[Path, RunOutline, Point], _Sink]]] = {
    "csv": ("csv", _Csv),
    "tensorboard": ("tensorboard", _TensorBoard),
    "wandb": ("wandb", _Wandb),
    "mlflow": ("mlflow", _MLflow),
}
"""Loggers by name of ``--log``: the package, and the function that opens its client."""
