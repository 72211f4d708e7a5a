"""Blocks of a record about adaptation, forgetting on request, probes and accuracy at any time."""

from pydantic import Field, model_validator

from clgym.results.block import RecordBlock
from clgym.results.identity import ModelFacts

__all__ = [
    "AdaptationFacts",
    "AnytimeFacts",
    "AuditFacts",
    "DeletionFacts",
    "DeletionRequestFacts",
    "DistanceFacts",
    "ReferenceFacts",
    "SegmentFacts",
]


class SegmentFacts(RecordBlock):
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


class AdaptationFacts(RecordBlock):
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


class AuditFacts(RecordBlock):
    """Measures of what is still known of rows to forget (see `clgym.results.forgetting`).

    Values are fractions; None if there are no such rows.
    """

    forgotten_accuracy: float | None
    """Accuracy on the test rows of the classes that the request takes away."""
    retained_accuracy: float | None
    """Accuracy on the test rows of the classes that remain after the request."""
    called_members: float | None
    """Fraction of the request's training rows that the membership attack calls members of the
    training set."""
    membership_auc: float | None
    """Area under the ROC curve of the attack that distinguishes the request's training rows from
    test rows of the same classes; 0.5 is chance.
    """
    attack_auc: float | None
    """Area under the ROC curve of the same attack on rows that no request names: its strength where
    nothing is forgotten."""


class DistanceFacts(RecordBlock):
    """Distance of the predictions to those of the reference, never trained on the rows."""

    divergence_forgotten: float | None
    """Mean Jensen-Shannon divergence in bits, on the request's training rows."""
    divergence_retained: float | None
    """Mean Jensen-Shannon divergence in bits, on the test rows of the classes that remain."""
    disagreement_forgotten: float | None
    """Fraction of the request's training rows with another prediction."""
    disagreement_retained: float | None
    """Fraction of the test rows of the remaining classes with another prediction."""


class DeletionRequestFacts(RecordBlock):
    """A request to forget, and the measurements before and after it."""

    name: str
    classes: list[int]
    """Class indices that the request removes."""
    rows: int
    """Number of training rows to be forgotten."""
    memory_removed: int
    """Number of samples that the gym removed from the strategy's memory."""
    before: AuditFacts
    after: AuditFacts
    distance: DistanceFacts | None
    """Distance to the reference after the request; None without a reference."""


class ReferenceFacts(RecordBlock):
    """The run whose model was never trained on the forgotten rows."""

    strategy: str
    seed: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the reference's record."""


class DeletionFacts(RecordBlock):
    """Measurements of forgetting on request."""

    retained_data: bool
    """Whether each request came with the remaining rows, as the strategy had declared to need."""
    requests: list[DeletionRequestFacts]
    reference: ReferenceFacts | None


class ProbeFacts(RecordBlock):
    """The probes of a pretraining stream: classifiers fitted on features after each experience.

    The linear probe is scikit-learn's logistic regression (lbfgs) on standardised features; the
    other probe is a vote of the nearest neighbours by cosine similarity. The predictions file holds
    the training rows on which the last probes were fitted.
    """

    rows_per_class: int | None
    """Maximum number of training rows per class; None: all."""
    strength: float
    """Inverse strength of the linear probe's L2 penalty."""
    max_iterations: int
    """Maximum number of iterations of the linear probe's solver."""
    neighbours: int
    """Number of nearest neighbours that vote."""
    rows: list[int]
    """Number of training rows of the probes after each experience."""
    iterations: list[int]
    """Number of iterations of the solver after each experience; the maximum if it did not converge.
    """
    widths: list[int]
    """Length of the feature vectors after each experience."""
    knn_matrix: list[list[float | None]]
    """Accuracy of the nearest neighbours after experience i (row) on the test rows of experience j
    (column); None where not measured."""

    def flags(self) -> list[str]:
        """Warning if the linear probe did not converge."""
        counts = enumerate(self.iterations, 1)
        late = [number for number, count in counts if count >= self.max_iterations]
        places = ", ".join(map(str, late))
        return [f"the linear probe did not converge after experience {places}"] if late else []


class AnytimeFacts(RecordBlock):
    """Accuracy on a single-pass stream by the number of training images seen."""

    images: list[int]
    """Training images seen at each measurement, ascending."""
    accuracy: list[float]
    """Fraction of correct predictions for the test images of all classes that have arrived by the
    end of the current experience, in [0, 1].
    """
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
