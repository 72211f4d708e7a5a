"""Trees of image files: which files are images, and where the splits and classes are."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clgym.data.words import counted
from clgym.errors import BadSource

__all__ = ["ENDINGS", "TreePart", "find_images", "find_listed", "find_tree", "parts_of"]

ENDINGS = {
    ".bmp",
    ".gif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}
"""File name extensions that are read, in any case."""
_COMPANIONS = {
    ".csv",
    ".db",
    ".html",
    ".ini",
    ".json",
    ".md",
    ".tsv",
    ".txt",
    ".url",
    ".xml",
    ".yaml",
    ".yml",
}
"""Files that accompany images and are not counted as left out."""
_TRAINING = ("train", "training")
_TESTS = ("test", "testing", "val", "valid", "validation")
"""Names of test folders, in any case; the first existing one is used."""
_LITTER = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"}
"""Folders that file systems and archivers leave behind."""


# --- files ---------------------------------------------------------------------------------------


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """The visible folders and files in a folder, by name; links are followed.

    Raises:
        BadSource: a link that leads nowhere.
    """
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith(".") or entry.name in _LITTER:
                continue
            path = folder / entry.name
            if entry.is_symlink() and not path.exists():
                raise BadSource(
                    expected=f"a file or folder behind the link {path}",
                    found="nothing there",
                    fix="Correct the link or remove it",
                )
            (folders if entry.is_dir() else files).append(path)
    return folders, files


def _walk(folder: Path, *above: Path) -> Iterator[Path]:
    """Every visible file below a folder; a link back to a folder above is not followed."""
    if any(folder.samefile(other) for other in above):
        return
    folders, files = _listing(folder)
    yield from files
    for path in folders:
        yield from _walk(path, *above, folder)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def find_images(folder: Path) -> list[Path]:
    """Every image below a folder; [] if there is no folder."""
    return [p for p in _walk(folder) if _is_image(p)] if folder.is_dir() else []


def find_tree(folder: Path) -> list[Path]:
    """Every file below a folder, since those that are left out are counted; [] without images."""
    files = list(_walk(folder)) if folder.is_dir() else []
    return files if any(map(_is_image, files)) else []


def find_listed(folder: Path) -> list[Path]:
    """Images and the lists beside them; [] without images."""
    files = find_tree(folder)
    return [p for p in files if _is_image(p) or p.suffix == ".txt"]


# --- the split -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TreePart:
    """Images for training or testing, in one folder per class."""

    classes: dict[str, list[Path]]
    """Images of each class, at any depth below its folder."""
    notes: tuple[str, ...]
    """What is not read from the tree, in words."""

    @property
    def paths(self) -> list[Path]:
        """All images, class by class."""
        return [path for paths in self.classes.values() for path in paths]


def parts_of(folder: Path) -> tuple[TreePart, TreePart | None]:
    """Images for training and, if the tree has a test part, for testing.

    Raises:
        BadSource: the classes cannot be determined, or one has no image.
    """
    inner, notes = _unwrapped(folder)
    folders = _folders(inner)
    train, test = (_split_folders(folders, names) for names in (_TRAINING, _TESTS))
    if len(train) == 1 and test:
        test = _with_classes_of(train[0], test)
    if len(train) == 1 and test and not _same_name(test):
        left = [p for p in folders if p not in (train[0], test[0])]
        notes += tuple(_left_out_parts(left))
        return _part(train[0], notes), _part(test[0])
    _check_no_split(inner, folders, [*train, *test])
    return _part(inner, notes), None


def _left_out_parts(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        if images := find_images(folder):
            yield f"{folder.name}/ with {counted(len(images), 'image')} is left out"


def _folders(folder: Path) -> list[Path]:
    return _listing(folder)[0]


def _files(folder: Path) -> list[Path]:
    return _listing(folder)[1]


def _unwrapped(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Skip folders that hold one folder and no image; return the first other one, and a note."""
    inner, folders = folder, _folders(folder)
    while len(folders) == 1 and not any(map(_is_image, _files(inner))):
        inner, folders = folders[0], _folders(folders[0])
    if inner == folder or len(folders) < 2:
        return folder, ()
    return inner, (f"classes are the folders inside {inner.relative_to(folder)}/",)


