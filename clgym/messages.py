"""Typed messages between the two sides of a run. No torch.

The gym sends a `Request`; the learner returns the matching reply and reports `Event`s in between.
 A message is checked when it is made and again when it arrives.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform

import numpy as np
import pydantic
import pydantic.dataclasses
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from clgym.codec import Tree
from clgym.config import Field as OptionField
from clgym.errors import BadAnswer

__all__ = [
    "Adapt",
    "AdaptationStart",
    "Adapted",
    "BackboneIdentity",
    "CheckpointSaved",
    "ChosenBackbone",
    "ChosenPlugin",
    "ChosenScenario",
    "ChosenSource",
    "ClassifierIdentity",
    "DescribeNeeds",
    "DescribeOptions",
    "DomainPrepared",
    "EndTest",
    "Event",
    "ExperienceOutline",
    "FeaturesComputed",
    "FeaturesFilled",
    "FillFeatures",
    "ExperienceRows",
    "Fit",
    "Forget",
    "Forgotten",
    "Frozen",
    "Load",
    "Loaded",
    "Needs",
    "NeedsDescribed",
    "OptionsDescribed",
    "Predict",
    "Predicted",
    "PredictionProgress",
    "Reply",
    "AnytimeTest",
    "Request",
    "RequestScored",
    "RowGroup",
    "RunFinished",
    "RunOutline",
    "RunPlanned",
    "RunResumed",
    "Save",
    "Saved",
    "Scored",
    "SegmentOutline",
    "SourceFiles",
    "Start",
    "Started",
    "StreamFacts",
    "TestDue",
    "TestEnded",
    "Train",
    "TrainProgress",
    "ExperienceTrained",
    "parse_event",
    "parse_reply",
    "parse_request",
    "to_tree",
]

T = TypeVar("T")
_LATE = ConfigDict(defer_build=True)
"""Message classes whose checks are built only when met, since building all takes 40 ms."""
_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid", defer_build=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def _message(cls: type[T]) -> type[T]:
    """Make a class a message: a frozen dataclass whose fields are checked when it is made."""
    make: Any = pydantic.dataclasses.dataclass
    return make(cls, frozen=True, eq=False, kw_only=True, config=_CONFIG)


def _array(dtype: str, dimensions: int) -> AfterValidator:
    """Accept arrays of one type and number of dimensions."""

    def check(array: np.ndarray) -> np.ndarray:
        if array.dtype != np.dtype(dtype) or array.ndim != dimensions:
            raise ValueError(
                f"expected {np.dtype(dtype)} of {dimensions} dimension(s), "
                f"found {array.dtype} {array.shape}"
            )
        return array

    return AfterValidator(check)


Integers = Annotated[np.ndarray, _array("int64", 1)]
"""int64 [n]."""
Images = Annotated[np.ndarray, _array("uint8", 4)]
"""uint8 [n, H, W, C]."""
Logits = Annotated[np.ndarray, _array("float32", 2)]
"""float32 [n, classes]."""

Setting = Literal["class-incremental", "task-incremental", "domain-incremental", "adaptation"]
Fit = Literal["stretch", "crop"]


# --- what a strategy needs ------------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen:
    """A pretrained network and the format of its input."""

    name: str
    """Network and weights, as in `clgym.models.backbones`."""
    size: int | None = 224
    """Side of the input in pixels, to which position embeddings are interpolated; None: that of the
    weights."""
    fit: Fit = "crop"
    """Resizing of images: stretch (bilinear to the side), or crop (shorter side to 8/7 of it,
    bicubic, then a centre crop)."""
    normalise: bool = False
    """Whether to normalise images by the mean and deviation of the weights' training."""


