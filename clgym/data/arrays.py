"""Reader of npz files: images, labels, class names.

An error message contains the line of code that corrects the arrays.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data.labelled import Labelled, damaged
from clgym.data.npz import MALFORMED, PackedRows, extremes, large_array, small_array
from clgym.errors import BadSource

__all__ = ["COLOURS", "find_npz", "read_npz"]

COLOURS = (1, 3)
"""Valid numbers of channels: 1 (grey) or 3 (red, green and blue)."""
_HALVES = ("train.npz", "test.npz")
_KEYS = ("images", "labels", "classes")


def find_npz(path: Path) -> list[Path]:
    """The file itself, or the existing ones of train.npz and test.npz in a folder."""
    if path.is_file():
        return [path]
    return [path / name for name in _HALVES if (path / name).is_file()]


def read_npz(path: Path, side: int | None) -> tuple[Labelled, Labelled | None]:
    """Read one file without a test part, or a folder with ``train.npz`` and ``test.npz``.

    Args:
        path: Path of the file or the folder.
        side: Not used: arrays keep their size.

    Raises:
        BadSource: A file is missing, damaged, or has arrays of other types or shapes.
    """
    if path.is_file():
        return _read_file(path), None
    missing = [name for name in _HALVES if not (path / name).is_file()]
    if missing:
        there = next(name for name in _HALVES if name not in missing)
        raise BadSource(
            expected=f"train.npz and test.npz in {path}",
            found=f"no {missing[0]}",
            fix=f"Write it with np.savez({missing[0]!r}, images=..., labels=..., classes=...), or "
            f"give npz:{path / there}, of which a fifth of every class is cut off for testing",
        )
    train, test = (_read_file(path / name) for name in _HALVES)
    return train, test


def _read_file(path: Path) -> Labelled:
    names, images, small = _arrays(path)
    _check_present(path, names, ("images", "labels"))
    assert images is not None
    images = _checked_images(path, images)
    labels = _flat_labels(path, small["labels"])
    if labels.dtype.kind == "U" and "classes" not in small:
        classes = np.unique(labels)
    else:
        _check_present(path, names, _KEYS)
        classes = _class_names(path, small["classes"])
    numbers = _numbers(path, labels, classes)
    return Labelled(images, numbers, tuple(map(str, classes)))


def _arrays(path: Path) -> tuple[list[str], np.ndarray | PackedRows | None, dict[str, np.ndarray]]:
    """Names of a file's arrays, its images, and its labels and classes."""
    # NumPy would take a file that is no archive for a pickle, and advise how to load that.
    if path.suffix == ".npy":
        raise BadSource(
            expected="an npz file with the arrays images, labels and classes",
            found=f"{path}, which holds one array",
            fix="Write one: np.savez(FILE, images=..., labels=..., classes=...)",
        )
    if not zipfile.is_zipfile(path):
        raise damaged(path, "the arrays images, labels and classes", "no npz archive")
    names: list[str] = []
    images: np.ndarray | PackedRows | None = None
    small: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                names.append(member.filename.removesuffix(".npy"))
                if names[-1] == "images":
                    images = large_array(archive, member, path)
                elif names[-1] in _KEYS:
                    small[names[-1]] = small_array(archive, member)
    except MALFORMED as error:
        # NumPy has no separate class of errors for pickled arrays.
        if "Object arrays" in str(error):
            key = names[-1]
            line = "images = np.stack(images)" if key == "images" else f"{key} = {key}.astype(str)"
            raise _mended(path, f"{key} as numbers or strings", "Python objects", line) from error
        raise damaged(path, "the arrays images, labels and classes", error) from error
    return names, images, small


def _mended(path: Path, expected: str, found: str, line: str) -> BadSource:
    """The error that names the array and the line of code that corrects it."""
    return BadSource(
        expected=f"{path} to hold {expected}",
        found=found,
        fix=f"Before np.savez: `{line}`",
    )


def _described(array: np.ndarray | PackedRows) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _check_present(path: Path, arrays: Iterable[str], keys: Iterable[str]) -> None:
    missing = [key for key in keys if key not in arrays]
    if missing:
        own = {"classes": "classes=[str(c) for c in range(labels.max() + 1)]"}
        line = ", ".join(
            f"{key}={key}" if key not in missing else own.get(key, f"{key}=...") for key in _KEYS
        )
        raise BadSource(
            expected=f"{path} to hold the arrays images, labels and classes",
            found=f"no {' and no '.join(missing)} among {', '.join(arrays) or 'nothing'}",
            fix=f"Write it with np.savez({path.name!r}, {line}); without classes where labels are "
            "strings",
        )


# --- images --------------------------------------------------------------------------------------


