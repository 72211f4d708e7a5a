"""Files to arrays, one reader a layout. Files are data: nothing that they name is ever executed."""

import gzip
import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data.store import ImageRows
from clgym.errors import BadSource

__all__ = ["READERS", "Labelled", "Reader"]

_EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Decoded images with the labels and class names that their files state."""

    images: ImageRows
    """uint8 [N, H, W, C]."""
    labels: np.ndarray
    """int64 [N], into ``classes``."""
    classes: tuple[str, ...]
    """Names as the files give them; () if the layout knows none and the card's are meant."""


@dataclass(frozen=True)
class Reader:
    """One layout on disk."""

    find: Callable[[Path], list[Path]]
    """The files of the layout in a folder; [] if it is not there."""
    read: Callable[[Path, int], tuple[Labelled, Labelled | None]]
    """Train and test from the folder and the side of decoded images; test None: cut your own."""


def _bad(path: Path, expected: str, found: object) -> BadSource:
    return BadSource(
        expected=f"{path} to hold {expected}",
        found=str(found) or type(found).__name__,
        fix="Get the file again: it is damaged or something else",
    )


# --- idx: the MNIST family -----------------------------------------------------------------------

_IDX = tuple(
    f"{split}-{kind}-ubyte"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


def _find_idx(folder: Path) -> list[Path]:
    present = any((folder / f"{name}{end}").is_file() for name in _IDX for end in (".gz", ""))
    return [_either(folder, name) for name in _IDX] if present else []


def _read_idx(folder: Path, side: int) -> tuple[Labelled, Labelled]:
    halves = []
    for images_name, labels_name in (_IDX[:2], _IDX[2:]):
        images = _idx_array(_either(folder, images_name), 3)
        labels = _idx_array(_either(folder, labels_name), 1)
        halves.append(Labelled(images[..., None], labels.astype(np.int64), ()))
    return halves[0], halves[1]


def _either(folder: Path, name: str) -> Path:
    """The .gz is preferred: it is what the published checksums are of."""
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
        raise _bad(path, "a whole gzip stream", error) from error
    head = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < head:
        raise _bad(path, f"an idx header of {dimensions} dimensions", f"bytes {data[:4].hex()}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - head != int(np.prod(shape)):
        raise _bad(path, f"{int(np.prod(shape))} bytes after its header", f"{len(data) - head}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


# --- CIFAR pickles -------------------------------------------------------------------------------

_RECONSTRUCT = np.empty(0).__reduce__()[0]


def _latin1(text: str, encoding: str) -> bytes:
    """Stands for ``codecs.encode``, by which old pickles carry bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays and refuses every other name."""

    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Only what is listed; a pickle can name anything."""
        try:
            return self._ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}") from None


def _find_cifar(folder: Path) -> list[Path]:
    batches = sorted(folder.glob("data_batch_[1-5]"))
    if batches:
        return [*batches, folder / "test_batch"]
    return [folder / "train", folder / "test"] if (folder / "train").is_file() else []


def _read_cifar(folder: Path, side: int) -> tuple[Labelled, Labelled]:
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
        raise BadSource(expected=f"the file {path}", found="none", fix="Get it again") from error
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
        raise _bad(path, "a batch of CIFAR images", error) from error


# --- SVHN ----------------------------------------------------------------------------------------


def _find_svhn(folder: Path) -> list[Path]:
    files = [folder / "train_32x32.mat", folder / "test_32x32.mat"]
    return files if files[0].is_file() else []


def _read_svhn(folder: Path, side: int) -> tuple[Labelled, Labelled]:
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
        raise _bad(path, "SVHN's X and y", error) from error
    return Labelled(images, labels, ())


# --- npz -----------------------------------------------------------------------------------------


def _find_npz(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [path / "train.npz", path / "test.npz"]
    return files if any(file.is_file() for file in files) else []


def _read_npz(path: Path, side: int) -> tuple[Labelled, Labelled | None]:
    if path.is_file():
        return _npz_half(path), None
    train, test = (_npz_half(file) for file in _find_npz(path))
    return train, test


def _npz_half(path: Path) -> Labelled:
    try:
        with np.load(path, allow_pickle=False) as content:
            images, labels, classes = (content[key] for key in ("images", "labels", "classes"))
    except FileNotFoundError as error:
        raise BadSource(
            expected=f"the file {path}", found="none", fix="Write both train.npz and test.npz"
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise _bad(path, "the arrays images, labels and classes", error) from error
    _check_npz(path, images, labels, classes)
    images = images[..., None] if images.ndim == 3 else images
    return Labelled(images, labels.astype(np.int64), tuple(map(str, classes)))


def _check_npz(path: Path, images: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise _bad(path, "images uint8 [N, H, W, C]", f"{images.dtype} {list(images.shape)}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise _bad(path, "labels int64 [N]", f"{labels.dtype} {list(labels.shape)}")
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise _bad(path, "classes as strings [C]", f"{classes.dtype} {list(classes.shape)}")


# --- folders of images ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Files:
    """Image files, decoded when a slice of them is asked for."""

    paths: Sequence[Path]
    side: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.paths), self.side, self.side, 3)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        # Pillow decodes and resizes without the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self._decode, self.paths[rows])))

    def _decode(self, path: Path) -> np.ndarray:
        from PIL import Image

        try:
            with Image.open(path) as image:
                return fit(image.convert("RGB"), self.side)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise _bad(path, "a whole image", error) from error


def fit(image: Any, side: int) -> np.ndarray:
    """Shorter side to ``side`` (bicubic), then the centre: uint8 [side, side, 3]."""
    from PIL import Image

    width, height = image.size
    if width != side or height != side:
        scale = side / min(width, height)
        size = (max(side, round(width * scale)), max(side, round(height * scale)))
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        image = image.resize(size, Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image)


def _visible(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if not e.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return [p for p in _walk(folder) if p.suffix.lower() in _EXTENSIONS]


def _walk(folder: Path) -> list[Path]:
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        paths += [Path(parent, f) for f in sorted(files) if not f.startswith(".")]
    return paths


def _class_folders(folder: Path) -> list[Path]:
    return [p for p in _visible(folder) if p.is_dir()]


def _halves(folder: Path) -> tuple[Path, Path] | None:
    """The folders of the official split, where there are any."""
    for test in ("test", "val"):
        pair = folder / "train", folder / test
        if all(p.is_dir() and _class_folders(p) for p in pair):
            return pair
    return None


def _find_folder(folder: Path) -> list[Path]:
    return _images(folder) if folder.is_dir() else []


def _read_folder(folder: Path, side: int) -> tuple[Labelled, Labelled | None]:
    pair = _halves(folder)
    if pair is None:
        return _tree(folder, side), None
    return _tree(pair[0], side), _tree(pair[1], side)


def _tree(folder: Path, side: int) -> Labelled:
    """A folder a class, at any depth below it."""
    groups = {p.name: _images(p) for p in _class_folders(folder)}
    empty = [name for name, paths in groups.items() if not paths]
    if empty or not groups:
        raise BadSource(
            expected=f"a folder of images for every class in {folder}",
            found=f"no image in {empty[0]!r}" if empty else "no folder",
            fix=f"Put images ({' '.join(sorted(_EXTENSIONS))}) there or remove the folder",
        )
    paths = [path for group in groups.values() for path in group]
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()])
    return Labelled(_Files(paths, side), labels.astype(np.int64), tuple(groups))


# --- Tiny ImageNet and CUB: folders with lists ---------------------------------------------------


def _read_tiny(folder: Path, side: int) -> tuple[Labelled, Labelled | None]:
    """As published (``val/images`` with a list), or with ``val`` sorted into folders."""
    listing = folder / "val" / "val_annotations.txt"
    if not listing.is_file() or not (folder / "val" / "images").is_dir():
        return _read_folder(folder, side)
    train = _tree(folder / "train", side)
    rows = [line.split("\t") for line in _lines(listing)]
    try:
        labels = np.array([train.classes.index(row[1]) for row in rows], dtype=np.int64)
    except (ValueError, IndexError) as error:
        raise _bad(listing, "a file and its WordNet id a line", error) from error
    files = _Files([_inside(folder / "val" / "images", row[0]) for row in rows], side)
    return train, Labelled(files, labels, train.classes)


def _read_cub(folder: Path, side: int) -> tuple[Labelled, Labelled | None]:
    """As published (``images`` with two lists), or as a tree with ``train`` and ``test``."""
    if not (folder / "images.txt").is_file():
        return _read_folder(folder, side)
    names = dict(line.split() for line in _lines(folder / "images.txt"))
    trained = dict(line.split() for line in _lines(folder / "train_test_split.txt"))
    classes = tuple(sorted({name.split("/")[0] for name in names.values()}))
    halves = []
    for flag in ("1", "0"):
        chosen = [name for key, name in names.items() if trained.get(key) == flag]
        labels = [classes.index(name.split("/")[0]) for name in chosen]
        files = _Files([_inside(folder / "images", name) for name in chosen], side)
        halves.append(Labelled(files, np.array(labels, dtype=np.int64), classes))
    return halves[0], halves[1]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, "a list of images", error) from error


def _inside(folder: Path, name: str) -> Path:
    """A path that a list names; it may not lead out of the folder."""
    if re.search(r"(^|[\\/])\.\.([\\/]|$)", name) or Path(name).is_absolute():
        raise BadSource(
            expected=f"names of images in {folder}", found=repr(name), fix="Get the list again"
        )
    return folder / name


# --- digits --------------------------------------------------------------------------------------


def _read_digits(folder: Path, side: int) -> tuple[Labelled, Labelled]:
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
    "npz": Reader(_find_npz, _read_npz),
    "folder": Reader(_find_folder, _read_folder),
    "tiny-imagenet": Reader(_find_folder, _read_tiny),
    "cub200": Reader(_find_folder, _read_cub),
}
