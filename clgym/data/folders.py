"""Trees of image files: a folder a class, with or without lists of what belongs where."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data.labelled import Labelled, damaged
from clgym.errors import BadSource

__all__ = ["decoded", "find_images", "find_listed", "fit", "read_cub", "read_folder", "read_tiny"]

_EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


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
            raise damaged(path, "a whole image", error) from error


def decoded(paths: Sequence[Path], side: int) -> np.ndarray:
    """Some files, uint8 [n, side, side, 3].

    Raises:
        BadSource: one that is no image.
    """
    return _Files(paths, side)[:]


def fit(image: Any, side: int) -> np.ndarray:
    """Shorter side to ``side`` (bicubic), then the centre: uint8 [side, side, 3].

    Rounds as torchvision's Resize and CenterCrop do, which published evaluations use.
    """
    from PIL import Image

    width, height = image.size
    if (width, height) != (side, side):
        short = min(width, height)
        size = (int(side * width / short), int(side * height / short))
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
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


def find_images(folder: Path) -> list[Path]:
    """Every image below a folder; [] if there is no folder."""
    return _images(folder) if folder.is_dir() else []


def find_listed(folder: Path) -> list[Path]:
    """Images and the lists beside them; [] without images."""
    images = find_images(folder)
    return images and [*images, *(p for p in _walk(folder) if p.suffix == ".txt")]


def read_folder(folder: Path, side: int) -> tuple[Labelled, Labelled | None]:
    """A tree with ``train`` and ``test`` (or ``val``), or one without a test split."""
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


def read_tiny(folder: Path, side: int) -> tuple[Labelled, Labelled | None]:
    """As published (``val/images`` with a list), or with ``val`` sorted into folders."""
    listing = folder / "val" / "val_annotations.txt"
    if not listing.is_file() or not (folder / "val" / "images").is_dir():
        return read_folder(folder, side)
    train = _tree(folder / "train", side)
    rows = [line.split("\t") for line in _lines(listing)]
    try:
        labels = np.array([train.classes.index(row[1]) for row in rows], dtype=np.int64)
    except (ValueError, IndexError) as error:
        raise damaged(listing, "a file and its WordNet id a line", error) from error
    files = _Files([_inside(folder / "val" / "images", row[0]) for row in rows], side)
    return train, Labelled(files, labels, train.classes)


def read_cub(folder: Path, side: int) -> tuple[Labelled, Labelled | None]:
    """As published (``images`` with two lists), or as a tree with ``train`` and ``test``."""
    if not (folder / "images.txt").is_file():
        return read_folder(folder, side)
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
        raise damaged(path, "a list of images", error) from error


def _inside(folder: Path, name: str) -> Path:
    """A path that a list names; it may not lead out of the folder."""
    if re.search(r"(^|[\\/])\.\.([\\/]|$)", name) or Path(name).is_absolute():
        raise BadSource(
            expected=f"names of images in {folder}", found=repr(name), fix="Get the list again"
        )
    return folder / name
