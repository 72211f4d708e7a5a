"""Outline of a planned run: its strategy, stream, sizes and devices. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from clgym.messages.needs import BackboneIdentity

__all__ = [
    "ChosenBackbone",
    "ChosenPlugin",
    "ChosenScenario",
    "ChosenSource",
    "ExperienceOutline",
    "RunOutline",
    "SegmentOutline",
]


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
    """A source of a stream, with warnings about it."""

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
    """Size of one segment of unlabelled images, all of which are both learned from and scored."""

    name: str


@dataclass(frozen=True)
class ChosenBackbone(BackboneIdentity):
    """A pretrained backbone, with its relation to the stream that it will be used on."""

    overlap: tuple[str, ...]
    """Classes of the stream that the pretraining sets contain, too."""


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
    numerics: str
    """Options for speed that are on, in the form of the command line; empty by default."""
    out: str
