"""A run before it begins, in figures. No torch."""

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
    numerics: str
    """Options for speed that are on, as words of the command; empty by default."""
    out: str
