"""Location of a source on disk: its card, its layout, its files."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clgym._moved import report_renamed
from clgym.data.cards import CARDS, DatasetInfo
from clgym.data.labelled import Labelled
from clgym.data.readers import IMAGE_FILES, READERS
from clgym.data.root import data_root as root_of
from clgym.data.trees import ENDINGS
from clgym.errors import BadConfig, MissingData, UnknownName, near

__all__ = ["LocatedFiles", "card_of", "differing", "find_card", "locate"]

report_renamed(__name__)


@dataclass(frozen=True)
class LocatedFiles:
    """Location of a source's files, and how to read them."""

    card: DatasetInfo
    layout: str
    path: Path
    files: tuple[Path, ...]
    side: int | None
    """Side in pixels of the square to which image files are decoded; None for other layouts, and
    for the default of a folder without a card."""
    read: Callable[[Path], tuple[Labelled, Labelled | None]] | None = None
    """A plugin's own function to read the files."""


def find_card(name: str) -> DatasetInfo:
    """The card of a named source.

    Raises:
        UnknownName: There is none; near matches are shown.
    """
    card = CARDS.get(name.replace("_", "-"))
    if card is None:
        path = Path(name)
        kind = "folder" if path.is_dir() else "npz" if path.suffix == ".npz" else None
        own = f"Give {kind}:{name} to use these images. " if name and kind else ""
        raise UnknownName(
            expected="a named source, folder:PATH or npz:PATH",
            found=repr(name),
            fix=f"{own or near(name, CARDS)}`clgym list sources` shows all; use --plugin for a "
            "file of your own",
        )
    return card


def card_of(kind: str) -> DatasetInfo:
    """The card without facts of sources of the kind ``folder`` or ``npz``."""
    return DatasetInfo(kind, f"{kind}:PATH", kind, (), 0, None, None, "not stated", "")


def locate(name: str, data_root: Path | None, image_size: int | None) -> LocatedFiles:
    """Find the files of a source; see `clgym.data.sources.load_source`.

    Raises:
        UnknownName: There is no such source.
        MissingData: Its files do not exist.
        BadConfig: The image size is below 1 or the source has no image files to resize; or two
            folders fit the name.
    """
    kind, colon, place = name.partition(":")
    if colon and kind in _PATHS:
        place, side = _with_side(place) if kind == "folder" else (place, None)
        image_size = side if image_size is None else image_size
        found = _at(card_of(kind), kind, Path(place).expanduser())
        if found is None:
            fix = "Give another path, or other files"
            raise MissingData(expected=_PATHS[kind], found=f"none at {place or 'no path'}", fix=fix)
    else:
        found = _named(find_card(name), data_root)
    if image_size is None:
        return found
    if found.layout not in IMAGE_FILES or image_size < 1:
        raise BadConfig(
            expected="an image size of at least 1, for a source of image files",
            found=f"{image_size} for {name}",
            fix="Leave it out, or use the scenario's resize",
        )
    return replace(found, side=image_size)


def _with_side(place: str) -> tuple[str, int | None]:
    """``PATH@SIDE`` as path and side.

    Raises:
        BadConfig: Folders of both names exist.
    """
    match = re.fullmatch(r"(.+)@(\d+)", place)
    if match is None:
        return place, None
    literal, bare = (Path(p).expanduser().is_dir() for p in (place, match[1]))
    if literal and bare:
        raise BadConfig(
            expected="one folder by that name, or by that name without @SIDE",
            found=f"both {place} and {match[1]}",
            fix="Rename one of them",
        )
    return (place, None) if literal else (match[1], int(match[2]))


_PATHS = {
    "folder": "a tree with a folder of images a class (" + " ".join(sorted(ENDINGS)) + ")",
    "npz": "an .npz file, or a folder with train.npz and test.npz",
}


def _named(card: DatasetInfo, data_root: Path | None) -> LocatedFiles:
    if card.layout == "digits":
        return LocatedFiles(card, "digits", Path(), (), None)
    root = root_of(data_root)
    places = [(card.layout, root / folder) for folder in card.folders]
    places.append(("npz", root / card.name))
    for layout, path in places:
        if found := _at(card, layout, path):
            return found
    looked = ", ".join(dict.fromkeys(str(path) for _, path in places))
    raise MissingData(
        expected=f"{card.name} in the data root",
        found=f"nothing at {looked}",
        fix=f"`clgym fetch {card.name}` gets it or says how; CLGYM_DATA names another data root",
    )


def _at(card: DatasetInfo, layout: str, path: Path) -> LocatedFiles | None:
    files = READERS[layout].find(path)
    side = None if layout == "npz" else card.side
    return LocatedFiles(card, layout, path, tuple(files), side) if files else None


def differing(card: DatasetInfo, files: Sequence[Path]) -> Path | None:
    """First file that differs from the published one, if a checksum of its name is known."""
    for path in files:
        if path.name in card.checksums:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "md5").hexdigest() != card.checksums[path.name]:
                    return path
    return None
