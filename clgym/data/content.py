"""Content of a source by hashes and labels: the test split, shared images, and missing classes."""

from collections.abc import Iterator, Sequence

import numpy as np

from clgym.data.store import Split, canonical_order
from clgym.data.words import counted, names_in_words

__all__ = ["TEST_SHARE", "among", "content_notes", "held_by_hash"]

TEST_SHARE = 0.2
"""Fraction of every class that is held out for testing if a source has no test split."""


def held_by_hash(hashes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows held out for testing: the fifth of every class with the smallest hashes.

    The same images give the same split in any order and under any file name. Copies of an image
    stay on one side whatever their labels are; if the labels disagree, on the side of training. At
    least one image of every class stays in training, even if all of its images are copies.

    Args:
        hashes: uint8 [n, 32], SHA-256 of each image.
        labels: int64 [n].

    Returns:
        bool [n].
    """
    held = np.zeros(len(labels), dtype=bool)
    order = canonical_order(hashes, labels)
    for label in np.unique(labels):
        places = order[labels[order] == label]
        held[places[: _held_of_class(hashes[places])]] = True
    return held & ~among(hashes, hashes[~held])


def _held_of_class(hashes: np.ndarray) -> int:
    """Number of a class's images that are held out, by ascending hash: copies are neighbours."""
    count = int(TEST_SHARE * len(hashes))
    if not count:
        return 0
    same = np.flatnonzero((hashes == hashes[count - 1]).all(axis=1))
    # Copies of the last image are held out too, unless no image would be left for training.
    return int(same[-1]) + 1 if same[-1] + 1 < len(hashes) else int(same[0])


def among(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each image also occurs among other images.

    Args:
        hashes: uint8 [n, 32], SHA-256 of each image.
        others: uint8 [m, 32].

    Returns:
        bool [n].
    """
    ours, theirs = (np.ascontiguousarray(h).view(">u8").astype(np.uint64) for h in (hashes, others))
    # Eight of 32 bytes leave few candidates, whose other bytes are then compared.
    near = np.isin(ours[:, 0], theirs[:, 0])
    known = {h.tobytes() for h in others[np.isin(theirs[:, 0], ours[near, 0])]}
    near[near] = [h.tobytes() in known for h in hashes[near]]
    return near


def content_notes(
    train: Split, test: Split, classes: Sequence[str], by_hash: bool
) -> Iterator[str]:
    """Warnings about the images of a source, such as shared or dark images, in words.

    Args:
        train: Training split with all of its labels.
        test: Test split with all of its labels.
        classes: Names by label.
        by_hash: Whether the test part was cut by `held_by_hash`.
    """
    shared = int(among(test.hashes, train.hashes).sum())
    if shared:
        yield f"{shared} of {len(test.labels)} test images are training images too"
    # A cut by hash leaves copies of an image on one side.
    if by_hash and (several := sum(map(_under_several_labels, (train, test)))):
        yield f"{counted(several, 'image')} of more than one class"
    trained, tested = (
        np.bincount(split.labels, minlength=len(classes)) > 0 for split in (train, test)
    )
    for words, which in (
        ("classes without test images, never measured", trained & ~tested),
        ("classes with test images and without training images", tested & ~trained),
        ("classes without images", ~trained & ~tested),
    ):
        if which.any():
            names = [name for name, is_so in zip(classes, which, strict=True) if is_so]
            yield f"{words}: {names_in_words(names)}"


def _under_several_labels(split: Split) -> int:
    """Number of different images that have more than one label; copies are neighbours."""
    same = (split.hashes[1:] == split.hashes[:-1]).all(axis=1)
    differ = split.labels[1:] != split.labels[:-1]
    return len(np.unique(split.hashes[1:][same & differ], axis=0))
