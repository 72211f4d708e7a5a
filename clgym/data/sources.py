"""Sources by name: located on disk, decoded once, compared with their card, in canonical order.

``digits``, ``cifar100``, ... have cards (`clgym.data.cards`); ``folder:PATH`` is a tree with one
folder per class, ``npz:PATH`` a file of arrays. A source that differs from its card gets another
name, such as ``cifar10~1a2b3c4d``, and warnings that say why.
"""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data import store, withheld
from clgym.data.arrays import COLOURS
from clgym.data.cards import CARDS, DatasetInfo
from clgym.data.content import content_notes, held_by_hash
from clgym.data.digests import chunks
from clgym.data.imageset import find_image_set
from clgym.data.labelled import Labelled
from clgym.data.locate import LocatedFiles, card_of, differing, find_card, locate
from clgym.data.npy import release
from clgym.data.readers import READERS
from clgym.data.store import CachedDataset, DecodingFacts, RawSplit, Split
from clgym.data.words import names_in_words
from clgym.errors import BadSource, MissingData

__all__ = [
    "CARDS",
    "DatasetInfo",
    "Source",
    "Split",
    "find_card",
    "load_source",
]


@dataclass(frozen=True, eq=False)
class Source:
    """A labelled image dataset. Both splits are in canonical order."""

    name: str
    """Name of the source: the card's if the content matches the card, else ``NAME~`` and 8 hex
    digits."""
    classes: tuple[str, ...]
    """Canonical class ids; a label is an index into them."""
    train: Split
    test: Split
    max_value: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """SHA-256 over both splits in hex: images, labels, class names, decoding; independent of row
    order."""
    flags: tuple[str, ...]
    """Warnings about the source: differences from its card, and what is unverified."""
    licence: str

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel of images in [0, 1].

        Args:
            channels: Channels of the stream's images; grey images are repeated in a colour stream.

        Returns:
            Means and standard deviations, by channel; zeros and ones if the source states none.
        """
        stated = len(self.mean) or channels
        repeat = channels // stated
        mean, std = self.mean or (0.0,) * channels, self.std or (1.0,) * channels
        return tuple(mean) * repeat, tuple(std) * repeat

    def gather(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Some images on the scale 0 to 255, uint8 [n, H, W, C].

        Args:
            part: ``train``, ``test``, or ``all``: the training rows followed by the test rows.
            rows: int64 [n].
        """
        if part == "all":
            split = len(self.train.labels)
            images = np.empty((len(rows), *self.test.images.shape[1:]), dtype=np.uint8)
            images[rows < split] = self.train.images[rows[rows < split]]
            images[rows >= split] = self.test.images[rows[rows >= split] - split]
        else:
            images = (self.test if part == "test" else self.train).images[rows]
        release(self.train.images)
        release(self.test.images)
        if self.max_value == 255:
            return images
        return np.rint(images * (255 / self.max_value)).astype(np.uint8)


def load_source(
    name: str,
    data_root: Path | None = None,
    image_size: int | None = None,
    plugins: Sequence[Path] = (),
) -> Source:
    """Find, decode (once) and check a source.

    Args:
        name: Name of a card, ``folder:PATH``, ``folder:PATH@SIDE``, ``npz:PATH``, or ``NAME~HASH8``
            from an earlier load.
        data_root: Data root of named sources; None means ``CLGYM_DATA``, else the user's data
            folder.
        image_size: Side of the square that image files are brought to; None means the card's, or,
            for ``folder:PATH``, that of ``folder:PATH@SIDE``, or by the sizes of the images.
        plugins: Files that may hold the source.

    Raises:
        UnknownName: There is no such source.
        MissingData: Its files do not exist.
        BadSource: Its files are damaged.
        BadConfig: An image size is given for a source whose images have one size.
        BadOutput: The cache cannot be written.
        Withheld: The source is closed in the present phase of a study.
    """
    withheld.check_name(name)
    if past := re.fullmatch(r"([a-z0-9-]+)~([0-9a-f]{8})", name):
        return _again(name, past[1], past[2], data_root)
    if name not in CARDS and (found := find_image_set(name, plugins, data_root)):
        return _source(found.card, _kept(found))
    return _load(name, data_root, image_size)


def _load(name: str, data_root: Path | None, image_size: int | None) -> Source:
    try:
        found = locate(name, data_root, image_size)
        return _source(found.card, _kept(found))
    except OSError as error:
        raise BadSource(
            expected=f"readable files of {name}",
            found=f"{error.strerror} at {error.filename}",
            fix="Download them again or correct their permissions",
        ) from error


