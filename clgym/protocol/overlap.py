"""Overlap of the two sides of a pair: equal images, similar images, common classes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clgym.codec import Tree
from clgym.data.halves import Half, in_half
from clgym.data.npy import RowReader
from clgym.data.sources import Source
from clgym.errors import BadPlan
from clgym.protocol.lookalikes import averaging, lookalikes, shrunk
from clgym.protocol.pairs import ScenarioPair
from clgym.streams.adaptation import AdaptationStream

__all__ = [
    "DETECTOR",
    "Footprint",
    "Overlap",
    "alike",
    "check",
    "check_looks",
    "compare",
    "footprint",
    "footprint_of",
    "looks",
]

ALLOWED_SHARE = 0.005
"""Fraction of the smaller side up to which shared images are allowed: exact duplicates are dropped,
near-duplicates are reported; more of either are refused."""
DETECTOR = "lookalikes-2"
"""Name and version of the method that finds similar images; other versions find others. Reports of
clgym 0.1 name none, since they used only the difference hash."""
_BITS, _DISTANCE = 4, 0.02
"""Limits for near-duplicates: Hamming distance of the codes, and mean absolute difference of 8 x 8
pixels."""
_FEWEST = 16
"""Smallest side in pixels of images that are compared with transformed ones."""
_BLOCK, _AT_ONCE = 512, 32 * 2**20
"""Images, and bytes of them, that are looked at together."""
_LISTED = 100


@dataclass(frozen=True, eq=False)
class Footprint:
    """Data that are read of one side, which contain neither labels nor full-size images."""

    name: str
    classes: tuple[str, ...]
    """Canonical ids of the classes in use."""
    hashes: np.ndarray
    """uint8 [N, 32], hashes of the images of both splits."""
    codes: np.ndarray
    """uint64 [N], difference hashes."""
    thumbs: np.ndarray
    """float32 [N, 64] in [0, 1], grey thumbnails of 8 x 8 pixels."""
    grey: np.ndarray
    """uint8 [N, 32, 32], grey images; empty for images smaller than 16 x 16, whose few pixels prove
    nothing if they may be flipped, rotated and shifted."""


@dataclass(frozen=True)
class Overlap:
    """Report of what both sides share."""

    shared_images: tuple[str, ...]
    """SHA-256 of the images that are in both sides, ascending."""
    shared_classes: tuple[tuple[str, str], ...]
    near_duplicates: int
    near_examples: tuple[tuple[str, str], ...]
    """Hashes of the first near-duplicates."""
    images: tuple[int, int]
    near_images: int = 0
    """Number of images of one side that look like one of the other: the smaller of both counts."""

    @property
    def flags(self) -> list[str]:
        """Flags about the tuning side that a result must state."""
        count, verb = self.near_images, "looks" if self.near_images == 1 else "look"
        return [f"{count} of its images {verb} like one of the evaluation"] if count else []

    def describe(self) -> dict[str, Tree]:
        """Return the report as JSON-ready data."""
        return {
            "shared_images": list(self.shared_images),
            "shared_classes": [list(names) for names in self.shared_classes],
            "near_duplicates": self.near_duplicates,
            "near_images": self.near_images,
            "near_examples": [list(hashes) for hashes in self.near_examples],
            "detector": DETECTOR,
            "images": list(self.images),
        }


def footprint(source: Source, classes: Sequence[int] | None, half: Half | None = None) -> Footprint:
    """Read the rows of one side of a pair.

    Args:
        source: Source of the rows.
        classes: Classes whose rows are read; None means all.
        half: Half of the test images, if the sides share the training data of their classifier.
    """
    chosen = range(len(source.classes)) if classes is None else classes
    splits = (source.train, source.test) if half is None else (source.test,)
    rows = [np.flatnonzero(np.isin(split.labels, list(chosen))) for split in splits]
    if half is not None:
        rows = [np.flatnonzero(in_half(source.test.hashes, half))]
    return footprint_of(
        source.name,
        tuple(source.classes[c] for c in chosen if c < len(source.classes)),
        [(s.images, s.hashes, r) for s, r in zip(splits, rows, strict=True)],
        source.max_value,
    )


def footprint_of(
    name: str,
    classes: tuple[str, ...],
    splits: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    max_value: int,
) -> Footprint:
    """Compute the footprint of images.

    Args:
        name: Name of their source.
        classes: Canonical ids.
        splits: Images [n, H, W, C], their SHA-256 uint8 [n, 32], and the rows to read.
        max_value: Maximum value of a pixel.
    """
    small = [_small(images, rows, max_value) for images, _, rows in splits]
    thumbs, grey = (np.concatenate(parts) for parts in zip(*small, strict=True))
    return Footprint(
        name,
        classes,
        np.concatenate([hashes[rows] for _, hashes, rows in splits]),
        _codes(thumbs),
        thumbs[:, :, :8].reshape(len(thumbs), 64),
        grey if min(splits[0][0].shape[1:3]) >= _FEWEST else grey[:0],
    )


def _small(images: np.ndarray, rows: np.ndarray, max_value: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey images: float32 [n, 8, 9] in [0, 1] for the codes, and uint8 [n, 32, 32]."""
    height, width = images.shape[1:3]
    down, right = averaging(8, height), averaging(9, width)
    thumbs = np.empty((len(rows), 8, 9), dtype=np.float32)
    grey = np.empty((len(rows), 32, 32), dtype=np.uint8)
    block = max(1, min(_BLOCK, _AT_ONCE // max(1, int(np.prod(images.shape[1:])))))
    reader = RowReader(images)
    for start in range(0, len(rows), block):
        part = reader[rows[start : start + block]]
        means = np.asarray(part, dtype=np.float32).mean(axis=3) / max_value
        thumbs[start : start + len(part)] = down @ means @ right.T
        grey[start : start + len(part)] = shrunk(part, max_value)
    return thumbs, grey


def _codes(thumbs: np.ndarray) -> np.ndarray:
    """Difference hash, uint64 [n]: whether each place is brighter than its right neighbour."""
    bits = (thumbs[:, :, :-1] > thumbs[:, :, 1:]).reshape(len(thumbs), 64)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def compare(one: Footprint, other: Footprint) -> Overlap:
    """Report what both sides share."""
    first, second = ([bytes(h).hex() for h in side.hashes] for side in (one, other))
    pairs = alike(one, other)
    return Overlap(
        tuple(sorted({*first} & {*second})),
        _same_classes(one.classes, other.classes),
        len(pairs),
        tuple((first[i], second[j]) for i, j in pairs[:_LISTED]),
        (len(first), len(second)),
        min(len({i for i, _ in pairs}), len({j for _, j in pairs})),
    )


def alike(one: Footprint, other: Footprint) -> list[tuple[int, int]]:
    """Pairs of rows that are similar but not equal, found by either of two methods."""
    pairs = {*_near(one, other), *lookalikes(one.grey, other.grey)}
    return sorted((i, j) for i, j in pairs if not np.array_equal(one.hashes[i], other.hashes[j]))


def _near(one: Footprint, other: Footprint) -> list[tuple[int, int]]:
    """Pairs of rows whose thumbnails are almost equal, such as images with few changed pixels."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(one.codes), _BLOCK):
        part = one.codes[start : start + _BLOCK]
        distance = np.bitwise_count(part[:, None] ^ other.codes[None])
        for i, j in np.argwhere(distance <= _BITS):
            i = int(i) + start
            if np.abs(one.thumbs[i] - other.thumbs[j]).mean() <= _DISTANCE:
                found.append((i, int(j)))
    return found


def _same_classes(one: Sequence[str], other: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Classes that are the same: equal ids, or equal words under different dataset prefixes.

    Bare numbers do not identify a class: two sources without class names share none.
    """
    words = {_word(name): name for name in other if _word(name)}
    return tuple((name, words[_word(name)]) for name in one if _word(name) in words)


def _word(name: str) -> str:
    if re.fullmatch(r"\d+", name):
        return ""
    return re.sub(r"[^a-z0-9]+", "-", name.rpartition("/")[2].lower()).strip("-")


def check(pair: ScenarioPair, overlap: Overlap, disjoint_classes: bool) -> list[str]:
    """Refuse a pair, or return the images that its tuning side must not use.

    Raises:
        BadPlan: The sides share a class, two sources share an image, halves share too many images,
            or too many images are similar.
    """
    if disjoint_classes and overlap.shared_classes:
        names = [a if a == b else f"{a} = {b}" for a, b in overlap.shared_classes]
        raise BadPlan(
            expected=f"two sides of {pair.name} without a class in common",
            found=f"{len(names)} shared: {', '.join(names[:60])}",
            fix="Choose other classes for one side",
        )
    count, allowed = len(overlap.shared_images), 0
    if pair.halves:
        allowed = int(ALLOWED_SHARE * min(overlap.images))
    if count > allowed:
        raise BadPlan(
            expected=f"two sides of {pair.name} with at most {allowed} images in common",
            found=f"{count} shared, the first with hash {overlap.shared_images[0][:16]}",
            fix="Choose other sources, or remove the shared images from one",
        )
    copies, allowed = overlap.near_images, int(ALLOWED_SHARE * min(overlap.images))
    # Images of one class are similar, and both halves belong to the evaluation: this is only
    # flagged.
    if copies > allowed and not (pair.halves and pair.evaluation.half):
        raise BadPlan(
            expected=f"at most {allowed} images on one side of {pair.name} that look like one of "
            "the other",
            found=f"{copies}, such as {overlap.near_examples[0][0][:16]} and "
            f"{overlap.near_examples[0][1][:16]} (SHA-256)",
            fix="Choose other sources, since tuning on changed copies of the evaluation's images "
            "uses it",
        )
    return list(overlap.shared_images)


def looks(stream: AdaptationStream) -> set[tuple[str, str]]:
    """Corruptions of an adaptation stream, as (fingerprint, corruption).

    Clean images are left out, since they are compared by hash.
    """
    return {
        (stream.fingerprints[domain.source], domain.corruption)
        for domain in stream.domains
        if domain.corruption is not None
    }


def check_looks(pair: ScenarioPair, one: set[tuple[str, str]], other: set[tuple[str, str]]) -> None:
    """Refuse sides that contain one source under the same corruption, at any severity.

    Raises:
        BadPlan: There are common corruptions, which the message names.
    """
    if shared := sorted(name for _, name in one & other):
        raise BadPlan(
            expected=f"other corruptions on each side of {pair.name}",
            found=f"{len(shared)} on both: {', '.join(shared)}",
            fix="Give sides such as digits[corruptions=extra;rows=tuning]",
        )