@dataclass(frozen=True)
class Needs:
    """What the gym must provide; anything else is out of the strategy's reach."""

    task_ids: bool = False
    """Whether every batch needs its task id, in training and at test: task-incremental streams
    only."""
    total_classes: bool = False
    """Whether the number of classes of the whole stream is needed in advance."""
    total_experiences: bool = False
    """Whether the number of experiences of the whole stream is needed in advance."""
    past_data: bool = False
    """Whether each experience includes all earlier training rows (joint training)."""
    retained_data: bool = False
    """Whether a request to forget brings the training rows that remain, as `retrain` needs."""
    rereads: bool = False
    """Reads each experience more than once even with `epochs=1`; incompatible with single-pass
    streams."""
    memory: int = 0
    """Number of samples of past experiences to keep in `StreamInfo.memory`."""
    settings: tuple[str, ...] = ("class-incremental", "task-incremental", "domain-incremental")
    """Scenario types that the strategy supports."""
    backbone: Frozen | None = None
    """Pretrained backbone; its weights are located before any work starts, and the record
    identifies them."""
    features: bool = False
    """Whether `Batch.features` holds the backbone's features of every image, from the cache."""
    classifier: str | None = None
    """Classifier to start from, in `StreamInfo.classifier`: its name, as `--model` accepts it."""
    source_data: bool = False
    """Whether `StreamInfo.source_data` holds labelled data of the source domain at test time."""


@dataclass(frozen=True)
class BackboneIdentity:
    """Identity of a pretrained backbone, as a record keeps it."""

    name: str
    """Name without a path; the weights are found by it as long as their file is not moved."""
    weights: str
    """SHA-256 of the network's state without its head, at its native input size."""
    pretraining: tuple[str, ...]
    """Image sets of the pretraining; empty if unknown or none."""
    licence: str
    check: Literal["known", "differs", "unverified", "random"]
    width: int
    parameters: int


@_message
class ClassifierIdentity:
    """Identity of the classifier that a test-time method started from."""

    name: str
    sha256: str
    """SHA-256 of all weights and statistics of the classifier."""


# --- requests -------------------------------------------------------------------------------------


@_message
class DescribeOptions:
    """Ask for a strategy's options."""

    do: Literal["describe-options"] = "describe-options"
    strategy: str
    plugins: tuple[str, ...]
    given: Mapping[str, object]
    """Options known so far, which determine the wrapped strategy."""


@_message
class DescribeNeeds:
    """Ask for a strategy's needs, with all its options known."""

    do: Literal["describe-needs"] = "describe-needs"
    strategy: str
    plugins: tuple[str, ...]
    config: Mapping[str, object]
    """All of the strategy's options."""
    device: str
    data_root: Path | None
    """Data folder, whose `weights/` are searched; None means `CLGYM_DATA`."""


@_message
class StreamFacts:
    """Facts that a strategy may know before the stream begins."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    setting: Setting
    device: str
    seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    total_columns: int | None
    """Number of classes of the whole stream; None if withheld."""
    single_pass: bool
    total_experiences: int | None = None
    """Number of experiences of the whole stream; None if withheld."""


@_message
class SourceFiles:
    """Files of a source's images, and the range of their values."""

    train: Path
    test: Path
    max_value: int
    fingerprint: str


@_message
class AdaptationStart:
    """Additional facts of an adaptation stream: the classifier's classes and the source data."""

    batch_size: int
    classes: tuple[str, ...]
    """Class names by class index."""
    fingerprint: str
    """Fingerprint of the source domain."""
    data_root: Path | None
    home: tuple[Path, ...]
    """Files of the source domain's labelled images; empty if not available."""
    home_labels: Integers
    home_max: int
    """Maximum pixel value of those images."""


@_message
class Start:
    """Build the strategy for one stream."""

    do: Literal["start"] = "start"
    strategy: str
    plugins: tuple[str, ...]
    config: Mapping[str, object]
    """All of the strategy's options."""
    threads: int
    resize: int | None
    sources: tuple[SourceFiles, ...]
    """Source files of the stream; empty on adaptation streams, whose images are sent batch by
    batch."""
    info: StreamFacts
    adaptation: AdaptationStart | None = None


