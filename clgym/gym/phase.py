"""Interface of a phase of a run: steps that are carried out in order, and their measurements.

`clgym.gym.session` uses only this interface of the kinds of phases: learning, adaptation, deletion.
"""

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from clgym.gym.plan import ResolvedRun
from clgym.messages import (
    AdaptationStart,
    ClassifierIdentity,
    LoggedNumbers,
    SourceFiles,
    Start,
    StreamFacts,
    TestEnded,
)
from clgym.registry import strategy_files
from clgym.results.series import Series

__all__ = ["Arrays", "Kind", "Phase", "PhaseCost", "add_numbers", "start_message"]

Arrays = dict[str, np.ndarray]
Kind = Literal["learning", "adaptation", "deletion", "pretraining"]


class PhaseCost(BaseModel):
    """Cost of a phase."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_seconds: list[float]
    predict_seconds: list[float]
    train_images: int
    images_per_second: float
    train_flops: list[float | None] = []
    forget_seconds: list[float] = []
    reference_seconds: list[float] = []


class Phase(Protocol):
    """A phase of a run, which one `Start` begins: its steps and measurements."""

    kind: Kind
    first_step: int
    """First step to carry out; earlier ones were measured by another run."""
    initial_state: Path | None
    """State to begin from; None means the newly created strategy."""

    def __len__(self) -> int:
        """Count the steps."""
        ...

    def experience(self, step: int) -> int:
        """Experience or segment of a step."""
        ...

    def start_message(self) -> Start:
        """Message that starts the phase."""
        ...

    def prepare(self) -> None:
        """Prepare everything that the steps need, before the first request to the learner."""
        ...

    def carry_out(self, step: int) -> None:
        """Request one step from the learner, and keep its reply."""
        ...

    def is_boundary(self, step: int) -> bool:
        """Whether the state is saved after a step even if the last save is recent."""
        ...

    def test(self, step: int, state: Path) -> TestEnded | None:
        """Test the learner from a state saved after this step; None if no test is due."""
        ...

    def saved(self, step: int) -> None:
        """Called when the measurements up to a step are on disk."""
        ...

    def take_piece(self) -> Arrays:
        """Return predictions and observations since the last piece."""
        ...

    def restore(self, piece: Arrays) -> None:
        """Load a piece that an earlier session saved; called in order."""
        ...

    def predictions(self) -> Arrays:
        """Arrays of the predictions file."""
        ...

    def measures(self, classifier: ClassifierIdentity | None) -> dict[str, object]:
        """Fields of the record's result."""
        ...

    def conduct(self) -> dict[str, object]:
        """Fields of the record's `Conduct` that the phase observed."""
        ...

    def cost(self) -> PhaseCost:
        """Cost of the steps."""
        ...

    @property
    def images(self) -> int:
        """Number of images trained on or predicted so far, over all epochs."""
        ...

    @property
    def series(self) -> Series:
        """Numbers that the strategy logged so far."""
        ...


def add_numbers(series: Series, logged: LoggedNumbers, experience: int, images: int) -> None:
    """Add numbers that were logged in an experience or a batch to a phase's series.

    Args:
        series: Series of the phase.
        logged: Numbers with the learner's counts, from the beginning of the experience or batch.
        experience: Number of the experience or segment, from 0.
        images: Number of images of the phase before it.
    """
    columns = {
        "name": logged.name,
        "value": logged.value,
        "images": logged.images + images,
        "experience": np.full(len(logged.name), experience + 1),
        "epoch": logged.epoch,
        "step": logged.step,
    }
    series.add(logged.names, columns)


def start_message(
    run: ResolvedRun,
    info: StreamFacts,
    sources: tuple[SourceFiles, ...] = (),
    adaptation: AdaptationStart | None = None,
) -> Start:
    """Message that builds a run's strategy for a phase; the arguments are its fields."""
    return Start(
        strategy=run.strategy.name,
        plugins=strategy_files(run.request.plugins),
        config=run.strategy_config,
        threads=run.threads,
        numerics=run.numerics,
        resize=run.resize,
        info=info,
        sources=sources,
        adaptation=adaptation,
        images=run.images and run.images.images,
    )
