"""Orders of the images of an unlabelled stream.

Draws follow the published code: Python's ``random`` for plain shuffles, NumPy's legacy generator
for the Dirichlet and Zipf rules, both seeded anew for every segment.
"""

import hashlib
import random

import numpy as np
from numpy.random import RandomState

from clgym.errors import BadStream

__all__ = [
    "dirichlet",
    "grouped",
    "segment_seed",
    "shuffled",
    "sorted_by_label",
    "zipf_counts",
    "zipf_rows",
]

_ATTEMPTS = 1000
"""Maximum number of draws, since small sets may never satisfy a rule."""
_LEAST = 10
"""Minimum number of images in each chunk of a Dirichlet order."""


def segment_seed(seed: int, number: int) -> int:
    """Seed of the order of one segment, from 0 to 2**32 - 1."""
    digest = hashlib.sha256(f"segment {number} of order {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def shuffled(count: int, seed: int, kept: int | None = None) -> np.ndarray:
    """A permutation of ``range(count)``, or a random sample of ``kept`` of it; int64."""
    generator = random.Random(seed)
    order = list(range(count))
    generator.shuffle(order)
    if kept is not None and kept < count:
        order = generator.sample(order, kept)
    return np.array(order, dtype=np.int64)


def sorted_by_label(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sort an order's rows by class; within a class their order is kept.

    Args:
        order: int64 [n], rows.
        labels: int64, by row.
    """
    return order[np.argsort(labels[order], kind="stable")]


def grouped(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Group an order's rows by class, with the classes in the order of their first image."""
    seen = labels[order]
    _, first, number = np.unique(seen, return_index=True, return_inverse=True)
    return order[np.argsort(first[number], kind="stable")]


def dirichlet(order: np.ndarray, labels: np.ndarray, delta: float, seed: int) -> np.ndarray:
    """Chunks with class fractions drawn from Dirichlet(delta); each class is contiguous in a chunk.

    Args:
        order: int64 [n], rows.
        labels: int64, by row.
        delta: Concentration, above 0; the smaller, the fewer classes are in a chunk.
        seed: Seed of NumPy's legacy generator.

    Raises:
        BadStream: The rule is not satisfied after many draws: too few images, or too small a delta.
    """
    generator = RandomState(seed)
    own = labels[order]
    classes = np.unique(own)
    for _ in range(_ATTEMPTS):
        chunks = _chunks(own, classes, delta, generator)
        if chunks is not None:
            break
    else:
        raise BadStream(
            expected=f"{_LEAST} images in each of {len(classes)} chunks of a Dirichlet order",
            found=f"no such order in {_ATTEMPTS} draws of {len(order)} images with delta {delta:g}",
            fix="Use more images or a larger --delta",
        )
    arranged = []
    for chunk in chunks:
        labels_of = own[chunk]
        turns = np.arange(len(classes))
        generator.shuffle(turns)
        arranged += [chunk[labels_of == classes[k]] for k in turns]
    return order[np.concatenate(arranged)]


def _chunks(
    own: np.ndarray, classes: np.ndarray, delta: float, generator: RandomState
) -> list[np.ndarray] | None:
    """Draw once by the rule: positions of each chunk, or None if a chunk is too small."""
    count = len(classes)
    chunks = [np.zeros(0, dtype=np.int64) for _ in range(count)]
    for label in classes:
        places = np.flatnonzero(own == label)
        generator.shuffle(places)
        shares = generator.dirichlet(np.full(count, delta))
        shares *= [len(chunk) < len(own) / count for chunk in chunks]
        if not shares.sum() > 0:
            return None
        cuts = (np.cumsum(shares / shares.sum()) * len(places)).astype(int)[:-1]
        parts = np.split(places, cuts)
        chunks = [np.concatenate(pair) for pair in zip(chunks, parts, strict=True)]
    return chunks if min(len(chunk) for chunk in chunks) >= _LEAST else None


def zipf_counts(
    classes: int, total: int, seed: int | RandomState, *, top: float = 0.1, limit: float = 0.9
) -> np.ndarray:
    """Number of images of each class under a Zipf prior (a = 2), int64 [classes].

    A draw is accepted if the most frequent fraction ``top`` of the classes has less than the
    fraction ``limit`` of all images.

    Raises:
        BadStream: No draw was accepted.
    """
    generator = seed if isinstance(seed, RandomState) else RandomState(seed)
    head = max(1, int(top * classes))  # at least one class, or no draw would ever be accepted
    for _ in range(_ATTEMPTS):
        weights = generator.zipf(2, size=classes)
        counts = (total * weights / weights.sum()).astype(np.int64)
        if np.sort(counts)[-head:].sum() < limit * counts.sum():
            return counts
    raise BadStream(
        expected=f"a Zipf prior in which {head} of {classes} classes hold less than {limit:.0%}",
        found=f"no such prior in {_ATTEMPTS} draws",
        fix="Use a source with more classes",
    )


def zipf_rows(order: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw as many rows as ``order`` has, with replacement under a Zipf prior, shuffled."""
    generator = RandomState(seed)
    own = labels[order]
    classes = np.unique(own)
    counts = zipf_counts(len(classes), len(order), generator)
    drawn = [
        generator.choice(order[own == label], size=count)
        for label, count in zip(classes, counts, strict=True)
    ]
    return generator.permutation(np.concatenate(drawn))