@_message
class RowGroup:
    """Rows with the same source, split and transformation."""

    source: int
    split: Literal["train", "test"]
    transform: tuple[str, float] | None
    """Kind and amount of a fixed transformation; see `clgym.scenario.Transform`."""


@_message
class Predict:
    """Predict test rows: logits in the given order. A batch may mix groups."""

    do: Literal["predict"] = "predict"
    rows: Integers
    where: Integers
    """Index of each row's group."""
    groups: tuple[RowGroup, ...]
    task: int | None
    num_seen_classes: int
    batch_size: int
    by_head: bool = False
    """Whether to answer by head, too, where the strategy does; see `Strategy.predict_by_head`."""


@_message
class EndTest:
    """Report on a test that is over."""

    do: Literal["end-test"] = "end-test"


@_message
class FillFeatures:
    """Compute the frozen features of some rows that are not in the cache; no strategy is made."""

    do: Literal["fill-features"] = "fill-features"
    start: Start
    """Message that starts the strategy: it names the images."""
    backbone: Frozen
    rows: Integers
    where: Integers
    """Index of each row's group."""
    groups: tuple[RowGroup, ...]


@_message
class AnytimeTest:
    """Tests inside an experience, for the accuracy at any time."""

    at: Annotated[tuple[int, ...], Field(min_length=1)]
    """Numbers of training images after which a test is due, ascending; the last is the end of the
    experience."""
    state: Path
    """Path for the state to be tested. Training continues when the gym has deleted it."""


@_message
class Train:
    """Train on one experience, from its beginning or from a state saved inside it."""

    do: Literal["train"] = "train"
    index: int
    rows: Integers
    labels: Integers
    """Class index of each row."""
    groups: tuple[RowGroup, ...]
    counts: tuple[int, ...]
    """Number of rows of each group; groups follow one another."""
    classes: tuple[int, ...]
    num_seen_classes: int
    task: int | None
    task_columns: tuple[tuple[int, ...], ...]
    """Class indices of each task seen; empty unless task-incremental."""
    checkpoint: Path
    """Path of the checkpoint inside the experience."""
    checkpoint_seconds: float
    resume: Path | None
    """Path of a state saved inside this experience, to continue from."""
    probe: AnytimeTest | None = None


@_message
class Adapt:
    """Predict one unlabelled batch, then learn from it."""

    do: Literal["adapt"] = "adapt"
    images: Images
    number: int
    reset: bool
    num_seen_classes: int


@_message
class ExperienceRows:
    """Some training rows of one experience, or of several that are read as one."""

    index: int
    rows: Integers
    labels: Integers
    """Class index of each row."""
    groups: tuple[RowGroup, ...]
    counts: tuple[int, ...]
    """Number of rows of each group; groups follow one another."""
    classes: tuple[int, ...]
    num_seen_classes: int
    task: int | None = None
    task_columns: tuple[tuple[int, ...], ...] = ()


@_message
class Forget:
    """Forget some rows; what remains is named where the strategy declared that it needs it."""

    do: Literal["forget"] = "forget"
    number: int
    """Number of the request, from 0."""
    kind: Literal["class", "experience"]
    classes: tuple[int, ...]
    """Class indices to be forgotten."""
    num_seen_classes: int
    forgotten: tuple[ExperienceRows, ...]
    retained: tuple[ExperienceRows, ...] | None


@_message
class Save:
    """Write the learner's state."""

    do: Literal["save"] = "save"
    path: Path


@_message
class Load:
    """Load a saved state and continue from it."""

    do: Literal["load"] = "load"
    path: Path


Request = (
    DescribeOptions
    | DescribeNeeds
    | Start
    | Train
    | Predict
    | EndTest
    | FillFeatures
    | Adapt
    | Forget
    | Save
    | Load
)


# --- replies --------------------------------------------------------------------------------------


@_message
class OptionsDescribed:
    """Reply to `DescribeOptions`."""

    fields: list[OptionField]
    known_failures: dict[str, str]
    read_files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that the plugin's import read, by name; see `Saved`."""


