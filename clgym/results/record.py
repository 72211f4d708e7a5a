"""The record of a run: its result, its cost and its environment.

Two records are equal if their `Result` is, which is deterministic. A record contains no paths, host
or user names. There are five kinds of results, by what was measured. Records of schema 1 are read
as well; see `clgym.results.schema1`.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from clgym._moved import report_renamed
from clgym.files import canonical_json, sha256
from clgym.results import schema1
from clgym.results.block import RecordBlock
from clgym.results.conduct import Conduct
from clgym.results.holdings import HoldingFacts
from clgym.results.html_table import html_table
from clgym.results.identity import BackboneFacts, StrategyFacts, label_of
from clgym.results.measurements import (
    AdaptationFacts,
    AnytimeFacts,
    DeletionFacts,
    DeletionRequestFacts,
    ProbeFacts,
    SegmentFacts,
)
from clgym.results.result import (
    AdaptationResult,
    DeletionResult,
    LearningResult,
    PretrainingResult,
    Result,
    TwoPhaseResult,
    make_result,
)
from clgym.results.series import NumberSummary
from clgym.text import first_unprintable

__all__ = [
    "AdaptationFacts",
    "AdaptationResult",
    "AnytimeFacts",
    "BackboneFacts",
    "Cost",
    "DeletionFacts",
    "DeletionRequestFacts",
    "DeletionResult",
    "Environment",
    "LearningResult",
    "PretrainingResult",
    "ProbeFacts",
    "Record",
    "Result",
    "SegmentFacts",
    "StrategyFacts",
    "TwoPhaseResult",
    "label_of",
    "make_result",
    "result_hash",
]


report_renamed(__name__)


class Cost(RecordBlock):
    """Costs of a run; comparisons of records ignore them."""

    wall_seconds: float
    """Wall-clock time in seconds, summed over the sessions of an interrupted run."""
    cpu_seconds: float | None = None
    """Processor time of the learners in seconds, user and system, over all their threads, without
    that of the gym. None in older records, which did not measure it; the same holds for the fields
    below."""
    train_seconds: list[float]
    predict_seconds: list[float]
    images_per_second: float
    """Training images per second of training, over all epochs."""
    peak_memory_bytes: int
    """Peak memory of the learner during the run in bytes: CUDA allocations on a GPU, else
    resident set size. Where the system cannot reset its peak (Linux can), earlier runs of the
    process count."""
    idle_memory_bytes: int | None = None
    """Memory of the learner in bytes before it made anything, measured like its peak: what Python,
    torch and other imports take."""
    train_flops: list[float | None] = []
    """Number of floating-point operations of training by experience, by the formulas of torch's
    counter, extrapolated from some of the steps; None if no batch was handed out, or networks were
    compiled. Empty for runs that train nothing."""
    predict_flops_per_image: float | None = None
    """Number of floating-point operations to predict one image after the last experience, by the
    same formulas, without those of frozen features that the gym computes. On adaptation streams it
    includes what the strategy learns at the same time.
    """
    energy_joules: dict[str, float] = {}
    """Energy in joules by device (``processor``, ``gpu``), by the counters of the hardware, which
    count everything that the device does; devices without a counter have no entry."""
    gpu_utilisation: float | None = None
    """Mean share of time, from 0 to 1, in which the GPU computed for any program while the learner
    trained or adapted, by its driver, asked once a second; None where no driver reports it."""
    train_images: int = 0
    """Number of training images, over all epochs."""
    state_bytes: int
    """Size in bytes of the largest state that was saved; of the final one in records of earlier
    versions."""
    forget_seconds: list[float] = []
    """Seconds that the strategy took for each request to forget."""
    reference_seconds: list[float] = []
    """Seconds that the reference took for each request; empty without a reference."""
    own: dict[str, float] = {}
    """Costs that the strategy measured itself, by name."""
    resumed: int
    """Number of times the run was continued after an interruption."""

    @property
    def added_memory_bytes(self) -> int | None:
        """Peak memory above that of an idle learner."""
        if self.idle_memory_bytes is None:
            return None
        return max(0, self.peak_memory_bytes - self.idle_memory_bytes)

    @property
    def total_train_flops(self) -> float | None:
        """Number of floating-point operations of all training; None if any is unknown."""
        known = [flops for flops in self.train_flops if flops is not None]
        return sum(known) if known and len(known) == len(self.train_flops) else None


class Environment(RecordBlock):
    """Software and hardware of a run; contains no host name, user or path."""

    clgym: str
    python: str
    packages: dict[str, str]
    platform: str
    machine: str
    device: str
    device_name: str = ""
    """Model of the GPU or of the processor; only times of the same model are comparable."""
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


class Record(RecordBlock):
    """One run: strategy x stream x seed."""

    schema_version: Literal[2] = 2
    result: Annotated[Result, Field(discriminator="kind")]
    cost: Cost
    environment: Environment
    conduct: Conduct | None = None
    """Conduct of the learner; None for records of clgym 0.1."""
    holdings: HoldingFacts | None = None
    """Sizes of what the learner held; None for older records, for which the gym did not count them.
    """
    logged: dict[str, NumberSummary] = {}
    """Numbers that the strategy logged, by name; ``series.csv`` beside the record has all rows.
    Records of runs that logged nothing have no such field."""

    @property
    def flags(self) -> list[str]:
        """Warnings about the learner's conduct."""
        failures = self.result.strategy.known_failures
        seen = self.conduct.flags(self.result.stored_samples, failures) if self.conduct else []
        if isinstance(self.result, PretrainingResult):
            seen = [*seen, *self.result.probe.flags()]
        return [*seen, *(self.holdings.flags() if self.holdings else [])]

    @property
    def breaches(self) -> list[str]:
        """Breaches that exclude a run from the board: it kept more than the strategy declared."""
        hoards = self.conduct.hoards() if self.conduct else []
        return [*hoards, *(self.holdings.flags() if self.holdings else [])]

    @property
    def headline(self) -> dict[str, str | int | float | None]:
        """The most important facts by title: strategy and stream, accuracies, time."""
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
    ) -> dict[str, object]:
        facts: dict[str, object] = plain(self)
        if not self.logged:
            facts.pop("logged", None)
        return facts

    @model_validator(mode="before")
    @classmethod
    def _from_others(cls, facts: Any) -> Any:
        """Convert records of schema 1, and refuse names with control characters."""
        if (odd := first_unprintable(facts)) is not None:
            raise ValueError(f"text that is too long or holds control characters: {odd}")
        return schema1.upgraded(facts) if schema1.is_record(facts) else facts


_ABSENT_IN_EARLIER_RECORDS = (
    "anytime",
    "heads",
    "stored_after",
    "class_names",
    "images_given",
    "numerics",
)
"""Fields of a result that its hash leaves out if they are None."""


def result_hash(record: Record) -> str:
    """SHA-256 of the deterministic part of a record.

    It covers the facts in the form of schema 1, so that ledgers and certificates that name a
    result stay valid for any schema of its record.
    """
    facts = record.result.model_dump(mode="json", exclude={"kind"})
    if isinstance(record.result, AdaptationResult):
        facts |= schema1.as_one_experience(facts)
    for name in _ABSENT_IN_EARLIER_RECORDS:
        if facts.get(name) is None:
            facts.pop(name, None)
    return sha256(canonical_json(facts))
