"""Readers of trees of image files: one folder per class, with or without lists of files."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clgym.data.labelled import Labelled, damaged
from clgym.data.pixels import Files, survey
from clgym.data.trees import TreePart, parts_of
from clgym.errors import BadSource

__all__ = ["read_cub", "read_folder", "read_tiny"]

_LARGE = 256
"""Shorter side in pixels of large images, which leaves room for a random crop of 224 pixels."""


def read_folder(folder: Path, side: int | None) -> tuple[Labelled, Labelled | None]:
    """Read a tree with ``train`` and ``test`` (or similar names), or one without a test part.

    Args:
        folder: The tree.
        side: Side in pixels of the square to which images are resized; None: by `_common_size`.

    Raises:
        BadSource: Images, classes or splits cannot be determined.
    """
    train, test = parts_of(folder)
    parts = [part for part in (train, test) if part is not None]
    heads = survey([path for part in parts for path in part.paths])
    if side is not None:
        size, decoding, notes = (side, side), _square(side), ()
    else:
        size, decoding, notes = _common_size(heads.sizes)
    notes += heads.notes + tuple(note for part in parts for note in part.notes)
    first = _labelled(train, size, decoding, notes)
    return first, test and _labelled(test, size, decoding)


def _square(side: int) -> str:
    """Description of the resizing, which is part of the fingerprint."""
    return f"shorter side {side}, bicubic, centre crop"


def _common_size(
    sizes: Sequence[tuple[int, int]],
) -> tuple[tuple[int, int], str, tuple[str, ...]]:
    """Common height and width of images of these sizes, the resizing, and notes about it.

    Images of one size keep it; others are brought to a square whose side is the (lower) median of
    their shorter sides, at most 256 pixels.
    """
    shorter = sorted(min(size) for size in sizes)
    if len(set(sizes)) == 1 and shorter[0] < _LARGE:
        return sizes[0], "", ("images keep their size, {} x {}".format(*sizes[0]),)
    median = shorter[(len(shorter) - 1) // 2]
    side = min(_LARGE, median)
    why = "the median of their shorter sides" if side == median else "large images"
    return (side, side), _square(side), (f"images are brought to {side} x {side}: {why}",)


def _labelled(
    part: TreePart, size: tuple[int, int], decoding: str, notes: tuple[str, ...] = ()
) -> Labelled:
    counts = [len(paths) for paths in part.classes.values()]
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    return Labelled(Files(part.paths, size), labels, tuple(part.classes), decoding, notes)


def _listed(
    paths: Sequence[Path], labels: np.ndarray, classes: tuple[str, ...], side: int
) -> Labelled:
    return Labelled(Files(paths, (side, side)), labels, classes, _square(side))


def read_tiny(folder: Path, side: int | None) -> tuple[Labelled, Labelled | None]:
    """Read the published layout (``val/images`` with a list), or ``val`` sorted into folders."""
    listing = folder / "val" / "val_annotations.txt"
    if side is None or not listing.is_file() or not (folder / "val" / "images").is_dir():
        return read_folder(folder, side)
    part, _ = parts_of(folder / "train")
    train = _labelled(part, (side, side), _square(side), part.notes)
    rows = [line.split("\t") for line in _lines(listing)]
    try:
        labels = np.array([train.classes.index(row[1]) for row in rows], dtype=np.int64)
    except (ValueError, IndexError) as error:
        raise damaged(listing, "a file and its WordNet id a line", error) from error
    paths = [_inside(folder / "val" / "images", row[0]) for row in rows]
    return train, _listed(paths, labels, train.classes, side)


def read_cub(folder: Path, side: int | None) -> tuple[Labelled, Labelled | None]:
    """Read the published layout (``images`` with two lists), or ``train`` and ``test`` trees."""
    if side is None or not (folder / "images.txt").is_file():
        return read_folder(folder, side)
    names = dict(line.split() for line in _lines(folder / "images.txt"))
    trained = dict(line.split() for line in _lines(folder / "train_test_split.txt"))
    classes = tuple(sorted({name.split("/")[0] for name in names.values()}))
    halves = []
    for flag in ("1", "0"):
        chosen = [name for key, name in names.items() if trained.get(key) == flag]
        labels = np.array([classes.index(name.split("/")[0]) for name in chosen], dtype=np.int64)
        paths = [_inside(folder / "images", name) for name in chosen]
        halves.append(_listed(paths, labels, classes, side))
    return halves[0], halves[1]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, "a list of images", error) from error


def _inside(folder: Path, name: str) -> Path:
    """A path that a list names; it must not lead out of the folder."""
    if re.search(r"(^|[\\/])\.\.([\\/]|$)", name) or Path(name).is_absolute():
        raise BadSource(
            expected=f"names of images in {folder}", found=repr(name), fix="Get the list again"
        )
    return folder / name
