"""The record of a run: what was measured, what it cost, and where it ran.

Equal records means equal `Result`: it is deterministic. Paths, host and user appear nowhere. A
result is of one of four kinds, by what was measured. Records of schema 1 are read as well; see
`clgym.results.schema1`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from clgym.files import canonical_json, sha256
from clgym.results import schema1
from clgym.results.conduct import Conduct
from clgym.results.holdings import HoldingFacts
from clgym.results.html_table import html_table
from clgym.results.numerics import NumericFacts
from clgym.results.series import NumberSummary
from clgym.text import first_unprintable

__all__ = [
    "AdaptationResult",
    "BackboneFacts",
    "Cost",
    "DeletionFacts",
    "DeletionResult",
    "Environment",
    "LearningResult",
    "Record",
    "Result",
    "TwoPhaseResult",
    "label_of",
    "make_result",
    "result_hash",
]


class _RecordBlock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StrategyFacts(_RecordBlock):
    """The strategy that ran, with all its options."""

    name: str
    source_hash: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the plugin's file; for a strategy that wraps others, SHA-256 of the list of their
    hashes."""
    config: dict[str, JsonValue]
    known_failures: dict[str, str] = {}
    """Checks that the strategy declares to fail, with the reason."""

    @property
    def label(self) -> str:
        """The strategy's name for people, with what is around it: ``derpp with ema, sam``."""
        return label_of(self.name, self.config)


def label_of(name: str, config: Mapping[str, object]) -> str:
    """A strategy's name for people; of a strategy in wrappers, their names after its own.

    Args:
        name: The outermost strategy.
        config: Its options; those that name a wrapped strategy are ``base``, ``base.base``, ...
    """
    chain, option = [name], "base"
    while option in config and any(key.startswith(f"{option}.") for key in config):
        chain.append(str(config[option]))
        option += ".base"
    *wrappers, inside = chain
    return f"{inside} with {', '.join(wrappers)}" if wrappers else inside


class ScenarioFacts(_RecordBlock):
    """The stream that the strategy ran on."""

    name: str
    setting: str
    config: dict[str, JsonValue]
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the whole stream."""


class SourceFacts(_RecordBlock):
    """A source of the stream's images."""

    name: str
    fingerprint: str
    flags: list[str]