@_message
class NeedsDescribed:
    """Reply to `DescribeNeeds`."""

    needs: Needs
    backbone: BackboneIdentity | None
    renamed: dict[str, str]
    """Options that named the backbone's weights by a path, with the name to record instead."""
    libraries: tuple[int, ...] = ()
    """Large libraries that the strategy's import loaded, by their number in
    `clgym.learner.entrance.Learner.LIBRARIES`."""


@_message
class Started:
    """Reply to `Start`."""

    device_name: str
    classifier: ClassifierIdentity | None
    libraries: tuple[int, ...] = ()
    """See `NeedsDescribed`."""


@_message
class ExperienceTrained:
    """Reply to `Train`."""

    seconds: float
    images: int


@_message
class Predicted:
    """Reply to `Predict`."""

    logits: Logits
    seconds: float
    by_head: dict[str, Logits] = Field(default_factory=dict)
    """Logits of each head, where they were asked for and the strategy has several."""


@_message
class TestEnded:
    """Reply to `EndTest`."""

    __test__ = False  # pytest takes classes of this name for its own

    changed: bool
    """Whether the predictions changed what the strategy and its memory hold."""
    peak_memory_bytes: int
    read_files: dict[str, str] = Field(default_factory=dict)
    """See `Saved`."""


@_message
class FeaturesFilled:
    """Reply to `FillFeatures`."""


@_message
class Adapted:
    """Reply to `Adapt`, with the number of forward and backward passes."""

    logits: Logits
    seconds: float
    forward: int
    backward: int


@_message
class Forgotten:
    """Reply to `Forget`."""

    seconds: float
    removed: int
    """Number of samples that the gym removed from the strategy's memory."""
    images: int
    """Training images that the strategy read for it."""


@_message
class Saved:
    """Reply to `Save`."""

    bytes: int
    parameters: int
    stored_samples: int
    memory_bytes: int
    """Size of the stored samples."""
    kept_images: dict[str, int]
    """Number of training images found outside of the memory, by the place where they lie."""
    peak_memory_bytes: int
    own_costs: dict[str, float]
    read_files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that the strategy's code has imported or opened, by name relative to the
    plugin's folder; installed packages and the plugin itself are left out."""


@_message
class Loaded:
    """Reply to `Load`."""


Reply = (
    OptionsDescribed
    | NeedsDescribed
    | Started
    | ExperienceTrained
    | Predicted
    | TestEnded
    | FeaturesFilled
    | Adapted
    | Forgotten
    | Saved
    | Loaded
)


# --- what a run is about to do --------------------------------------------------------------------


@dataclass(frozen=True)
class ChosenPlugin:
    """A strategy or a scenario with all its options."""

    name: str
    config: Mapping[str, object]


@dataclass(frozen=True)
class ChosenScenario(ChosenPlugin):
    """A scenario with all its options, and the stream that they give."""

    setting: str
    digest: str
    """SHA-256 of the whole stream."""


