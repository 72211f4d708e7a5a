"""Loggers that forward a run's progress to common tools, through their own clients.

Off by default. A client is imported when it is asked for, in the gym's process: the learner's side
knows nothing of it. What is logged: ``loss`` now and then in training, every number that the
strategy logs, and after each experience the ``accuracy`` over what was seen and ``accuracy/NUMBER``
on each experience. The axis is the number of images learned or answered so far, over the whole run
and all epochs.
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
    """A point of a run; all but the images count from 1, and are 0 where nothing counts them."""

    images: int
    """Images learned or answered so far, over the whole run."""
    experience: int
    epoch: int
    step: int


_COLUMNS = ("images", "experience", "epoch", "step", "seconds", "name", "value")
"""Columns of ``log.csv``: a `Point`, seconds of the run until it was written, what was logged."""


class _Sink(Protocol):
    """Where values go."""

    def write(self, name: str, value: float, where: Point) -> None: ...

    def close(self) -> None: ...


class Logger:
    """Listens to a run's events and passes numbers on; opens its client with the first one."""

    def __init__(self, kind: str) -> None:
        """Ask for a client by name, one of `LOGGERS`.

        Raises:
            UnknownName: there is none of this name.
            MissingExtra: it is not installed.
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
        """Images of the run before an experience or segment, by its number."""

    def __call__(self, event: Event) -> None:
        """Take in one event of `clgym.gym.run.run`."""
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
        before = self._before.setdefault(experience, 0)  # a run may go on from another's end
        return Point(before + images, experience + 1, epoch, step)

    def _write_numbers(self, event: NumbersLogged) -> None:
        found = event.numbers
        for row, index in enumerate(found.name):
            place = (int(column[row]) for column in (found.images, found.epoch, found.step))
            where = self._point(event.experience, *place)
            self._write(found.names[int(index)], float(found.value[row]), where)

    def _write(self, name: str, value: float, where: Point) -> None:
        if self._sink is None:
            assert self._plan is not None  # a run tells its plan before anything else
            self._sink = self._open(Path(self._plan.out), self._plan, where)
        self._sink.write(name, value, where)

    def close(self) -> None:
        """Let the client finish."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


@contextlib.contextmanager
def listening(kinds: Sequence[str], callbacks: Sequence[OnEvent]) -> Generator[OnEvent, None, None]:
    """What passes events on to loggers and callbacks; the loggers are closed afterwards.

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
    """``log.csv`` in the output folder; a continued run drops what it will log again."""

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

    Written by TensorBoard's own package: torch's writer would bring torch to the gym's side.
    """

    def __init__(self, out: Path, plan: RunOutline, first: Point) -> None:
        # By name, as `Any`: neither TensorBoard nor MLflow comes with types.
        proto = "tensorboard.compat.proto"
        self._events: Any = importlib.import_module(f"{proto}.event_pb2")
        self._summaries: Any = importlib.import_module(f"{proto}.summary_pb2")
        writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._writer = writer.EventFileWriter(str(out / "tensorboard"))
        # What an earlier session logged from here on is dropped by TensorBoard.
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
    """A run of the project ``clgym``; WANDB_* variables are the client's own."""

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
    """A run of MLflow's current experiment; MLFLOW_* variables are the client's own."""

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
    """Everything that was set, flat."""
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