class FileFacts(_RecordBlock):
    """A file beside the record."""

    file: str = Field(pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class BackboneFacts(_RecordBlock):
    """Identity of the pretrained backbone."""

    name: str
    weights: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the network's state without its head."""
    pretraining: list[str]
    """Image sets of the pretraining, as far as known."""
    licence: str
    check: Literal["known", "differs", "unverified", "random"]
    """Comparison of the weights with a table: known, differs (other weights are known by this
    name), unverified (name not in the table), or random."""
    width: int
    parameters: int
    overlap: list[str]
    """Classes of the stream that the pretraining data contain, too."""


class ModelFacts(_RecordBlock):
    """Identity of the classifier that a test-time method started from."""

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of all weights and statistics of the classifier."""


class SegmentFacts(_RecordBlock):
    """A segment of an adaptation stream; each prediction is scored when it is made."""

    name: str
    images: int
    error: float
    calibration_error: float
    """Expected calibration error over 15 bins of confidence, in [0, 1]."""
    largest_class: float
    """Excess of the most predicted class: the largest fraction of predictions of one class minus
    the largest fraction of labels of one class."""
    recovery: float
    """Error over the first fifth of the segment minus error over its second half."""

    @property
    def collapsed(self) -> bool:
        """Whether the predictions have collapsed to one class."""
        return self.largest_class > 0.5


class AdaptationFacts(_RecordBlock):
    """Measurements of an adaptation stream: online errors, as fractions."""

    model: ModelFacts
    predict: str
    """Whether the predictions were made before or after the update on their batch."""
    batch_size: int
    reset_each_segment: bool
    segments: list[SegmentFacts]
    domains: dict[str, float]
    """Error of each domain, by name."""
    mean_error: float
    """Unweighted mean of the errors over segments; over domains if one segment mixes them all."""
    pooled_error: float
    """Error over all images of the stream."""
    per_class: dict[str, float | None]
    """Error of each class over the whole stream; None for a class without images."""
    forward_per_image: float | None
    """Forward passes through the backbone per image, counted over all networks held; None if the
    strategy made its classifier itself."""
    backward_per_image: float | None


class AuditFacts(_RecordBlock):
    """What is left of rows that are to be forgotten, at one moment; see `clgym.results.forgetting`.

    Values are fractions; None where there are no such rows.
    """

    forgotten_accuracy: float | None
    """Accuracy on the test rows of the classes that the request takes away."""
    retained_accuracy: float | None
    """Accuracy on the test rows of the classes that remain after the request."""
    called_members: float | None
    """Fraction of the request's training rows that the membership attack calls members of the
    training set."""
    membership_auc: float | None
    """Area under the ROC curve of the attack that tells the request's training rows from test rows
    of the same classes; 0.5 where nothing tells them apart."""
    attack_auc: float | None
    """Area under the ROC curve of the same attack on rows that no request names: what it finds
    where nothing is forgotten."""


class DistanceFacts(_RecordBlock):
    """Distance of the predictions to those of the reference, which was never given the rows."""

    divergence_forgotten: float | None
    """Mean Jensen-Shannon divergence in bits, on the request's training rows."""
    divergence_retained: float | None
    """Mean Jensen-Shannon divergence in bits, on the test rows of the classes that remain."""
    disagreement_forgotten: float | None
    """Fraction of the request's training rows with another prediction."""
    disagreement_retained: float | None
    """Fraction of the test rows of the remaining classes with another prediction."""


class DeletionRequestFacts(_RecordBlock):
    """A request to forget, and what was measured before and after it."""

    name: str
    classes: list[int]
    """Class indices that the request takes away."""
    rows: int
    """Number of training rows to be forgotten."""
    memory_removed: int
    """Number of samples that the gym removed from the strategy's memory."""
    before: AuditFacts
    after: AuditFacts
    distance: DistanceFacts | None
    """Distance to the reference after the request; None without a reference."""


class ReferenceFacts(_RecordBlock):
    """The run whose model was never given what is forgotten."""

    strategy: str
    seed: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the reference's record."""


class DeletionFacts(_RecordBlock):
    """Measurements of forgetting on request."""

    retained_data: bool
    """Whether each request brought the rows that remain, which the strategy had declared."""
    requests: list[DeletionRequestFacts]
    reference: ReferenceFacts | None


class _RunFacts(_RecordBlock):
    """What ran on what, and what it left; common to all kinds of result."""

    strategy: StrategyFacts
    scenario: ScenarioFacts
    sources: list[SourceFacts]
    seed: int
    order_seed: int | None
    scored_on: Literal["test", "valid"] = "test"
    """Rows that were scored: the test split (test) or held-out training rows (valid)."""
    part: tuple[int, int] | None = None
    """First experience of the run and end of the range; None if all experiences were run."""
    class_order: list[str]
    """Class names by class index."""
    parameters: int
    """Number of values that predictions depend on, without buffers: `HoldingFacts.total`. Records
    that have no such block state what the strategy counted itself."""
    stored_samples: int
    """Number of samples of past experiences held at the end."""
    predictions: FileFacts
    backbone: BackboneFacts | None = None
    class_names: bool | None = None
    """Whether the strategy was given the names of the classes seen; None if not."""


class AnytimeFacts(_RecordBlock):
    """Accuracy on a single-pass stream by the number of training images seen."""

    images: list[int]
    """Training images seen at each measurement, ascending."""
    accuracy: list[float]
    """Fraction of right predictions for the test images of all classes that have come by the end of
    the experience at hand."""
    area: float
    """Area under the accuracy over training images, divided by all images (A_AUC)."""

    @model_validator(mode="after")
    def _is_a_curve(self) -> "AnytimeFacts":
        pairs = zip([0, *self.images], self.images, strict=False)
        if not self.images or len(self.images) != len(self.accuracy):
            raise ValueError("anytime has no measurement, or one without images")
        if any(b <= a for a, b in pairs) or not all(0 <= v <= 1 for v in self.accuracy):
            raise ValueError("anytime is no curve over a growing number of images")
        return self


class _LearningMeasures(_RunFacts):
    """Accuracies as fractions; rows and columns of the matrix count experiences."""

    accuracy_matrix: list[list[float | None]]
    """Accuracy after experience i (row) on the test rows of experience j (column); None where not
    measured."""
    test_counts: list[int]
    """Number of test rows of each experience."""
    accuracy_after: list[float]
    """Accuracy after each experience on all classes seen so far: pooled over test rows in
    class-incremental streams, the mean over experiences in others."""
    task_aware_accuracy_after: list[float]
    """Accuracy if the task were known: each prediction is restricted to the classes of its own
    experience; mean over experiences."""
    last_accuracy: float
    average_incremental_accuracy: float
    forgetting: float | None
    backward_transfer: float | None
    forward_transfer: float | None
    chance: list[float]
    """Accuracy of guessing on each experience, the reference of forward transfer."""
    anytime: AnytimeFacts | None = None
    """Accuracy inside the experiences of a single-pass stream; None on others."""
    heads: dict[str, list[float]] | None = None
    """Accuracy after each experience by head, for strategies that answer by several; None for
    others. Which one counts, in all other fields, is an option of the strategy."""
    stored_after: list[int] | None = None
    """Number of samples of past experiences held after each experience; None in records of earlier
    versions."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "_LearningMeasures":
        size = len(self.accuracy_matrix)
        if any(len(row) != size for row in self.accuracy_matrix):
            raise ValueError("accuracy_matrix is not square")
        heads = list((self.heads or {}).values())
        lists: list[list[Any]] = [self.test_counts, self.accuracy_after, self.chance, *heads]
        lists += [self.task_aware_accuracy_after]
        lists += [] if self.stored_after is None else [self.stored_after]
        if any(len(values) != size for values in lists):
            raise ValueError("a list has another length than accuracy_matrix")
        fractions = [v for row in self.accuracy_matrix for v in row if v is not None]
        fractions += [*self.accuracy_after, *self.task_aware_accuracy_after, *self.chance]
        fractions += [value for head in heads for value in head]
        if not all(0 <= v <= 1 for v in fractions):
            raise ValueError("an accuracy lies outside 0 to 1")
        return self


class LearningResult(_LearningMeasures):
    """Result of a learning stream: labelled experiences, scored after each."""

    kind: Literal["learning"] = "learning"

    @property
    def adaptation(self) -> None:
        """None: there is no adaptation phase."""
        return None


class TwoPhaseResult(_LearningMeasures):
    """Result of a learning stream followed by unlabelled batches to adapt to."""

    kind: Literal["two-phases"] = "two-phases"
    adaptation: AdaptationFacts


class DeletionResult(_LearningMeasures):
    """Result of a learning stream followed by requests to forget."""

    kind: Literal["deletion"] = "deletion"
    deletion: DeletionFacts

    @property
    def adaptation(self) -> None:
        """None: there is no adaptation phase."""
        return None


class AdaptationResult(_RunFacts):
    """Result of an adaptation stream: each prediction is scored when it is made.

    Beside learning streams it counts as one experience, of which the properties speak.
    """

    kind: Literal["adaptation"] = "adaptation"
    adaptation: AdaptationFacts

    @property
    def last_accuracy(self) -> float:
        """One minus the mean error."""
        return 1 - self.adaptation.mean_error

    @property
    def average_incremental_accuracy(self) -> float:
        """Equal to `last_accuracy`, since there is one measurement."""
        return self.last_accuracy

    @property
    def accuracy_matrix(self) -> list[list[float | None]]:
        """Matrix of one row and one column."""
        return [[self.last_accuracy]]

    @property
    def accuracy_after(self) -> list[float]:
        """List of one measurement."""
        return [self.last_accuracy]

    @property
    def task_aware_accuracy_after(self) -> list[float]:
        """List of one measurement, over all classes, since there are no tasks."""
        return [self.last_accuracy]

    @property
    def test_counts(self) -> list[int]:
        """Number of all images of the stream, as a list."""
        return [sum(segment.images for segment in self.adaptation.segments)]

    @property
    def chance(self) -> list[float]:
        """Accuracy of guessing among all classes, as a list."""
        return [1 / len(self.class_order)]

    @property
    def forgetting(self) -> None:
        """None: there is one experience."""
        return None

    @property
    def backward_transfer(self) -> None:
        """None: there is one experience."""
        return None

    @property
    def anytime(self) -> None:
        """Every answer is scored as it is given."""
        return None

    @property
    def forward_transfer(self) -> None:
        """None: there is one experience."""
        return None

    @property
    def heads(self) -> None:
        """None: an answer comes from one head."""
        return None


Result = LearningResult | AdaptationResult | TwoPhaseResult | DeletionResult
"""Result block of a record: one of four kinds."""

_RESULTS: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="kind")])


def make_result(facts: Mapping[str, object]) -> Result:
    """Validate a result from its fields, ``kind`` among them."""
    return _RESULTS.validate_python(facts)


class Cost(_RecordBlock):
    """Costs of a run, which are never compared for equality."""

    wall_seconds: float
    """Wall-clock time in seconds, summed over the sessions of an interrupted run."""
    train_seconds: list[float]
    predict_seconds: list[float]
    images_per_second: float
    """Training images per second of training, over all epochs."""
    peak_memory_bytes: int
    """Peak memory of the learner during the run in bytes: CUDA allocations on a GPU, else
    resident set size. Where the system cannot reset its peak (Linux can), earlier runs of the
    process count."""
    train_images: int = 0
    """Number of training images, over all epochs."""
    state_bytes: int
    """Size of the final state on disk in bytes."""
    forget_seconds: list[float] = []
    """Seconds that the strategy took for each request to forget."""
    reference_seconds: list[float] = []
    """Seconds that the reference took for each of them; empty without a reference."""
    own: dict[str, float] = {}
    """Costs that the strategy measured itself, by name."""
    resumed: int
    """Number of times the run was continued after an interruption."""


class Environment(_RecordBlock):
    """Software and hardware of a run; contains no host name, user or path."""

    clgym: str
    python: str
    packages: dict[str, str]
    platform: str
    machine: str
    device: str
    device_name: str = ""
    """Model of the GPU; times are comparable within one model only."""
    threads: int
    engine: Literal["process", "inline"]
    """Engine of the run; with ``inline``, gym and learner shared a process, so that the learner
    could have read the labels."""
    sandbox: str | None = None
    """Restrictions that the learner's sandbox enforced, such as ``landlock 7: files, TCP,
    signals``; ``none`` without one, None in records that do not state it."""
    order_key: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Key of the order in which test rows were sent; None in records of clgym 0.1."""
    read_files: dict[str, str] = {}
    """SHA-256 of the files that the strategy's code imported or opened (helper modules, tables), by
    name relative to the plugin's folder; installed packages and the plugin itself are left out."""
    numerics: NumericFacts | None = None
    """Options for speed that were on; None by default."""


class Record(_RecordBlock):
    """One run: strategy x stream x seed."""

    schema_version: Literal[2] = 2
    result: Annotated[Result, Field(discriminator="kind")]
    cost: Cost
    environment: Environment
    conduct: Conduct | None = None
    """None for records of clgym 0.1."""
    holdings: HoldingFacts | None = None
    """None for records that were written before the gym counted them."""
    logged: dict[str, NumberSummary] = {}
    """Numbers that the strategy logged, by name; ``series.csv`` beside the record has all rows.
    Records of runs that logged none have no such field."""

    @property
    def flags(self) -> list[str]:
        """What a reader should know of the learner's conduct, in words."""
        failures = self.result.strategy.known_failures
        seen = self.conduct.flags(self.result.stored_samples, failures) if self.conduct else []
        return [*seen, *(self.holdings.flags() if self.holdings else [])]

    @property
    def breaches(self) -> list[str]:
        """What keeps a run off a leaderboard: more was kept than the strategy declared."""
        hoards = self.conduct.hoards() if self.conduct else []
        return [*hoards, *(self.holdings.flags() if self.holdings else [])]

    @property
    def headline(self) -> dict[str, str | int | float | None]:
        """The most important facts, by title: what ran, how well it did, how long it took."""
        result, shift = self.result, self.result.adaptation
        learned = None if isinstance(result, AdaptationResult) else result
        return {
            "strategy": result.strategy.label,
            "scenario": result.scenario.name,
            "seed": result.seed,
            "last accuracy": learned and learned.last_accuracy,
            "average incremental accuracy": learned and learned.average_incremental_accuracy,
            "forgetting": result.forgetting,
            "mean error": shift and shift.mean_error,
            "seconds": self.cost.wall_seconds,
        }

    def _repr_html_(self) -> str:
        """Show the record as a table in a notebook."""
        return html_table([self.headline])

    @model_serializer(mode="wrap")
    def _without_what_was_not_logged(
        self, plain: SerializerFunctionWrapHandler
    ) -> dict[str, JsonValue]:
        facts: dict[str, JsonValue] = plain(self)
        if not self.logged:
            facts.pop("logged", None)
        return facts

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
    for name in (
        "anytime",
        "heads",
        "stored_after",
        "class_names",
    ):  # earlier records have no such fields
        if facts.get(name) is None:
            facts.pop(name, None)
    return sha256(canonical_json(facts))
