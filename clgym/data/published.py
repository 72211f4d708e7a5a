"""Published corruption files: CIFAR-10-C, CIFAR-100-C, ImageNet-C and files with their layouts.

A folder of the data root with one ``NAME.npy`` a corruption, uint8 [5 n, S, S, 3], severity s in
the rows from (s - 1) n to s n, and ``labels.npy``, int [5 n]; or a tree ``NAME/SEVERITY/CLASS``.
From https://zenodo.org/records/2535967 (CIFAR-10-C), 3555552 (CIFAR-100-C), 2235448 (ImageNet-C).
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clgym.data.npy import mapped
from clgym.data.pixels import decoded
from clgym.data.root import data_root as root_of
from clgym.data.store import cache_dir
from clgym.data.trees import find_images
from clgym.errors import BadSource, MissingData
from clgym.files import dump_checked, file_sha256, load_checked, sha256, write_atomic

__all__ = ["Decoding", "published_digest", "published_images", "published_labels"]

_SEVERITIES = 5


def _file(data_root: Path | None, folder: str, name: str) -> Path:
    path = root_of(data_root) / folder / f"{name}.npy"
    if not path.is_file():
        raise MissingData(
            expected=f"{folder}/{name}.npy in the data root",
            found=f"no such file in {path.parent.parent}",
            fix="Get the published files (https://zenodo.org/records/2535967), or leave --published"
            " out: the corruptions are then made here",
        )
    return path


def _load(path: Path) -> np.ndarray:
    try:
        return mapped(path)
    except ValueError as error:
        raise BadSource(
            expected=f"an array in {path.name}", found=str(error), fix="Get the file again"
        ) from error


def published_labels(
    data_root: Path | None, folder: str, name: str, severity: int, classes: Sequence[str]
) -> np.ndarray:
    """The label of each image of one severity, int64 [n].

    Args:
        data_root: Where the folder lies.
        folder: Its name.
        name: Name of the corruption; a tree has its labels there.
        severity: 1 to 5, likewise.
        classes: Ids by label; those of a tree's images that are none of them are left out.

    Raises:
        MissingData: no ``labels.npy`` there.
        BadSource: the severities have different labels, or a tree lacks a class.
    """
    if (tree := _tree(data_root, folder, name, severity)) is not None:
        groups = _files(tree, classes)
        return np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    path = _file(data_root, folder, "labels")
    labels = np.asarray(_load(path)).astype(np.int64)
    parts = labels.reshape(_SEVERITIES, -1) if len(labels) % _SEVERITIES == 0 else labels[None]
    if len(parts) != _SEVERITIES or (parts != parts[0]).any():
        raise BadSource(
            expected=f"the same labels {_SEVERITIES} times in {path.name}",
            found=f"{len(labels)} labels that do not repeat",
            fix="Get the file again",
        )
    return parts[0]


def published_images(
    data_root: Path | None,
    folder: str,
    name: str,
    severity: int,
    classes: Sequence[str],
    side: int,
) -> "np.ndarray | Decoding":
    """The images of a severity, uint8 [n, S, S, 3]: mapped, or decoded row by row when due.

    Args:
        data_root: Where the folder lies.
        folder: Its name.
        name: Name of the corruption.
        severity: 1 to 5.
        classes: See `published_labels`.
        side: Side in pixels to which a tree's images are resized.

    Raises:
        MissingData: no such file.
        BadSource: The file does not hold five times as many images as there are labels.
    """
    if (tree := _tree(data_root, folder, name, severity)) is not None:
        return Decoding([path for group in _files(tree, classes) for path in group], side)
    path = _file(data_root, folder, name)
    count = len(published_labels(data_root, folder, name, severity, classes))
    images = _load(path)
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != _SEVERITIES * count:
        raise BadSource(
            expected=f"uint8 images, {_SEVERITIES * count} of them, in {path.name}",
            found=f"{images.dtype} {list(images.shape)}",
            fix="Get the file again",
        )
    return images[(severity - 1) * count : severity * count]


@dataclass(frozen=True, eq=False)
class Decoding:
    """Image files that are decoded on demand: one severity of ImageNet-C takes 7 GB."""

    paths: Sequence[Path]
    side: int

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Some of them, uint8 [n, side, side, 3]."""
        return decoded([self.paths[row] for row in rows], self.side)


def _tree(data_root: Path | None, folder: str, name: str, severity: int) -> Path | None:
    path = root_of(data_root) / folder / name / str(severity)
    return path if path.is_dir() else None


def _files(tree: Path, classes: Sequence[str]) -> list[list[Path]]:
    """A tree's images of each class, by name.

    Raises:
        BadSource: a class has none.
    """
    groups = [find_images(tree / name.rpartition("/")[2]) for name in classes]
    empty = [name for name, group in zip(classes, groups, strict=True) if not group]
    if empty:
        raise BadSource(
            expected=f"images of each of the {len(classes)} classes of the source in {tree.name}",
            found=f"none of {empty[0]}",
            fix="Give a --source with these classes, or get the files again",
        )
    return groups


def published_digest(data_root: Path | None, folder: str, name: str, severity: int) -> str:
    """Hex SHA-256 of a file, kept in the cache by the file's path, size and time.

    Of a tree, names and sizes are hashed: its content is too large to be read for that.
    """
    if (tree := _tree(data_root, folder, name, severity)) is not None:
        facts = [(str(p.relative_to(tree)), p.stat().st_size) for p in find_images(tree)]
        return sha256(json.dumps(facts).encode())
    path = _file(data_root, folder, name)
    stat = path.stat()
    key = sha256(json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns]).encode())
    note = cache_dir() / "published" / key
    with contextlib.suppress(OSError, ValueError):
        return load_checked(note.read_bytes())
    digest = file_sha256(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(note, dump_checked(digest))
    return digest
