"""Loggers that forward a run's progress to common tools, through their own clients.

Off by default. A client is imported when it is asked for, in the gym's process: the learner's side
knows nothing of it. What is logged: ``loss`` now and then in training, and after each experience
the ``accuracy`` over what was seen and ``accuracy/NUMBER`` on each experience. The axis is the
number of training images so far.
"""

import csv
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from clgym.errors import MissingExtra
from clgym.messages import Event, RunFinished, RunOutline, RunPlanned, Scored, TrainProgress

__all__ = ["LOGGERS", "Logger"]


class _Sink(Protocol):
    """Where values go."""

    def write(self, name: str, value: float, images: int) -> None: ...

    def close(self) -> None: ...


class Logger:
    """Listens to a run's events and passes numbers on; opens its client with the first one."""

    def __init__(self, kind: str) -> None:
        """Ask for a client by name, one of `LOGGERS`.

        Raises:
            MissingExtra: it is not installed.
        """
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

    def __call__(self, event: Event) -> None:
        """Take in one event of `clgym.gym.run.run`."""
        match event:
            case RunPlanned():
                self._plan = event.plan
            case TrainProgress(loss=float() as loss):
                images = self._images_before(event.experience) + (event.images or 0)
                self._write("loss", loss, images)
            case Scored():
                images = self._images_before(event.experience + 1)
                self._write("accuracy", event.accuracy, images)
                for number, value in enumerate(event.row):
                    if value is not None:
                        self._write(f"accuracy/{number + 1}", value, images)
            case RunFinished():
                self.close()
            case _:
                pass

    @property
    def _planned(self) -> RunOutline:
        """The run, which tells its plan before anything else."""
        assert self._plan is not None
        return self._plan

    def _images_before(self, experience: int) -> int:
        """Training images of the experiences before one."""
        return sum(step.train for step in self._planned.experiences[:experience])

    def _write(self, name: str, value: float, images: int) -> None:
        if self._sink is None:
            self._sink = self._open(Path(self._planned.out), self._planned)
        self._sink.write(name, value, images)

    def close(self) -> None:
        """Let the client finish."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


class _Csv:
    """``log.csv`` in the output folder; a continued run appends."""

    def __init__(self, out: Path, plan: RunOutline) -> None:
        path = out / "log.csv"
        fresh = not path.exists()
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)
        if fresh:
            self._writer.writerow(["images", "name", "value"])

    def write(self, name: str, value: float, images: int) -> None:
        self._writer.writerow([images, name, repr(float(value))])

    def close(self) -> None:
        self._file.close()


class _TensorBoard:
    """Event files in ``tensorboard/`` of the output folder.

    Written by TensorBoard's own package: torch's writer would bring torch to the gym's side.
    """

    def __init__(self, out: Path, plan: RunOutline) -> None:
        # By name, as `Any`: neither TensorBoard nor MLflow comes with types.
        proto = "tensorboard.compat.proto"
        self._events: Any = importlib.import_module(f"{proto}.event_pb2")
        self._summaries: Any = importlib.import_module(f"{proto}.summary_pb2")
        writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._writer = writer.EventFileWriter(str(out / "tensorboard"))

    def write(self, name: str, value: float, images: int) -> None:
        scalar = self._summaries.Summary.Value(tag=name, simple_value=value)
        summary = self._summaries.Summary(value=[scalar])
        event = self._events.Event(wall_time=time.time(), step=images, summary=summary)
        self._writer.add_event(event)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of the project ``clgym``; WANDB_* variables are the client's own."""

    def __init__(self, out: Path, plan: RunOutline) -> None:
        import wandb

        self._run = wandb.init(
            project="clgym", name=_title(plan), config=_options(plan), dir=str(out), reinit=True
        )
        self._run.define_metric("*", step_metric="images")

    def write(self, name: str, value: float, images: int) -> None:
        self._run.log({name: value, "images": images})

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """A run of MLflow's current experiment; MLFLOW_* variables are the client's own."""

    def __init__(self, out: Path, plan: RunOutline) -> None:
        self._client: Any = importlib.import_module("mlflow")
        self._client.start_run(run_name=_title(plan))
        self._client.log_params(_options(plan))

    def write(self, name: str, value: float, images: int) -> None:
        self._client.log_metric(name, value, step=images)

    def close(self) -> None:
        self._client.end_run()


def _title(plan: RunOutline) -> str:
    return f"{plan.strategy.name}-{plan.scenario.name}-s{plan.seed}"


def _options(plan: RunOutline) -> dict[str, object]:
    """Everything that was set, flat."""
    strategy = {f"strategy.{name}": value for name, value in plan.strategy.config.items()}
    scenario = {f"scenario.{name}": value for name, value in plan.scenario.config.items()}
    return {**strategy, **scenario, "seed": plan.seed, "device": plan.device}


LOGGERS: dict[str, tuple[str, Callable[[Path, RunOutline], _Sink]]] = {
    "csv": ("csv", _Csv),
    "tensorboard": ("tensorboard", _TensorBoard),
    "wandb": ("wandb", _Wandb),
    "mlflow": ("mlflow", _MLflow),
}
"""Loggers by name of ``--log``: the package, and the function that opens its client."""
