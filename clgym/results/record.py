"""The record that a run leaves: what was measured, what it cost, where it ran.

Equal records means equal `Result`: it is deterministic. Paths, host and user appear nowhere.
"""

from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from clgym.errors import BadRecord

__all__ = ["Cost", "Environment", "Record", "Result", "read_record"]

Fraction = float


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StrategyFacts(_Block):
    """Which strategy ran, with every option."""

    name: str
    source_hash: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the plugin's file; of one that wraps others, of the list of their hashes."""
    config: dict[str, Any]
    known_failures: dict[str, str] = {}
    """Checks that it declares to fail, with the reason."""


class ScenarioFacts(_Block):
    """Which stream it ran on."""

    name: str
    setting: str
    config: dict[str, Any]
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the whole plan."""


class SourceFacts(_Block):
    """Which images the stream is cut from."""

    name: str
    fingerprint: str
    flags: list[str]


class FileFacts(_Block):
    """A file beside the record."""

    file: str = Field(pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class BackboneFacts(_Block):
    """Which pretrained network the strategy builds on."""

    name: str
    weights: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the network's state, its head taken off."""
    pretraining: list[str]
    """Image sets that the weights have seen, as far as known."""
    licence: str
    check: Literal["known", "differs", "unverified", "random"]
    """Whether these weights are in the table of known ones, or others under this name are."""
    width: int
    parameters: int
    overlap: list[str]
    """Classes of the stream that the pretraining sets name too."""


class ModelFacts(_Block):
    """The classifier that a test-time method started from."""

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of all its weights and statistics."""


class SegmentFacts(_Block):
    """One stretch of an adaptation stream, each answer scored as it was given."""

    name: str
    images: int
    error: float
    calibration_error: float
    """Expected calibration error over 15 bins of confidence."""
    largest_class: float
    """Share of the answers that name one class, less the largest class's share of labels."""
    recovery: float
    """Error over the first fifth of the segment less that over its second half."""

    @property
    def collapsed(self) -> bool:
        """Whether one class has taken over the answers."""
        return self.largest_class > 0.5


class AdaptationFacts(_Block):
    """What an adaptation stream measured: online errors, fractions."""

    model: ModelFacts
    predict: str
    """Whether answers are those of before or after a batch's update."""
    batch_size: int
    reset_each_segment: bool
    segments: list[SegmentFacts]
    domains: dict[str, float]
    """Error by domain."""
    mean_error: float
    """Unweighted mean over segments; over domains where all are mixed in one segment."""
    pooled_error: float
    """Over all images."""
    per_class: dict[str, float | None]
    """Error by class, pooled; None for a class that did not come."""
    forward_per_image: float | None
    """Images through the backbone, of every network held, per image answered; None where the
    strategy made its classifier itself."""
    backward_per_image: float | None


class Result(_Block):
    """What was measured. Accuracies are fractions; rows and columns count experiences."""

    strategy: StrategyFacts
    scenario: ScenarioFacts
    sources: list[SourceFacts]
    seed: int
    order_seed: int | None
    scored_on: Literal["test", "valid"] = "test"
    """Rows that were scored: the test split, or held-out training rows."""
    part: tuple[int, int] | None = None
    """The experiences of the stream that were run, if not all: first, and end."""
    class_order: list[str]
    """Class names by column of the logits."""
    accuracy_matrix: list[list[float | None]]
    """Row i after experience i, column j on the test rows of experience j; None: not measured."""
    test_counts: list[int]
    accuracy_after: list[float]
    """After each experience, over what was seen: pooled over test rows in class-incremental
    streams, the mean over experiences in the others."""
    task_aware_accuracy_after: list[float]
    """The same predictions, each restricted to the columns of its own experience: mean over
    experiences."""
    last_accuracy: float
    average_incremental_accuracy: float
    forgetting: float | None
    backward_transfer: float | None
    forward_transfer: float | None
    chance: list[float]
    """For each experience the accuracy of guessing, which forward transfer is measured against."""
    parameters: int
    """Numbers the strategy held at the end, memory excluded."""
    stored_samples: int
    """Samples of past experiences held at the end."""
    predictions: FileFacts
    backbone: BackboneFacts | None = None
    adaptation: AdaptationFacts | None = None
    """Adaptation streams: the whole stream then counts as the one experience above."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, Any]:
        """Records of learning streams carry no word of adaptation."""
        values = handler(self)
        return values if self.adaptation else {k: v for k, v in values.items() if k != "adaptation"}

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Result":
        size = len(self.accuracy_matrix)
        if any(len(row) != size for row in self.accuracy_matrix):
            raise ValueError("accuracy_matrix is not square")
        lists = (self.test_counts, self.accuracy_after, self.task_aware_accuracy_after, self.chance)
        if any(len(values) != size for values in lists):
            raise ValueError("a list has another length than accuracy_matrix")
        fractions = [v for row in self.accuracy_matrix for v in row if v is not None]
        fractions += [*self.accuracy_after, *self.task_aware_accuracy_after, *self.chance]
        if not all(0 <= v <= 1 for v in fractions):
            raise ValueError("an accuracy lies outside 0 to 1")
        return self


class Cost(_Block):
    """What the run took; never compared for equality."""

    wall_seconds: float
    """Summed over the sessions of an interrupted run."""
    train_seconds: list[float]
    predict_seconds: list[float]
    images_per_second: float
    """Training images, over all epochs, per second of training."""
    peak_memory_bytes: int
    """Of the learner from the run's start on: resident memory, or the GPU's where it ran on one.
    Where the system cannot reset its peak (it can on Linux), earlier runs of the process count."""
    train_images: int = 0
    """Training images, over all epochs."""
    state_bytes: int
    """Size of the final state on disk."""
    own: dict[str, float] = {}
    """What the strategy measured of its own work, by name."""
    resumed: int
    """How often the run was continued after an interruption."""


class Environment(_Block):
    """Where it ran: no host name, user or path."""

    clgym: str
    python: str
    packages: dict[str, str]
    platform: str
    machine: str
    device: str
    device_name: str = ""
    """The model of a GPU; times are compared within one only."""
    threads: int
    engine: Literal["process", "inline"]
    """``inline``: gym and learner shared a process, so labels were not out of reach."""


class Record(_Block):
    """One run: strategy x stream x seed."""

    schema_version: Literal[1] = 1
    result: Result
    cost: Cost
    environment: Environment


def read_record(path: Path) -> Record:
    """Read ``record.json``, or the one in a folder.

    Raises:
        BadRecord: no such file, or it does not validate.
    """
    file = path / "record.json" if path.is_dir() else path
    try:
        return Record.model_validate_json(file.read_bytes())
    except OSError as error:
        reason = str(error.strerror)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"
    raise BadRecord(
        expected=f"a record at {file}", found=reason, fix="Name the output folder of a finished run"
    )