def _checked_images(path: Path, images: np.ndarray | PackedRows) -> np.ndarray | PackedRows:
    """Images as uint8 [N, H, W, C], C 1 or 3."""
    expected = "images uint8 [N, H, W, C], C being 1 (grey) or 3 (red, green, blue), or [N, H, W]"
    shape = images.shape
    if len(shape) == 3:
        images = _of_one_channel(images)
    elif len(shape) != 4:
        line = _unflattened(shape[1]) if len(shape) == 2 else "images = images.reshape(n, h, w, c)"
        raise _mended(path, expected, _described(images), line)
    if images.shape[3] not in COLOURS:
        raise _mended(path, expected, _described(images), _with_channels_last(images.shape))
    if images.dtype != np.uint8:
        low, high = extremes(images) if 0 not in images.shape else (0, 0)
        span = f" from {low:g} to {high:g}" if 0 not in images.shape else ""
        raise _mended(path, expected, _described(images) + span, _in_bytes(images.dtype, low, high))
    return images


def _of_one_channel(images: np.ndarray | PackedRows) -> np.ndarray | PackedRows:
    """Images [N, H, W] as [N, H, W, 1]."""
    if isinstance(images, np.ndarray):
        return images[..., None]
    return replace(images, shape=(*images.shape, 1))


def _unflattened(length: int) -> str:
    """The line that makes images of rows of numbers."""
    for channels in COLOURS:
        side = round((length / channels) ** 0.5)
        if channels * side**2 == length:
            return f"images = images.reshape(-1, {channels}, {side}, {side}).transpose(0, 2, 3, 1)"
    return "images = images.reshape(n, h, w, c)"


def _with_channels_last(shape: tuple[int, ...]) -> str:
    """The line that leaves 1 or 3 channels, in the last place."""
    if shape[1] in COLOURS:
        return "images = images.transpose(0, 2, 3, 1)"
    if shape[2] in COLOURS:
        return "images = images.transpose(3, 0, 1, 2)"
    kept = ":1" if shape[3] == 2 else ":3"
    return f"images = images[..., {kept}]"


def _in_bytes(dtype: np.dtype, low: Any, high: Any) -> str:
    """The line that brings values from ``low`` to ``high`` to 0..255."""
    if dtype.kind == "b":
        return 'images = images.astype("uint8") * 255'
    if dtype.kind == "f" and low >= 0 and high <= 1:
        return 'images = (images * 255).round().astype("uint8")'
    if low >= 0 and high <= 255:
        return 'images = images.round().astype("uint8")'
    if dtype.kind in "iu" and low >= 0 and high <= 65535:
        return 'images = ((images.astype("int64") + 128) // 257).astype("uint8")'
    return 'images = ((images - low) / (high - low) * 255).round().astype("uint8")'


# --- labels --------------------------------------------------------------------------------------


def _flat_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    """Labels [N]: int64 numbers, or strings."""
    expected = "labels [N], whole numbers or strings"
    if labels.ndim != 1:
        columns = labels.ndim == 2 and labels.shape[1] > 1
        line = "labels = labels.argmax(axis=1)" if columns else "labels = labels.ravel()"
        raise _mended(path, expected, _described(labels), line)
    if labels.dtype.kind in "US":
        return _text(path, "labels", labels)
    if labels.dtype.kind not in "iu":
        line = 'labels = labels.astype("int64")'
        if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
            line = "labels = np.unique(labels, return_inverse=True)[1]"
        raise _mended(path, expected, _described(labels), line)
    return labels.astype(np.int64)


def _class_names(path: Path, classes: np.ndarray) -> np.ndarray:
    if classes.ndim != 1:
        line = "classes = classes.ravel()"
    elif classes.dtype.kind not in "US":
        line = "classes = classes.astype(str)"
    else:
        return _text(path, "classes", classes)
    raise _mended(path, "classes as strings [C]", _described(classes), line)


def _text(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    try:
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        line = f'{key} = np.char.decode({key}, "latin1")'
        raise _mended(path, f"{key} in UTF-8", str(error), line) from error


def _numbers(path: Path, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Labels as int64 [N], each an index into the class names."""
    if labels.dtype.kind == "U":
        places = {name: number for number, name in enumerate(classes.tolist())}
        strange = sorted(set(labels.tolist()) - places.keys())
        if strange:
            line = "classes = np.unique(labels)"
            raise _mended(path, "labels that are among its classes", repr(strange[0]), line)
        return np.array([places[name] for name in labels.tolist()], dtype=np.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        span = f"labels from 0 to {len(classes) - 1}, numbers of its {len(classes)} classes"
        raise _mended(path, span, f"{labels.min()} to {labels.max()}", _from_zero(labels, classes))
    return labels


def _from_zero(labels: np.ndarray, classes: np.ndarray) -> str:
    """The line that makes labels indices into the class names."""
    present = np.unique(labels)
    if labels.min() < 0:
        return "images, labels = images[labels >= 0], labels[labels >= 0]"
    if labels.min() == 1 and labels.max() == len(classes):
        return "labels = labels - 1"
    if len(present) == len(classes):
        return "labels = np.unique(labels, return_inverse=True)[1]"
    return "classes = [str(c) for c in range(labels.max() + 1)]"