def _again(name: str, base: str, digits: str, data_root: Path | None) -> Source:
    """Load a source by the name that an earlier load gave it: from the cache, else from disk."""
    if kept := store.find_content(base, digits):
        return _source(CARDS.get(base) or card_of(base), kept)
    if base in ("folder", "npz"):
        raise MissingData(
            expected=f"{name} in the cache",
            found="nothing with that fingerprint",
            fix=f"Give {base}:PATH again",
        )
    source = _load(base, data_root, None)
    if source.name != name:
        raise BadSource(
            expected=f"{name} on disk",
            found=source.name,
            fix="Give another --data-root, or run with the existing data",
        )
    return source


# --- decoding ------------------------------------------------------------------------------------


def _kept(found: LocatedFiles) -> CachedDataset:
    key = _key(found)
    if kept := store.find(key):
        return kept
    _decode(found, key)
    if kept := store.find(key):
        return kept
    raise BadSource(
        expected=f"images in the cache as they were read from {found.path}",
        found="other content",
        fix="Give the command again, while nobody changes the files",
    )


def _key(found: LocatedFiles) -> str:
    """Key of the cache: reader, files, their sizes and times."""
    if found.layout == "digits":
        stats: list[Any] = [importlib.metadata.version("scikit-learn")]
    else:
        stats = [(str(f), *_stat(f)) for f in found.files]
    place = str(found.path.resolve())
    parts = [store.VERSION, found.card.name, found.layout, found.side, place, stats]
    rules = _PLUGIN_RULES if found.read is not None else READERS[found.layout].rules
    parts += [rules] if rules > 1 else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_PLUGIN_RULES = 2
"""Version of the reading rules for plugins, part of the cache key; increase it when they change."""


