"""The learner's replies. No torch."""

from typing import Annotated

import numpy as np
from pydantic import Field, StringConstraints, model_validator

from clgym.config import Field as OptionField
from clgym.messages._message import Features, Floats, Integers, Logits, message
from clgym.messages.needs import BackboneIdentity, ClassifierIdentity, Needs

__all__ = [
    "Adapted",
    "ExperienceTrained",
    "FeaturesFilled",
    "Forgotten",
    "Holdings",
    "Loaded",
    "LoggedNumbers",
    "NeedsDescribed",
    "OptionsDescribed",
    "Predicted",
    "ReadsDescribed",
    "Reply",
    "Represented",
    "Saved",
    "Started",
    "TestEnded",
]

NumberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_./ -]{0,63}$")]
"""Name of a number that a strategy logs, which a table, a file and a logger can show."""


@message
class OptionsDescribed:
    """Reply to `DescribeOptions`."""

    fields: list[OptionField]
    known_failures: dict[str, str]
    read_files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that the plugin's import read, by name; see `Saved`."""


@message
class NeedsDescribed:
    """Reply to `DescribeNeeds`."""

    needs: Needs
    backbone: BackboneIdentity | None
    renamed: dict[str, str]
    """Options that named the backbone's weights by a path, with the name to record instead."""
    libraries: tuple[int, ...] = ()
    """Large libraries that the strategy's import loaded, by their number in
    `clgym.learner.entrance.Learner.LIBRARIES`."""


@message
class ReadsDescribed:
    """Reply to `DescribeReads`."""

    files: dict[str, str]
    """SHA-256 of each file that plugins have read in the process, by its absolute path; empty where
    it had two contents."""
    places: tuple[str, ...]
    """Absolute paths where weights were looked for, found or not."""


@message
class Started:
    """Reply to `Start`."""

    device_name: str
    """Model of the GPU or processor."""
    idle_memory_bytes: int
    """Memory of the learner before it made anything."""
    device_uuid: str = ""
    """Identity of the GPU, for its energy counter; it stands in no record."""
    classifier: ClassifierIdentity | None
    libraries: tuple[int, ...] = ()
    """See `NeedsDescribed`."""


@message
class LoggedNumbers:
    """Numbers that a strategy logged, one per row, in the order in which they came."""

    names: tuple[NumberName, ...]
    """Names of the numbers, each once."""
    name: Integers
    """Index of each row's name."""
    value: Floats
    images: Integers
    """Training images of the experience so far, over all epochs."""
    epoch: Integers
    """Number of the epoch, from 1; 0 where the strategy does not count them."""
    step: Integers
    """Number of the step within the epoch, from 1; 0 where the strategy does not count them."""

    @model_validator(mode="after")
    def _is_a_table(self) -> "LoggedNumbers":
        columns = (self.name, self.value, self.images, self.epoch, self.step)
        if len({len(column) for column in columns}) > 1:
            raise ValueError("columns of different lengths")
        if ((self.name < 0) | (self.name >= len(self.names))).any():
            raise ValueError("a row without a name")
        if not np.isfinite(self.value).all():
            raise ValueError("a value that is not finite")
        return self


@message
class Holdings:
    """Sizes of what a strategy holds; see `clgym.learner.holdings`."""

    trainable: int
    """Number of parameters of networks that gradients change and predictions depend on."""
    total: int
    """Number of all fractional values that predictions depend on, without buffers of networks."""
    buffers: int
    """Number of the other values that predictions depend on."""
    stored: dict[str, int]
    """Bytes of what predictions do not depend on, by place, the memory among them."""
    backbone: bool
    """Whether predictions depend on the declared backbone, which is none of these."""


@message
class ExperienceTrained:
    """Reply to `Train`."""

    seconds: float
    images: int
    flops: float | None = None
    """Floating-point operations of the training, estimated; None where no batch was handed out."""
    logged: LoggedNumbers | None = None
    """What the strategy logged in the experience; None for nothing."""


@message
class Predicted:
    """Reply to `Predict`."""

    logits: Logits
    seconds: float
    by_head: dict[str, Logits] = Field(default_factory=dict)
    """Logits of each head, where they were asked for and the strategy has several."""


@message
class Represented:
    """Reply to `Represent`."""

    features: Features
    seconds: float


@message
class TestEnded:
    """Reply to `EndTest`."""

    __test__ = False  # pytest takes classes of this name for its own

    changed: bool
    """Whether the predictions changed what the strategy and its memory hold."""
    holdings: Holdings
    """Sizes of what was tested."""
    peak_memory_bytes: int
    cpu_seconds: float = 0.0
    """See `Saved`."""
    flops_per_image: float | None = None
    """See `Saved`."""
    read_files: dict[str, str] = Field(default_factory=dict)
    """See `Saved`."""


@message
class FeaturesFilled:
    """Reply to `FillFeatures`."""


@message
class Adapted:
    """Reply to `Adapt`, with the number of forward and backward passes."""

    logits: Logits
    seconds: float
    forward: int
    backward: int
    logged: LoggedNumbers | None = None


@message
class Forgotten:
    """Reply to `Forget`."""

    seconds: float
    removed: int
    """Number of samples that the gym removed from the strategy's memory."""
    images: int
    """Training images that the strategy read for it."""
    logged: LoggedNumbers | None = None


@message
class Saved:
    """Reply to `Save`."""

    bytes: int
    holdings: Holdings | None
    """Sizes of what is saved; None on learning streams, where the test tells them."""
    stored_samples: int
    memory_bytes: int
    """Size of the stored samples."""
    kept_images: dict[str, int]
    """Number of images of the stream found outside of the memory, by the place where they lie."""
    peak_memory_bytes: int
    own_costs: dict[str, float]
    cpu_seconds: float = 0.0
    """Processor seconds of the learner since its last such reply."""
    flops_per_image: float | None = None
    """Floating-point operations to predict one image, in the last batch that was observed; None
    where none was."""
    read_files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that the strategy's code has imported or opened, by name relative to the
    plugin's folder; installed packages and the plugin itself are left out."""


@message
class Loaded:
    """Reply to `Load`."""


Reply = (
    OptionsDescribed
    | NeedsDescribed
    | ReadsDescribed
    | Started
    | ExperienceTrained
    | Predicted
    | Represented
    | TestEnded
    | FeaturesFilled
    | Adapted
    | Forgotten
    | Saved
    | Loaded
)
