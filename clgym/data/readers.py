"""Readers of files, one per layout. No code that a file names is executed."""

import gzip
import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data.arrays import find_npz, read_npz
from clgym.data.folders import read_cub, read_folder, read_tiny
from clgym.data.labelled import Labelled, damaged
from clgym.data.trees import find_listed, find_tree
from clgym.errors import BadSource

__all__ = ["IMAGE_FILES", "READERS", "Reader"]


@dataclass(frozen=True)
class Reader:
    """Reader of one layout on disk."""

    find: Callable[[Path], list[Path]]
    """Function that finds the layout's files in a folder; [] if there are none."""
    read: Callable[[Path, int | None], tuple[Labelled, Labelled | None]]
    """Function from the folder and the side of decoded images to train and test data; test is None
    if there is no test split."""
    rules: int = 1
    """Version of the reading rules, part of the cache key; increase it when they change."""


# --- idx: the MNIST family -----------------------------------------------------------------------

_IDX = tuple(
    f"{split}-{kind}-ubyte"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


def _find_idx(folder: Path) -> list[Path]:
    present = any((folder / f"{name}{end}").is_file() for name in _IDX for end in (".gz", ""))
    return [_either(folder, name) for name in _IDX] if present else []


def _read_idx(folder: Path, side: int | None) -> tuple[Labelled, Labelled]:
    halves = []
    for images_name, labels_name in (_IDX[:2], _IDX[2:]):
        images = _idx_array(_either(folder, images_name), 3)
        labels = _idx_array(_either(folder, labels_name), 1)
        halves.append(Labelled(images[..., None], labels.astype(np.int64), ()))
    return halves[0], halves[1]


def _either(folder: Path, name: str) -> Path:
    """Path of the file; the .gz is preferred, since published checksums are those of .gz files."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise BadSource(
        expected=f"{name} or {name}.gz in {folder}", found="neither", fix="Get the file again"
    )


def _idx_array(path: Path, dimensions: int) -> np.ndarray:
    """An idx file of unsigned bytes (type 8), plain or gzipped."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, "a whole gzip stream", error) from error
    head = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < head:
        raise damaged(path, f"an idx header of {dimensions} dimensions", f"bytes {data[:4].hex()}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - head != math.prod(shape):
        raise damaged(path, f"{math.prod(shape)} bytes after its header", f"{len(data) - head}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


# --- CIFAR pickles -------------------------------------------------------------------------------

_RECONSTRUCT, _FROM_BUFFER = (np.empty(0).__reduce_ex__(protocol)[0] for protocol in (2, 5))


def _latin1(text: str, encoding: str) -> bytes:
    """Replacement of ``codecs.encode``, by which old pickles represent bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays and refuses every other name."""

    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
        ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return an allowed class or function; a pickle can name any other one."""
        try:
            return self._ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}") from None


def _find_cifar(folder: Path) -> list[Path]:
    batches = sorted(folder.glob("data_batch_[1-5]"))
    if batches:
        return [*batches, folder / "test_batch"]
    return [folder / "train", folder / "test"] if (folder / "train").is_file() else []


def _read_cifar(folder: Path, side: int | None) -> tuple[Labelled, Labelled]:
    *train, test = _find_cifar(folder)
    parts = [_cifar_batch(path) for path in train]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return Labelled(images, labels, ()), Labelled(*_cifar_batch(test), ())


def _cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            entry = _ArraysOnly(file, encoding="latin1").load()
        entry = {k.decode() if isinstance(k, bytes) else k: v for k, v in entry.items()}
        data = np.asarray(entry["data"])
        labels = np.asarray(entry.get("fine_labels", entry.get("labels")), dtype=np.int64)
        if data.dtype != np.uint8:
            raise ValueError(f"images of {data.dtype}")
        return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
    except FileNotFoundError as error:
        raise BadSource(expected=f"the file {path}", found="none", fix="Fetch it again") from error
    # A pickle that was cut or forged can fail in any of these ways.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        ImportError,
        UnicodeDecodeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise damaged(path, "a batch of CIFAR images", error) from error


# --- SVHN ----------------------------------------------------------------------------------------


def _find_svhn(folder: Path) -> list[Path]:
    files = [folder / "train_32x32.mat", folder / "test_32x32.mat"]
    return files if files[0].is_file() else []


def _read_svhn(folder: Path, side: int | None) -> tuple[Labelled, Labelled]:
    train, test = (_svhn_half(path) for path in _find_svhn(folder))
    return train, test


def _svhn_half(path: Path) -> Labelled:
    import scipy.io

    try:
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
        images = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))
        # The files call the digit 0 class 10.
        labels = content["y"].reshape(-1).astype(np.int64) % 10
    # scipy promises no list of what damaged files raise.
    except Exception as error:
        raise damaged(path, "SVHN's X and y", error) from error
    return Labelled(images, labels, ())


# --- digits --------------------------------------------------------------------------------------


def _read_digits(folder: Path, side: int | None) -> tuple[Labelled, Labelled]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data: Any = load_digits()
    images, labels = data.images.astype(np.uint8)[..., None], data.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels
    )
    return Labelled(images[train], labels[train], ()), Labelled(images[test], labels[test], ())


READERS: dict[str, Reader] = {
    "digits": Reader(lambda folder: [], _read_digits),
    "idx": Reader(_find_idx, _read_idx),
    "cifar": Reader(_find_cifar, _read_cifar),
    "svhn": Reader(_find_svhn, _read_svhn),
    "npz": Reader(find_npz, read_npz, rules=2),
    "folder": Reader(find_tree, read_folder, rules=2),
    "tiny-imagenet": Reader(find_listed, read_tiny, rules=2),
    "cub200": Reader(find_listed, read_cub, rules=2),
}

IMAGE_FILES = ("folder", "tiny-imagenet", "cub200")
"""Layouts of image files, which are decoded to a common size."""