def _split_folders(folders: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Folders of folders that go by one of the names, in the order of the names."""
    found = [p for p in folders if p.name.lower() in names and _folders(p)]
    return sorted(found, key=lambda path: names.index(path.name.lower()))


def _with_classes_of(train: Path, tests: Sequence[Path]) -> list[Path]:
    """Folders that hold a training class; all folders if none does. Others have no labels."""
    names = {p.name for p in _folders(_unwrapped(train)[0])}
    return [
        test for test in tests if names & {p.name for p in _folders(_unwrapped(test)[0])}
    ] or list(tests)


def _same_name(paths: Sequence[Path]) -> bool:
    """Whether the first two differ in case only."""
    return len({path.name.lower() for path in paths[:2]}) < len(paths[:2])


def _check_no_split(folder: Path, folders: Sequence[Path], split: Sequence[Path]) -> None:
    """Refuse to take the parts of a split for classes.

    Raises:
        BadSource: folders are named as parts are, and hold folders; or no other are there.
    """
    names = [p.name for p in folders]
    low = {name.lower() for name in names}
    flat = bool(low & {*_TRAINING}) and bool(low & {*_TESTS}) and low <= {*_TRAINING, *_TESTS}
    if flat or split:
        raise BadSource(
            expected=f"one folder for training and one for testing in {folder}, each with a folder "
            "a class",
            found=", ".join(f"{name}/" for name in names[:8]),
            fix="Sort the images into train/CLASS/ and test/CLASS/; rename a class of such a name",
        )


# --- classes -------------------------------------------------------------------------------------


def _part(folder: Path, notes: tuple[str, ...] = ()) -> TreePart:
    """The classes of one folder."""
    inner, more = _unwrapped(folder)
    files = {p.name: list(_walk(p, inner)) for p in _folders(inner)}
    classes = {name: [p for p in paths if _is_image(p)] for name, paths in files.items()}
    empty = [name for name, paths in classes.items() if not paths]
    if empty or not classes:
        raise BadSource(
            expected=f"a folder of images for every class in {inner}",
            found=_endings_in(empty[0], files[empty[0]]) if empty else "no folder",
            fix=f"Put images ({' '.join(sorted(ENDINGS))}) there or remove the folder",
        )
    _check_depth(inner, classes)
    unread = [p for paths in files.values() for p in paths if not _is_image(p)]
    stray = [p for p in _files(inner) if _is_image(p)]
    return TreePart(classes, (*notes, *more, *_left_out(unread, stray)))


def _endings_in(name: str, files: Sequence[Path]) -> str:
    others = sorted({p.suffix.lower() or p.name for p in files})
    return f"no image in {name!r}" + (f", but {' '.join(others[:8])}" if others else "")


def _left_out(unread: Sequence[Path], stray: Sequence[Path]) -> Iterator[str]:
    """Notes about files in the tree that are not read."""
    counts = Counter(p.suffix.lower() or "without ending" for p in unread)
    counts = {end: n for end, n in sorted(counts.items()) if end not in _COMPANIONS}
    if counts:
        words = ", ".join(f"{end} {n}" for end, n in counts.items())
        files = counted(sum(counts.values()), "file")
        yield f"{files} left out, endings that are not read: {words}"
    if stray:
        yield f"{counted(len(stray), 'image')} left out, outside the folders of the classes"


def _check_depth(folder: Path, classes: dict[str, list[Path]]) -> None:
    """Refuse classes whose sub-folders repeat: these look like the classes, those like a split.

    One name that repeats (``images`` in every class) is a place to keep images.

    Raises:
        BadSource: several sub-folders' names, some of them in several classes.
    """
    levels: dict[int, Counter[str]] = {}
    for name, paths in classes.items():
        inside = {p.relative_to(folder / name).parts[:-1] for p in paths}
        below = {(depth, part) for parts in inside for depth, part in enumerate(parts)}
        for depth, part in below:
            levels.setdefault(depth, Counter())[part] += 1
    for counts in levels.values():
        repeated = [part for part, n in counts.items() if n > 1]
        if repeated and len(counts) > 1:
            raise BadSource(
                expected=f"the folders in {folder} to be classes",
                found=f"{', '.join(list(classes)[:4])}, in which sub-folders repeat: "
                f"{', '.join(sorted(repeated)[:4])}",
                fix="Give the folder whose folders are the classes; rename the parts of a split "
                "to train and test",
            )
