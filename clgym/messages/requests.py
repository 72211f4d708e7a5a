"""The gym's requests. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clgym.messages._message import Images, Integers, Setting, message
from clgym.messages.needs import Frozen

__all__ = [
    "Adapt",
    "AdaptationStart",
    "AnytimeTest",
    "DescribeNeeds",
    "DescribeOptions",
    "DescribeReads",
    "DueFiles",
    "EndTest",
    "ExperienceRows",
    "FillClassifiers",
    "FillFeatures",
    "Forget",
    "Load",
    "Predict",
    "Represent",
    "Request",
    "RowGroup",
    "Save",
    "SourceFiles",
    "Start",
    "StreamFacts",
    "Train",
]


@message
class DescribeOptions:
    """Ask for a strategy's options."""

    do: Literal["describe-options"] = "describe-options"
    strategy: str
    plugins: tuple[str, ...]
    given: Mapping[str, object]
    """Options known so far, which determine the wrapped strategy."""


@message
class DescribeNeeds:
    """Ask for a strategy's needs, with all its options known."""

    do: Literal["describe-needs"] = "describe-needs"
    strategy: str
    plugins: tuple[str, ...]
    config: Mapping[str, object]
    """All of the strategy's options."""
    device: str
    data_root: Path | None
    """Data root, whose `weights/` are searched; None means `CLGYM_DATA`, else the user's folder."""


@message
class DescribeReads:
    """Ask which files influenced the descriptions so far."""

    do: Literal["describe-reads"] = "describe-reads"
    plugins: tuple[str, ...]


@message
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


@message
class SourceFiles:
    """Files of a source's images, and the maximum of their values."""

    train: Path
    test: Path
    max_value: int
    fingerprint: str


@message
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


@message
class Numerics:
    """Options that change a learner's speed and the last digits of its results."""

    arithmetic: Literal["fp32", "tf32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    optimizer_kernel: Literal["auto", "single", "foreach", "fused"] = "auto"


@message
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
    numerics: Numerics = Numerics()
    images: Images | None = None
    """Images of another source that the strategy needs, uint8 [n, H, W, C]."""


@message
class RowGroup:
    """Rows with the same source, split and transformation."""

    source: int
    split: Literal["train", "test"]
    transform: tuple[str, float] | None
    """Kind and amount of a fixed transform; see `clgym.scenario.Transform`."""


@message
class Predict:
    """Predict test rows: logits in the given order. A batch may mix groups."""

    do: Literal["predict"] = "predict"
    rows: Integers
    where: Integers
    """Index of each row's group."""
    groups: tuple[RowGroup, ...]
    features: Path | None = None
    """File of the rows' features in their order, float32 [n, width], if the strategy needs them."""
    task: int | None
    num_seen_classes: int
    batch_size: int
    by_head: bool = False
    """Whether to return logits by head, too, if any; see `Strategy.predict_by_head`."""


@message
class Represent:
    """Return features of some rows of both splits, in the given order."""

    do: Literal["represent"] = "represent"
    rows: Integers
    where: Integers
    """Index of each row's group."""
    groups: tuple[RowGroup, ...]
    batch_size: int


@message
class EndTest:
    """End a test, and report on it."""

    do: Literal["end-test"] = "end-test"


@message
class FillFeatures:
    """Compute the frozen features of some rows that are not in the cache; no strategy is made."""

    do: Literal["fill-features"] = "fill-features"
    start: Start
    """Message that starts the strategy, which names the images."""
    backbone: Frozen
    rows: Integers
    where: Integers
    """Index of each row's group."""
    groups: tuple[RowGroup, ...]
    to: Path | None = None
    """Path to which the features of these rows are written in their order, as a ``.npy`` file,
    float32 [n, width]; None: they only enter the cache."""


@message
class FillClassifiers:
    """Train the classifier of an adaptation stream if the cache lacks it; no strategy is made."""

    do: Literal["fill-classifiers"] = "fill-classifiers"
    start: Start
    """Message that starts the strategy, which names the labelled images of the source domain."""
    classifier: str
    """Its name; see `clgym.models.source_models`."""


@message
class DueFiles:
    """Files with the images of one experience and no others, which exist while it is learned."""

    images: tuple[Path, ...]
    """A ``.npy`` file for each group of rows, uint8 [n, H, W, C] as stored."""
    features: Path | None
    """A ``.npy`` file with the features of all of them in this order, float32 [n, width]; None if
    the strategy needs none."""


@message
class AnytimeTest:
    """Tests inside an experience, for the accuracy at any time."""

    at: Annotated[tuple[int, ...], Field(min_length=1)]
    """Numbers of training images after which a test is due, ascending; the last is the end of the
    experience."""
    state: Path
    """Path for the state to test. Training continues after the gym has deleted it."""


@message
class Train:
    """Train on one experience, from its beginning or from a state saved inside it."""

    do: Literal["train"] = "train"
    index: int
    due: DueFiles
    labels: Integers | None
    """Class index of each row; None on pretraining streams."""
    groups: tuple[RowGroup, ...]
    counts: tuple[int, ...]
    """Number of rows of each group; groups follow one another."""
    classes: tuple[int, ...]
    num_seen_classes: int
    task: int | None
    task_columns: tuple[tuple[int, ...], ...]
    """Class indices of each task seen; empty unless task-incremental."""
    class_names: tuple[str, ...] = ()
    """Names of the classes seen, by class index; empty unless the strategy declared the need."""
    checkpoint: Path
    """Path of the checkpoint inside the experience."""
    checkpoint_seconds: float
    resume: Path | None
    """Path of a state saved inside this experience, to continue from."""
    probe: AnytimeTest | None = None


@message
class Adapt:
    """Predict one unlabelled batch, then learn from it."""

    do: Literal["adapt"] = "adapt"
    images: Images
    number: int
    reset: bool
    num_seen_classes: int


@message
class ExperienceRows:
    """Some training rows of one experience, or of several that are read as one."""

    index: int
    due: DueFiles
    labels: Integers
    """Class index of each row."""
    groups: tuple[RowGroup, ...]
    counts: tuple[int, ...]
    """Number of rows of each group; groups follow one another."""
    classes: tuple[int, ...]
    num_seen_classes: int
    task: int | None = None
    task_columns: tuple[tuple[int, ...], ...] = ()
    class_names: tuple[str, ...] = ()


@message
class Forget:
    """Forget some rows; the remaining rows are named if the strategy has declared to need them."""

    do: Literal["forget"] = "forget"
    number: int
    """Number of the request, from 0."""
    place: int
    """Number of the request, counted on from the experiences, under which progress is reported."""
    kind: Literal["class", "experience"]
    classes: tuple[int, ...]
    """Class indices to be forgotten."""
    num_seen_classes: int
    forgotten: tuple[ExperienceRows, ...]
    retained: tuple[ExperienceRows, ...] | None


@message
class Save:
    """Write the learner's state."""

    do: Literal["save"] = "save"
    path: Path


@message
class Load:
    """Load a saved state and continue from it."""

    do: Literal["load"] = "load"
    path: Path


Request = (
    DescribeOptions
    | DescribeNeeds
    | DescribeReads
    | Start
    | Train
    | Predict
    | Represent
    | EndTest
    | FillFeatures
    | FillClassifiers
    | Adapt
    | Forget
    | Save
    | Load
)
