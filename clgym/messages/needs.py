"""Needs of a strategy, and identities of the networks that it builds on. No torch."""

from dataclasses import dataclass
from typing import Literal

from clgym.messages._message import Fit, message

__all__ = [
    "BackboneIdentity",
    "TRAINED",
    "ClassifierIdentity",
    "Frozen",
    "ImagesOf",
    "Needs",
]

TRAINED = "auto"
"""Name of the classifier that clgym trains on the labelled images of the source domain."""


@dataclass(frozen=True)
class Frozen:
    """A pretrained network and the format of its input."""

    name: str
    """Network and weights, as in `clgym.models.backbones`."""
    size: int | None = 224
    """Side of the input in pixels, to which position embeddings are interpolated; None means that
    of the weights.
    """
    fit: Fit = "crop"
    """Resizing of images: stretch (bilinear to the side), or crop (shorter side to 8/7 of it,
    bicubic, then a centre crop)."""
    normalise: bool = False
    """Whether to normalise images by the mean and standard deviation of the pretraining."""


@dataclass(frozen=True)
class ImagesOf:
    """A number of images of a source that the user names by an option of the strategy."""

    source: str
    """Name of the source, as scenarios accept it."""
    count: int
    """Largest number of images, at least 1; they are training images of the source."""


@dataclass(frozen=True)
class Needs:
    """What the gym must provide to a strategy; everything else is withheld from it."""

    task_ids: bool = False
    """Whether every batch needs its task id, in training and at test; only task-incremental streams
    provide it."""
    total_classes: bool = False
    """Whether the number of classes of the whole stream is needed in advance."""
    total_experiences: bool = False
    """Whether the number of experiences of the whole stream is needed in advance."""
    class_names: bool = False
    """Whether the names of the classes are needed, in words: `Experience.class_names`, and
    `StreamInfo.class_names` on adaptation streams. The record says that they were given."""
    past_data: bool = False
    """Whether each experience includes all earlier training rows (joint training)."""
    retained_data: bool = False
    """Whether a request to forget brings the training rows that remain, as `retrain` needs."""
    rereads: bool = False
    """Whether the strategy reads each experience more than once even with `epochs=1`, so that it
    cannot run on single-pass streams."""
    memory: int = 0
    """Number of samples to keep in `StreamInfo.memory`: of past experiences; of past batches on
    adaptation streams."""
    memory_bytes: int | None = None
    """Budget in bytes for all state that prediction does not use: the memory, statistics, earlier
    networks. None declares no budget."""
    settings: tuple[str, ...] = ("class-incremental", "task-incremental", "domain-incremental")
    """Scenario types that the strategy supports."""
    backbone: Frozen | None = None
    """Pretrained backbone; its weights are located before any work starts, and the record
    identifies them."""
    features: bool = False
    """Whether `Batch.features` holds the backbone's features of every image, from the cache."""
    images: ImagesOf | None = None
    """Images without labels of a source that shares none with the stream, in `StreamInfo.images`.
    The record says which were given."""
    classifier: str | None = None
    """Classifier to start from, in `StreamInfo.classifier`: its name, as `--model` accepts it."""
    source_data: bool = False
    """Whether `StreamInfo.source_data` holds labelled data of the source domain at test time."""


@dataclass(frozen=True)
class BackboneIdentity:
    """Identity of a pretrained backbone, as a record keeps it."""

    name: str
    """Name without a path, by which the weights are found unless their file was moved."""
    weights: str
    """SHA-256 of the network's state without its head, at its native input size."""
    pretraining: tuple[str, ...]
    """Image sets of the pretraining; empty if unknown or none."""
    licence: str
    check: Literal["known", "differs", "unverified", "random"]
    width: int
    parameters: int


@message
class ClassifierIdentity:
    """Identity of the classifier that a test-time method started from."""

    name: str
    sha256: str
    """SHA-256 of all weights and statistics of the classifier."""
