"""Facts about a known dataset: what a card in `clgym.data.cards` states."""

from dataclasses import dataclass, field

__all__ = ["DatasetInfo"]


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about one dataset."""

    name: str
    title: str
    layout: str
    """Name of its reader in `clgym.data.readers.READERS`."""
    folders: tuple[str, ...]
    """Possible folders below the data root; the first existing one is used."""
    class_count: int
    train: int | None
    """Number of training images; None if no list is agreed on."""
    test: int | None
    licence: str
    origin: str
    classes: tuple[str, ...] = ()
    """Canonical class ids in the order of the labels; () if they are the sorted folder names."""
    prefix: str = ""
    """Prefix that turns a folder's name into a canonical id, such as ``imagenet`` for WordNet
    ids."""
    side: int | None = None
    """Side in pixels to which images of different sizes are decoded; None if all have one size."""
    by_hash: bool = False
    """Whether there is no official test split, so that `clgym.data.sources` cuts one by image hash
    and only the total is checked."""
    max_value: int = 255
    mean: tuple[float, ...] = ()
    """Mean of each channel over the training images, in [0, 1]; () if unknown."""
    std: tuple[float, ...] = ()
    fingerprints: dict[str, str] = field(default_factory=dict)
    """`clgym.data.store.digest` of ``train`` and ``test``, where known."""
    checksums: dict[str, str] = field(default_factory=dict)
    """MD5 of the published files, by file name."""
    downloads: tuple[tuple[str, str], ...] = ()
    """Downloads of `clgym fetch` as URL and ``sha256:HEX``, or ``md5:HEX`` where no other hash is
    published; () if manual. What is read is compared with `fingerprints`, too."""
    archived: bool = False
    """Whether the download is an archive of ``folders[0]``."""