def _stat(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _decode(found: LocatedFiles, key: str) -> None:
    """Decode a source's files into the cache."""
    if found.read is not None:
        train, test = found.read(found.path)
    else:
        train, test = READERS[found.layout].read(found.path, found.side)
    classes, maps = _classes(found, train, test)
    name, decoding, notes = found.card.name, train.decoding, list(train.notes)
    facts = DecodingFacts(md5=_md5(found), by_hash=test is None, notes=notes)
    with store.spool(train.images) as images:
        halves = {"train": _half(found, train, images, maps[0])}
        notes += _dark("images" if test is None else "training images", found, images)
        if test is None:
            halves = _cut(found, halves["train"], classes)
            store.keep(key, name, classes, halves, decoding, facts)
            return
        with store.spool(test.images) as others:
            halves["test"] = _half(found, test, others, maps[1])
            notes += _dark("test images", found, others)
            if images.shape[1:] != others.shape[1:]:
                shapes = f"{list(images.shape[1:])} and {list(others.shape[1:])}"
                raise _bad(found, "train and test images of one size", shapes)
            store.keep(key, name, classes, halves, decoding, facts)


def _bad(found: LocatedFiles, expected: str, was: str) -> BadSource:
    return BadSource(
        expected=f"{expected} in {found.path}", found=was, fix="Correct or replace the files"
    )


def _half(found: LocatedFiles, read: Labelled, images: np.ndarray, numbers: np.ndarray) -> RawSplit:
    labels = read.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in COLOURS:
        raise _bad(
            found,
            "images uint8 [N, H, W, C], C being 1 (grey) or 3 (red, green, blue),",
            f"{images.dtype} {list(images.shape)}",
        )
    if len(labels) != len(images) or not len(labels) or 0 in images.shape:
        raise _bad(
            found,
            "one label for each of at least one image",
            f"{len(labels)} labels for {len(images)} images",
        )
    if labels.min() < 0 or labels.max() >= len(numbers):
        raise _bad(
            found, f"labels from 0 to {len(numbers) - 1}", f"{labels.min()} to {labels.max()}"
        )
    return RawSplit(images, np.arange(len(labels)), numbers[labels], store.image_hashes(images))


def _dark(which: str, found: LocatedFiles, images: np.ndarray) -> list[str]:
    """A note if pixels use less than half of their range, such as 0..1 or 0..16 in bytes."""
    top = max(int(chunk.max()) for chunk in chunks(images))
    dark = found.card.name in ("folder", "npz") and top < found.card.max_value / 2
    return [f"no pixel of the {which} is brighter than {top} of {found.card.max_value}"] * dark


def _cut(found: LocatedFiles, whole: RawSplit, classes: Sequence[str]) -> dict[str, RawSplit]:
    """Train and test of a source that has no test split."""
    held = held_by_hash(whole.hashes, whole.labels)
    if not held.any():
        counts = np.bincount(whole.labels, minlength=len(classes))
        large = [name for name, count in zip(classes, counts, strict=True) if count >= 5]
        was = f"only copies of an image in {names_in_words(large)}" if large else "none"
        expected = "a class of 5 images or more, not all alike, to cut a test split from"
        raise _bad(found, expected, was)
    return {
        name: RawSplit(whole.images, whole.rows[chosen], whole.labels[chosen], whole.hashes[chosen])
        for name, chosen in (("train", ~held), ("test", held))
    }


def _md5(found: LocatedFiles) -> str:
    """``match``, ``differ``, or ``unknown`` where no checksum is published for these files."""
    if found.layout == "npz" or not all(f.name in found.card.checksums for f in found.files):
        return "unknown"
    return "match" if differing(found.card, found.files) is None else "differ"


# --- class names ---------------------------------------------------------------------------------


def _classes(
    found: LocatedFiles, train: Labelled, test: Labelled | None
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Canonical class ids, and for both splits the index of each of its classes among them."""
    card = found.card
    own = train.classes or card.classes
    numbers = {_plain(name): i for i, name in enumerate(card.classes)}
    if {_plain(name) for name in own} == numbers.keys():
        ids, spelled = card.classes, _plain
    else:
        ids, spelled, numbers = _ids(card, own), str, {name: i for i, name in enumerate(own)}
    maps = []
    for part in (train, test or train):
        names = [spelled(name) for name in part.classes or card.classes]
        strange = [name for name in names if name not in numbers or names.count(name) > 1]
        if strange:
            expected = "distinct class names, those of test among those of train,"
            raise _bad(found, expected, repr(strange[0]))
        maps.append(np.array([numbers[name] for name in names], dtype=np.int64))
    return ids, maps


def _ids(card: DatasetInfo, own: Sequence[str]) -> tuple[str, ...]:
    """Canonical ids of names that are not on the card."""
    if card.name in ("folder", "npz"):
        wordnet = all(re.fullmatch(r"n\d{8}", name) for name in own)
        return tuple(f"imagenet/{name}" if wordnet else name for name in own)
    prefix = card.prefix or card.name
    return tuple(name if name.startswith(f"{prefix}/") else f"{prefix}/{name}" for name in own)


def _plain(name: str) -> str:
    """A class name without prefix and spelling, as ``maple-tree`` for ``cifar100/maple_tree``."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"^[a-z0-9-]+/", "", name).lower())


# --- comparing with the card ---------------------------------------------------------------------


def _source(card: DatasetInfo, kept: CachedDataset) -> Source:
    withheld.check_content(card.name, kept.fingerprint)
    whole = kept.split("train"), kept.split("test")
    differs, notes = _compare(card, kept)
    notes += kept.facts["notes"]
    notes += content_notes(*whole, kept.classes, kept.facts["by_hash"])
    train, test = (
        _open_rows(split, withheld.mask(kept.fingerprint, split, tested))
        for split, tested in zip(whole, (False, True), strict=True)
    )
    name = f"{card.name}~{kept.fingerprint[:8]}" if differs else card.name
    return Source(
        name,
        kept.classes,
        train,
        test,
        card.max_value,
        card.mean,
        card.std,
        kept.fingerprint,
        (*differs, *notes),
        card.licence,
    )


def _open_rows(split: Split, labels: np.ndarray) -> Split:
    """A split with these labels; images of closed rows, whose labels are -1, are zeros."""
    closed = labels < 0
    return replace(store.without_images(split, closed) if closed.any() else split, labels=labels)


def _compare(card: DatasetInfo, kept: CachedDataset) -> tuple[list[str], list[str]]:
    """Differences of the content from the card, and facts that could not be verified."""
    if card.name in ("folder", "npz"):
        return ["no card: nothing is known about it but its content"], []
    counts = {name: shape[0] for name, shape in kept.shapes.items()}
    expected = {"train": card.train, "test": card.test}
    if card.by_hash and card.train is not None and card.test is not None:
        counts, expected = {"all": sum(counts.values())}, {"all": card.train + card.test}
    differs = [
        f"{counts[part]} {part} images where the card has {number}"
        for part, number in expected.items()
        if number not in (None, counts[part])
    ]
    if len(kept.classes) != card.class_count or (card.classes and kept.classes != card.classes):
        differs.append("other classes than the card's")
    if kept.facts["by_hash"] and not card.by_hash:
        differs.append("no test split on disk: a fifth of every class was cut off by image hash")
    for part, known in card.fingerprints.items():
        if kept.digests[part] != known:
            differs.append(f"other {part} content than the card's fingerprint")
    if len(card.fingerprints) == 2:
        return differs, []
    if kept.facts["md5"] == "differ":
        differs.append("files with other checksums than the published ones")
    if kept.facts["md5"] == "unknown" and not differs:
        return differs, ["unverified: the card has no fingerprint of it, only counts"]
    return differs, []
