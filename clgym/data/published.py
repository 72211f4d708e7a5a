"""Published corruption files: CIFAR-10-C, CIFAR-100-C and whatever has their layout.

A folder of the data root with one ``NAME.npy`` a corruption, uint8 [5 n, S, S, 3], severity s in
the rows from (s - 1) n to s n, and ``labels.npy``, int [5 n].
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from clgym.data.store import cache_dir
from clgym.errors import BadSource, MissingData
from clgym.files import sha256, write_atomic

__all__ = ["published_digest", "published_images", "published_labels"]

_SEVERITIES = 5


def _file(data_root: Path | None, folder: str, name: str) -> Path:
    given = data_root or os.environ.get("CLGYM_DATA")
    path = Path(given or ".").expanduser() / folder / f"{name}.npy"
    if not given or not path.is_file():
        raise MissingData(
            expected=f"{folder}/{name}.npy in the data root",
            found="no such file" if given else "neither --data-root nor CLGYM_DATA",
            fix="Get the published files (https://zenodo.org/records/2535967), or leave --published"
            " out: the corruptions are then made here",
        )
    return path


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadSource(
            expected=f"an array in {path.name}", found=str(error), fix="Get the file again"
        ) from error


def published_labels(data_root: Path | None, folder: str) -> np.ndarray:
    """The label of each image of one severity, int64 [n].

    Raises:
        MissingData: no ``labels.npy`` there.
        BadSource: the severities have different labels.
    """
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


def published_images(data_root: Path | None, folder: str, name: str, severity: int) -> np.ndarray:
    """The images of a severity, uint8 [n, S, S, 3], mapped.

    Raises:
        MissingData: no such file.
        BadSource: it is not five times as long as the labels say.
    """
    path = _file(data_root, folder, name)
    images, count = _load(path), len(published_labels(data_root, folder))
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != _SEVERITIES * count:
        raise BadSource(
            expected=f"uint8 images, {_SEVERITIES * count} of them, in {path.name}",
            found=f"{images.dtype} {list(images.shape)}",
            fix="Get the file again",
        )
    return images[(severity - 1) * count : severity * count]


def published_digest(data_root: Path | None, folder: str, name: str) -> str:
    """Hex SHA-256 of a file, kept in the cache by the file's path, size and time."""
    path = _file(data_root, folder, name)
    stat = path.stat()
    key = sha256(json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns]).encode())
    note = cache_dir() / "published" / key
    if not note.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, digest.encode())
    return note.read_text()
