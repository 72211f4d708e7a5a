"""Base of user-defined sources: a class in a file that describes and reads a dataset. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from clgym import registry
from clgym.data.cards import DatasetInfo
from clgym.data.labelled import Labelled
from clgym.data.locate import LocatedFiles
from clgym.data.root import data_root as root_of
from clgym.errors import MissingData

__all__ = ["ImageSet", "Labelled", "find_image_set"]


class ImageSet:
    """A labelled image dataset. Subclass it in a file, whose name becomes the source's name.

    It is read once; afterwards its arrays come from the cache, until a file of its folder or the
    plugin's own file changes.
    """

    title: ClassVar[str] = ""
    """One-line description; the file's first line if left out."""
    licence: ClassVar[str] = "not stated"
    origin: ClassVar[str] = ""
    """URL of the data's origin."""
    classes: ClassVar[tuple[str, ...]] = ()
    """Class names in the order of the labels; canonical ids are NAME/CLASS."""
    folder: ClassVar[str] = ""
    """Folder of its files below the data root; empty if it needs none."""
    max_value: ClassVar[int] = 255
    """Maximum possible pixel value."""
    mean: ClassVar[tuple[float, ...]] = ()
    """Mean of each channel of training pixels in [0, 1]; () if unknown."""
    std: ClassVar[tuple[float, ...]] = ()

    def read(self, folder: Path) -> tuple[Labelled, Labelled | None]:
        """Training and test images, uint8 [N, H, W, C] with C = 1 or 3, and labels, int64 [N].

        If None is returned for the test images, a fifth of every class is held out by image hash.
        """
        raise NotImplementedError


def find_image_set(
    name: str, plugins: Sequence[Path], data_root: Path | None
) -> LocatedFiles | None:
    """Locate a plugin's source and its reader; None if no plugin has the name.

    Raises:
        BadPlugin: The plugin's file cannot be imported.
        MissingData: The source's folder does not exist or is empty.
    """
    known = registry.entries("sources", plugins)
    entry = known.get(name.replace("_", "-"))
    if entry is None:
        return None
    entry = registry.find("sources", entry.name, plugins)
    made: ImageSet = registry.load_class(entry, ImageSet)()
    card = DatasetInfo(
        name=entry.name,
        title=made.title or entry.summary,
        layout="image-set",
        folders=(made.folder,),
        class_count=len(made.classes),
        train=None,
        test=None,
        licence=made.licence,
        origin=made.origin,
        classes=tuple(f"{entry.name}/{c}" for c in made.classes),
        max_value=made.max_value,
        mean=made.mean,
        std=made.std,
    )
    if not made.folder:
        return LocatedFiles(card, card.layout, Path(), (entry.path,), None, made.read)
    folder = root_of(data_root) / made.folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise MissingData(
            expected=f"the files of {entry.name} at {folder}",
            found="none",
            fix=f"Get them from {made.origin or 'their origin'}",
        )
    return LocatedFiles(card, card.layout, folder, (entry.path, *files), None, made.read)
