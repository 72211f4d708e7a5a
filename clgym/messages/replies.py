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
    "Filled",
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
"""Name of a logged number; all its characters can be shown by tables, files and loggers."""


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
    """By option that names the backbone's weights by a path, the name to record instead."""
    libraries: tuple[int, ...] = ()
    """Large libraries that the strategy's import loaded, by their number in
    `clgym.registry.libraries.LIBRARIES`."""


@message
class ReadsDescribed:
    """Reply to `DescribeReads`."""

    files: dict[str, str]
    """SHA-256 of each file that plugins have read in the process, by absolute path; empty for a
    file whose content changed in between.
    """
    places: tuple[str, ...]
    """Absolute paths where weights were searched, with or without success."""


@message
class Started:
    """Reply to `Start`."""

    device_name: str
    """Model of the GPU or processor."""
    idle_memory_bytes: int
    """Memory of the learner in bytes before it made anything."""
    device_uuid: str = ""
    """Identity of the GPU, for its energy counter; records do not contain it."""
    classifier: ClassifierIdentity | None
    libraries: tuple[int, ...] = ()
    """See `NeedsDescribed`."""


@message
class LoggedNumbers:
    """Numbers that a strategy logged, one per row, in order of arrival."""

    names: tuple[NumberName, ...]
    """Names of the numbers, each once."""
    name: Integers
    """Index of each row's name."""
    value: Floats
    images: Integers
    """Number of training images of the experience so far, over all epochs."""
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
            raise ValueError("an index of a name that does not exist")
        if not np.isfinite(self.value).all():
            raise ValueError("a value that is not finite")
        return self


@message
class Holdings:
    """Sizes of what a strategy holds; see `clgym.learner.holdings`."""

    trainable: int
    """Number of network parameters that gradients change and predictions depend on."""
    total: int
    """Number of all fractional values that predictions depend on, without buffers of networks."""
    buffers: int
    """Number of the other values that predictions depend on."""
    stored: dict[str, int]
    """Bytes that predictions do not depend on, by place; the memory is one of them."""
    backbone: bool
    """Whether predictions depend on the declared backbone, which is not counted above."""


@message
class ExperienceTrained:
    """Reply to `Train`."""

    seconds: float
    images: int
    flops: float | None = None
    """Estimated number of floating-point operations of training; None if no batch was read."""
    logged: LoggedNumbers | None = None
    """Numbers that the strategy logged in the experience; None if there are none."""


@message
class Predicted:
    """Reply to `Predict`."""

    logits: Logits
    seconds: float
    by_head: dict[str, Logits] = Field(default_factory=dict)
    """Logits of each head, if requested and if the strategy has several."""


@message
class Represented:
    """Reply to `Represent`."""

    features: Features
    seconds: float


@message
class TestEnded:
    """Reply to `EndTest`."""

    __test__ = False  # pytest would collect a class of this name as a test

    changed: bool
    """Whether predicting changed the state of the strategy or its memory."""
    holdings: Holdings
    """Sizes of the state that was tested."""
    peak_memory_bytes: int
    cpu_seconds: float = 0.0
    """See `Saved`."""
    flops_per_image: float | None = None
    """See `Saved`."""
    read_files: dict[str, str] = Field(default_factory=dict)
    """See `Saved`."""


@message
class Filled:
    """Reply to `FillFeatures` and `FillClassifiers`."""


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
    """Number of training images that the strategy read for it."""
    logged: LoggedNumbers | None = None


@message
class Saved:
    """Reply to `Save`."""

    holdings: Holdings | None
    """Sizes of the saved state; None on learning streams, where `TestEnded` states them."""
    stored_samples: int
    memory_bytes: int
    """Size of the stored samples in bytes."""
    kept_images: dict[str, int]
    """Number of images of the stream found outside of the memory, by place."""
    peak_memory_bytes: int
    own_costs: dict[str, float]
    cpu_seconds: float = 0.0
    """Processor seconds of the learner since its last such reply."""
    flops_per_image: float | None = None
    """Number of floating-point operations to predict one image, counted in the last observed batch;
    None if no batch was observed."""
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
    | Filled
    | Adapted
    | Forgotten
    | Saved
    | Loaded
)
