"""The record that a run leaves: what was measured, what it cost, where it ran.

Equal records means equal `Result`: it is deterministic. Paths, host and user appear nowhere. A
result is of one of three kinds, by what was measured. Records of schema 1 are read as well; see
`clgym.results.schema1`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from clgym.errors import BadRecord
from clgym.files import canonical_json, sha256
from clgym.results import schema1
from clgym.results.conduct import Conduct
from clgym.text import first_unprintable

__all__ = [
    "AdaptationResult",
    "BackboneFacts",
    "Cost",
    "Environment",
    "LearningResult",
    "Record",
    "Result",
    "TwoPhaseResult",
    "make_result",
    "read_record",
    "result_hash",
]


class _RecordBlock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StrategyFacts(_RecordBlock):
    """Which strategy ran, with every option."""

    name: str
    source_hash: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the plugin's file; of one that wraps others, of the list of their hashes."""
    config: dict[str, Any]
    known_failures: dict[str, str] = {}
    """Checks that it declares to fail, with the reason."""


class ScenarioFacts(_RecordBlock):
    """Which stream it ran on."""

    name: str
    setting: str
    config: dict[str, Any]
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the whole plan."""


class SourceFacts(_RecordBlock):
    """Which images the stream is cut from."""

    name: str
    fingerprint: str
    flags: list[str]


class FileFacts(_RecordBlock):
    """A file beside the record."""

    file: str = Field(pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class BackboneFacts(_RecordBlock):
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


class ModelFacts(_RecordBlock):
    """The classifier that a test-time method started from."""

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of all its weights and statistics."""


class SegmentFacts(_RecordBlock):
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


class AdaptationFacts(_RecordBlock):
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


class _RunFacts(_RecordBlock):
    """What ran on what, and what it left; common to all kinds of result."""

    strategy: StrategyFacts
    scenario: ScenarioFacts
    sources: list[SourceFacts]
    seed: int
    order_seed: int | None
    scored_on: Literal["test", "valid"] = "test"
    """Rows that were scored: the test split, or held-out training rows."""
    part: tuple[int, int] | None = None
    """First and end of the experiences that were run; None if all were."""
    class_order: list[str]
    """Class names by class index."""
    parameters: int
    """Numbers that the strategy held at the end, memory excluded."""
    stored_samples: int
    """Samples of past experiences held at the end."""
    predictions: FileFacts
    backbone: BackboneFacts | None = None


class _LearningMeasures(_RunFacts):
    """Accuracies as fractions; rows and columns of the matrix count experiences."""

    accuracy_matrix: list[list[float | None]]
    """Row i after experience i, column j on the test rows of experience j; None: not measured."""
    test_counts: list[int]
    """Test rows of each experience."""
    accuracy_after: list[float]
    """Accuracy after each experience over what was seen: pooled over test rows in class-incremental
    streams, the mean over experiences in the others."""
    task_aware_accuracy_after: list[float]
    """Accuracy of the same predictions, each restricted to the classes of its own experience: mean
    over experiences."""
    last_accuracy: float
    average_incremental_accuracy: float
    forgetting: float | None
    backward_transfer: float | None
    forward_transfer: float | None
    chance: list[float]
    """Accuracy of guessing on each experience, which forward transfer is measured against."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "_LearningMeasures":
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


class LearningResult(_LearningMeasures):
    """A learning stream: labelled experiences, scored after each."""

    kind: Literal["learning"] = "learning"

    @property
    def adaptation(self) -> None:
        """Nothing was adapted."""
        return None


class TwoPhaseResult(_LearningMeasures):
    """A learning stream, and then unlabelled batches that the learner adapts to."""

    kind: Literal["two-phases"] = "two-phases"
    adaptation: AdaptationFacts


class AdaptationResult(_RunFacts):
    """An adaptation stream: each answer is scored as it is given.

    Beside learning streams it counts as one experience, of which the properties speak.
    """

    kind: Literal["adaptation"] = "adaptation"
    adaptation: AdaptationFacts

    @property
    def last_accuracy(self) -> float:
        """One less the mean error."""
        return 1 - self.adaptation.mean_error

    @property
    def average_incremental_accuracy(self) -> float:
        """As `last_accuracy`: there is one measurement."""
        return self.last_accuracy

    @property
    def accuracy_matrix(self) -> list[list[float | None]]:
        """One row and one column."""
        return [[self.last_accuracy]]

    @property
    def accuracy_after(self) -> list[float]:
        """One measurement."""
        return [self.last_accuracy]

    @property
    def task_aware_accuracy_after(self) -> list[float]:
        """All classes compete: there is no task."""
        return [self.last_accuracy]

    @property
    def test_counts(self) -> list[int]:
        """All images of the stream."""
        return [sum(segment.images for segment in self.adaptation.segments)]

    @property
    def chance(self) -> list[float]:
        """Accuracy of guessing among all classes."""
        return [1 / len(self.class_order)]

    @property
    def forgetting(self) -> None:
        """There is one experience."""
        return None

    @property
    def backward_transfer(self) -> None:
        """There is one experience."""
        return None

    @property
    def forward_transfer(self) -> None:
        """There is one experience."""
        return None


Result = LearningResult | AdaptationResult | TwoPhaseResult
"""What was measured."""

_RESULTS: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="kind")])


def make_result(facts: dict[str, Any]) -> Result:
    """A result from its fields, ``kind`` among them; checked."""
    return _RESULTS.validate_python(facts)


class Cost(_RecordBlock):
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


class Environment(_RecordBlock):
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
    sandbox: str | None = None
    """What the learner's sandbox enforced, such as ``landlock 7: files, TCP, signals``; ``none``
    without one, None for records that do not say."""
    order_key: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Key of the order in which test rows went out; None for records of clgym 0.1."""
    read_files: dict[str, str] = {}
    """SHA-256 of the files that the strategy's code imported or opened, by name relative to the
    plugin's folder: helper modules, tables. Installed packages and the plugin itself left out."""


class Record(_RecordBlock):
    """One run: strategy x stream x seed."""

    schema_version: Literal[2] = 2
    result: Annotated[Result, Field(discriminator="kind")]
    cost: Cost
    environment: Environment
    conduct: Conduct | None = None
    """None for records of clgym 0.1."""

    @property
    def flags(self) -> list[str]:
        """What a reader should know of the learner's conduct, in words."""
        if self.conduct is None:
            return []
        failures = self.result.strategy.known_failures
        return self.conduct.flags(self.result.stored_samples, failures)

    @model_validator(mode="before")
    @classmethod
    def _from_others(cls, facts: Any) -> Any:
        """Read schema 1 too, and refuse names that a terminal or a log would obey."""
        if (odd := first_unprintable(facts)) is not None:
            raise ValueError(f"text that is too long or holds control characters: {odd}")
        return schema1.upgraded(facts) if schema1.is_record(facts) else facts


def result_hash(record: Record) -> str:
    """SHA-256 of the deterministic part of a record.

    It covers the facts in the form of schema 1, so that ledgers and certificates that name a
    result stay true whatever schema its record is written in.
    """
    facts = record.result.model_dump(mode="json", exclude={"kind"})
    if isinstance(record.result, AdaptationResult):
        facts |= schema1.as_one_experience(facts)
    return sha256(canonical_json(facts))


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