@dataclass(frozen=True)
class ChosenSource:
    """A source that a stream is cut from, and what is to be known about it."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class ExperienceOutline:
    """Size of one experience: its number of classes, of training rows and of test rows."""

    classes: int
    train: int
    test: int


@dataclass(frozen=True)
class SegmentOutline(ExperienceOutline):
    """Size of one segment of unlabelled images, which are learned from and scored alike."""

    name: str


@dataclass(frozen=True)
class ChosenBackbone(BackboneIdentity):
    """A pretrained backbone beside the stream that it will be used on."""

    overlap: tuple[str, ...]
    """Classes of the stream that the pretraining sets name too."""


@dataclass(frozen=True)
class RunOutline:
    """A run before it begins: what ``--dry-run`` prints."""

    strategy: ChosenPlugin
    scenario: ChosenScenario
    sources: tuple[ChosenSource, ...]
    backbone: ChosenBackbone | None
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    experiences: tuple[SegmentOutline | ExperienceOutline, ...]
    seed: int
    device: str
    threads: int
    out: str


# --- events ---------------------------------------------------------------------------------------


@_message
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
    """Images of this experience processed so far, over all epochs."""


@_message
class PredictionProgress:
    """Number of test images predicted so far."""

    kind: Literal["predict"] = "predict"
    images: int
    total: int
    experience: int | None = None


@_message
class FeaturesComputed:
    """Progress of computing frozen features that were not in the cache."""

    kind: Literal["features"] = "features"
    images: int
    total: int


@_message
class CheckpointSaved:
    """A state was saved inside an experience or a segment."""

    kind: Literal["checkpoint"] = "checkpoint"
    experience: int


@_message
class TestDue:
    """A state was saved inside an experience, to be tested; see `AnytimeTest`."""

    __test__ = False

    kind: Literal["test-due"] = "test-due"
    images: int
    """Training images of this experience processed so far."""


@_message
class RunPlanned:
    """A run is about to begin."""

    kind: Literal["plan"] = "plan"
    plan: RunOutline


@_message
class RunResumed:
    """A run continues where an earlier process saved."""

    kind: Literal["resumed"] = "resumed"
    experience: int
    """Experience or segment at which the run continues."""


@_message
class DomainPrepared:
    """The images of a domain are being generated or mapped."""

    kind: Literal["domain"] = "domain"
    name: str
    number: int


@_message
class Scored:
    """An experience or a segment has ended and is scored."""

    kind: Literal["score"] = "score"
    experience: int
    experiences: int
    row: list[float | None]
    accuracy: float
    name: str | None = None
    """Name of the segment on adaptation streams."""


@_message
class RequestScored:
    """A request to forget has been carried out and audited."""

    kind: Literal["forgotten"] = "forgotten"
    name: str
    number: int
    """Number of the request, from 0."""
    requests: int
    forgotten_accuracy: float | None
    """Accuracy on the test rows of what was to be forgotten."""
    retained_accuracy: float | None
    """Accuracy on the test rows of the classes that remain."""


@_message
class RunFinished:
    """The record is written."""

    kind: Literal["done"] = "done"
    out: str
    finished_before: bool


Event = (
    TrainProgress
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


# --- to plain data and back -----------------------------------------------------------------------

_REQUESTS: TypeAdapter[Request] = TypeAdapter(
    Annotated[Request, Field(discriminator="do")], config=_LATE
)
_EVENTS: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="kind")], config=_LATE
)


def to_tree(message: object) -> dict[str, Tree]:
    """A message, or another dataclass, as nested dicts and lists of plain values and arrays."""
    record: Any = message  # a dataclass has no type of its own
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def _plain(value: object) -> Tree:
    if dataclasses.is_dataclass(value):
        return to_tree(value)
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value)
        return {key: _plain(item) for key, item in items.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(Sequence[object], value)]
    # The types of messages admit nothing else; what a plugin adds, the wire refuses by name.
    return str(value) if isinstance(value, Path) else cast(Tree, value)


def parse_request(tree: Mapping[str, Tree]) -> Request:
    """Check and return a request as it arrived.

    Raises:
        BadAnswer: it is none.
    """
    return _parsed(_REQUESTS, tree, "a request of the gym")


def parse_event(tree: Mapping[str, Tree]) -> Event:
    """Check and return an event as it arrived.

    Raises:
        BadAnswer: it is none.
    """
    return _parsed(_EVENTS, tree, "an event of a run")


def parse_reply(kind: type[T], tree: Mapping[str, Tree]) -> T:
    """Check and return a reply as it arrived.

    Raises:
        BadAnswer: it is not of this kind.
    """
    return _parsed(TypeAdapter(kind), tree, f"a reply of the kind {kind.__name__}")


def _parsed(adapter: TypeAdapter[T], tree: Mapping[str, Tree], expected: str) -> T:
    try:
        return adapter.validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        raise BadAnswer(
            expected=expected,
            found=f"{first['msg']} at {place}",
            fix="Both sides must run the same version of clgym; a plugin must not write to the "
            "learner's socket",
        ) from None
