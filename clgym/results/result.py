"""The result of a run. There are five kinds, by what was measured."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from clgym.results.block import RecordBlock
from clgym.results.identity import (
    BackboneFacts,
    FileFacts,
    ImagesGiven,
    ScenarioFacts,
    SourceFacts,
    StrategyFacts,
)
from clgym.results.measurements import AdaptationFacts, AnytimeFacts, DeletionFacts, ProbeFacts
from clgym.results.numerics import NumericFacts

__all__ = [
    "AdaptationResult",
    "DeletionResult",
    "LearningResult",
    "PretrainingResult",
    "Result",
    "RunFacts",
    "TwoPhaseResult",
    "make_result",
]


class RunFacts(RecordBlock):
    """Identity of a run and of what it left; common to all kinds of results."""

    strategy: StrategyFacts
    scenario: ScenarioFacts
    sources: list[SourceFacts]
    seed: int
    order_seed: int | None
    scored_on: Literal["test", "valid"] = "test"
    """Rows that were scored: the test split (test) or held-out training rows (valid)."""
    part: tuple[int, int] | None = None
    """First experience of the run and end (exclusive) of the range; None if all were run."""
    class_order: list[str]
    """Class names by class index."""
    parameters: int
    """Number of values that predictions depend on, without buffers:

    `HoldingFacts.total`. In records without that block it is what the strategy counted itself.
    """
    stored_samples: int
    """Number of samples of past experiences held at the end."""
    predictions: FileFacts
    backbone: BackboneFacts | None = None
    class_names: bool | None = None
    """True if the strategy was given the names of the classes seen, else None."""
    images_given: ImagesGiven | None = None
    """Images of a source outside the stream that the strategy was given; None if there were none.
    """
    numerics: NumericFacts | None = None
    """Options for speed; None if none was on."""

    @property
    def tests(self) -> str:
        """The experiences after which the learner was tested, in words."""
        return (self.numerics or NumericFacts()).tests


class _LearningMeasures(RunFacts):
    """Accuracies as fractions; rows and columns of the matrix count experiences."""

    accuracy_matrix: list[list[float | None]]
    """Accuracy after experience i (row) on the test rows of experience j (column); None where not
    measured, as in the whole row of an experience that was not tested (`NumericFacts`)."""
    test_counts: list[int]
    """Number of test rows of each experience."""
    accuracy_after: list[float | None]
    """Accuracy after each experience on all classes seen so far: pooled over test rows in
    class-incremental streams, the mean over experiences in others. None after an experience that
    was not tested."""
    task_aware_accuracy_after: list[float | None]
    """Accuracy if the task were known: each prediction is restricted to the classes of its own
    experience; mean over experiences. None after an experience that was not tested."""
    last_accuracy: float
    average_incremental_accuracy: float | None
    """Mean of `accuracy_after`; None, like forgetting and the transfers, if an experience was not
    tested."""
    forgetting: float | None
    backward_transfer: float | None
    forward_transfer: float | None
    chance: list[float]
    """Accuracy of guessing on each experience, the reference of forward transfer."""
    anytime: AnytimeFacts | None = None
    """Accuracy inside the experiences of a single-pass stream; None on others."""
    heads: dict[str, list[float | None]] | None = None
    """Accuracy after each experience by head, for strategies that predict by several heads; None
    for others. An option of the strategy says which head all other fields refer to. An entry is
    None after an experience that was not tested.
    """
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
        after = [self.accuracy_after, self.task_aware_accuracy_after, *heads]
        fractions = [v for row in [*self.accuracy_matrix, *after] for v in row if v is not None]
        if not all(0 <= v <= 1 for v in [*fractions, *self.chance]):
            raise ValueError("an accuracy lies outside 0 to 1")
        self._check_tests(after)
        return self

    def _check_tests(self, after: list[list[float | None]]) -> None:
        """Check that values are missing exactly where the options for speed leave out a test.

        Raises:
            ValueError: A value is missing, or belongs to an experience that was not tested.
        """
        size, options = len(self.accuracy_matrix), self.numerics or NumericFacts()
        tested = [options.is_tested(i, size) for i in range(size)]
        if any([value is not None for value in values] != tested for values in after):
            raise ValueError("an accuracy is missing, or is one after an experience without a test")
        if self.average_incremental_accuracy is None and all(tested):
            raise ValueError("average_incremental_accuracy is missing")
        rows = zip(self.accuracy_matrix, tested, strict=True)
        if any(value is not None for row, whole in rows if not whole for value in row):
            raise ValueError("accuracy_matrix has values after an experience without a test")


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


class PretrainingResult(_LearningMeasures):
    """Result of a stream without labels; accuracies are those of the linear probe.

    `heads` has the nearest neighbours' accuracy beside them.
    """

    kind: Literal["pretraining"] = "pretraining"
    probe: ProbeFacts

    @property
    def adaptation(self) -> None:
        """None: there is no adaptation phase."""
        return None

    @model_validator(mode="after")
    def _probe_fits(self) -> "PretrainingResult":
        probe, size = self.probe, len(self.accuracy_matrix)
        lists: list[list[Any]] = [probe.rows, probe.iterations, probe.widths, probe.knn_matrix]
        if any(len(values) != size for values in [*lists, *probe.knn_matrix]):
            raise ValueError("a list of probe has another length than accuracy_matrix")
        return self


class AdaptationResult(RunFacts):
    """Result of an adaptation stream: each prediction is scored when it is made.

    In comparisons with learning streams it counts as one experience, as the properties state.
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
    def accuracy_after(self) -> list[float | None]:
        """List of one measurement."""
        return [self.last_accuracy]

    @property
    def task_aware_accuracy_after(self) -> list[float | None]:
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
        """None: each prediction is scored when it is made."""
        return None

    @property
    def forward_transfer(self) -> None:
        """None: there is one experience."""
        return None

    @property
    def heads(self) -> None:
        """None: each prediction comes from one head."""
        return None


Result = LearningResult | AdaptationResult | TwoPhaseResult | DeletionResult | PretrainingResult
"""Result block of a record: one of five kinds."""

_RESULTS: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="kind")])


def make_result(facts: Mapping[str, object]) -> Result:
    """Validate a result from its fields, ``kind`` among them."""
    return _RESULTS.validate_python(facts)
