"""Events that the learner and the gym report during a run. No torch."""

from typing import Literal

from clgym.messages._message import message
from clgym.messages.outline import RunOutline
from clgym.messages.replies import LoggedNumbers

__all__ = [
    "CheckpointSaved",
    "DomainPrepared",
    "Event",
    "FeaturesComputed",
    "NumbersLogged",
    "PredictionProgress",
    "RequestScored",
    "RunFinished",
    "RunPlanned",
    "RunResumed",
    "Scored",
    "TestDue",
    "TrainProgress",
]


@message
class TrainProgress:
    """Progress inside an experience or, on adaptation streams, inside a segment."""

    kind: Literal["train"] = "train"
    experience: int
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    images: int | None = None
    """Number of images of this experience processed so far, over all epochs."""


@message
class NumbersLogged:
    """Numbers that a strategy logged since the last such event."""

    kind: Literal["logged"] = "logged"
    experience: int
    numbers: LoggedNumbers


@message
class PredictionProgress:
    """Number of test images predicted so far."""

    kind: Literal["predict"] = "predict"
    images: int
    total: int
    experience: int | None = None


@message
class FeaturesComputed:
    """Progress of computing frozen features that were not in the cache."""

    kind: Literal["features"] = "features"
    images: int
    total: int


@message
class CheckpointSaved:
    """A state was saved inside an experience or a segment."""

    kind: Literal["checkpoint"] = "checkpoint"
    experience: int


@message
class TestDue:
    """A state was saved inside an experience for a test; see `AnytimeTest`."""

    __test__ = False

    kind: Literal["test-due"] = "test-due"
    images: int
    """Number of training images of this experience processed so far."""


@message
class RunPlanned:
    """A run is about to begin."""

    kind: Literal["plan"] = "plan"
    plan: RunOutline


@message
class RunResumed:
    """A run continues from the state that an earlier process saved."""

    kind: Literal["resumed"] = "resumed"
    experience: int
    """Experience or segment at which the run continues."""
    images: int
    """Number of images trained on or predicted in the experiences or segments before, over all
    epochs."""


@message
class DomainPrepared:
    """The images of a domain are being generated or mapped."""

    kind: Literal["domain"] = "domain"
    name: str
    number: int


@message
class Scored:
    """An experience or a segment has ended, and is scored if a test was due."""

    kind: Literal["score"] = "score"
    experience: int
    experiences: int
    row: list[float | None]
    accuracy: float | None
    """None after an experience that is not tested (``--evaluate-every``), as is the whole row."""
    images: int
    """Number of images trained on or predicted in this experience or segment, over all epochs."""
    name: str | None = None
    """Name of the segment on adaptation streams."""


@message
class RequestScored:
    """A request to forget has been carried out and audited."""

    kind: Literal["forgotten"] = "forgotten"
    name: str
    number: int
    """Number of the request, from 0."""
    requests: int
    forgotten_accuracy: float | None
    """Accuracy on the test rows of the classes to forget."""
    retained_accuracy: float | None
    """Accuracy on the test rows of the classes that remain."""
    experience: int
    """Number of the request, counted on from the experiences."""
    images: int
    """Number of training images that the strategy read for it."""


@message
class RunFinished:
    """The record is written."""

    kind: Literal["done"] = "done"
    out: str
    finished_before: bool


Event = (
    TrainProgress
    | NumbersLogged
    | PredictionProgress
    | FeaturesComputed
    | CheckpointSaved
    | TestDue
    | RunPlanned
    | RunResumed
    | DomainPrepared
    | Scored
    | RequestScored
    | RunFinished
)
