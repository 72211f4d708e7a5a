"""Checks of a source that a plugin brings."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from clgym import registry
from clgym.check.report import Check, Failed, Finding, Skipped, findings
from clgym.check.tiny import workspace
from clgym.data.cards import CARDS
from clgym.data.imageset import ImageSet
from clgym.data.sources import Source, load_source
from clgym.errors import ClgymError
from clgym.registry import PluginEntry

__all__ = ["source_checks", "source_findings"]


class _Subject:
    """A source under check."""

    def __init__(self, entry: PluginEntry, plugins: Sequence[Path]) -> None:
        self.entry, self.plugins = entry, plugins
        self.cls: type[ImageSet] = registry.load_class(entry, ImageSet)

    @cached_property
    def source(self) -> Source:
        return load_source(self.entry.name, plugins=self.plugins)


def source_findings(
    entry: PluginEntry, plugins: Sequence[Path] = (), only: Sequence[str] = ()
) -> Iterator[Finding]:
    """Check a source and yield each finding.

    Args:
        entry: Entry of the plugin, from `clgym.registry.find`.
        plugins: Files that the user named.
        only: Names of checks to restrict to; () means all.
    """
    with workspace():
        yield from findings(source_checks(), _Subject(entry, plugins), {}, only)


def source_checks() -> list[Check]:
    """The checks of a source, in order."""
    return [
        Check(described),
        Check(loads, vital=True),
        Check(every_class),
        Check(pixel_values),
        Check(statistics),
        Check(same_content),
        Check(no_shared_images),
    ]


def described(subject: _Subject) -> str:
    """The file states description, licence and origin, and the name is not taken."""
    cls = subject.cls
    if not (cls.title or subject.entry.summary):
        raise Failed("no docstring in the file", "Begin the file with a line that says what it is")
    if cls.licence == "not stated" or not cls.origin:
        raise Failed("no licence or no origin", "Set licence and origin, which `clgym show` prints")
    if subject.entry.name in CARDS:
        raise Failed("the name of a built-in source", "Rename the file")
    return f"{cls.licence}, {cls.origin}"


def loads(subject: _Subject) -> str:
    """The source is found, read and brought into canonical order."""
    try:
        source = subject.source
    except ClgymError as error:
        raise Failed(f"expected {error.expected}; found {error.found}", error.fix) from error
    shape = " x ".join(map(str, source.train.images.shape[1:]))
    return f"{len(source.train.labels)} + {len(source.test.labels)} images of {shape}"


def every_class(subject: _Subject) -> str:
    """Every class has training and test images."""
    source = subject.source
    for part, split in (("training", source.train), ("test", source.test)):
        counts = np.bincount(split.labels, minlength=len(source.classes))
        if (counts == 0).any():
            name = source.classes[int(counts.argmin())]
            raise Failed(f"no {part} image of {name}", "Remove the class, or add images")
    return f"{len(source.classes)} classes"


def pixel_values(subject: _Subject) -> str:
    """No pixel exceeds max_value, and some pixel reaches half of it."""
    source = subject.source
    top = int(source.train.images[:1000].max())
    if not source.max_value / 2 <= top <= source.max_value:
        raise Failed(
            f"pixels up to {top} with max_value {source.max_value}", "Set max_value to the greatest"
        )
    return f"up to {top} of {source.max_value}"


def statistics(subject: _Subject) -> str:
    """A declared mean and std are those of the training pixels, scaled to [0, 1]."""
    source = subject.source
    if not source.mean:
        raise Skipped("none declared, so networks do not normalise images")
    pixels = np.asarray(source.train.images[:2000]) / source.max_value
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    if np.abs(mean - source.mean).max() > 0.05 or np.abs(std - source.std).max() > 0.05:
        raise Failed(f"mean {mean.round(3)}, std {std.round(3)}", "Declare these")
    return f"mean {mean.round(3)}, std {std.round(3)}"


def same_content(subject: _Subject) -> str:
    """Reading the source again gives the same images, so that its fingerprint identifies it."""
    with workspace():
        again = load_source(subject.entry.name, plugins=subject.plugins)
        if again.fingerprint != subject.source.fingerprint:
            raise Failed("different content when read again", "Draw from a seeded generator")
    return subject.source.fingerprint[:16]


def no_shared_images(subject: _Subject) -> str:
    """No test image is among the training images."""
    train, test = (np.unique(s.hashes, axis=0) for s in (subject.source.train, subject.source.test))
    both = len(train) + len(test) - len(np.unique(np.concatenate([train, test]), axis=0))
    if both:
        raise Failed(f"{both} images in both splits", "Remove them from one split")
    return "none"
