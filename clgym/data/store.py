"""Cache of decoded images: content-addressed ``.npy`` files, written atomically and mapped.

    sources/keys/KEY.json            facts decoded from files of this path, size and time
    sources/meta/FINGERPRINT.CARD.json    the same facts by content
    sources/images/FINGERPRINT/      train.npy test.npy: the only files that a learner may open
    sources/hashes/FINGERPRINT/      train.npy test.npy
    sources/labels/FINGERPRINT/      train.npy
    sources/answers/FINGERPRINT/     test.npy
    sources/cut/DIGEST.npy           images without those that are closed while tuning
    sources/verified/FINGERPRINT/    train.json test.json: files of large splits that were compared

Writers need no lock: all writers of a file write the same bytes, each under its own name first.

The cache is not trusted. On its first use in a process a split is verified: labels and hashes
against the fingerprint, every image against its hash. A split that differs is decoded again, and
the log says so. Reading all images of a large split would delay every start: they are compared once
after the file was written, and then, as long as the system reports the same file, those at some
random places.
"""

import contextlib
import hashlib
import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import numpy as np

from clgym._moved import report_renamed
from clgym.data.cache import cache_dir, filling_cache
from clgym.data.digests import ImageRows, canonical_order, chunks, digest, image_hashes
from clgym.data.npy import RowReader, mapped
from clgym.data.row_files import keep_rows, write_file, write_header
from clgym.errors import BadOutput
from clgym.files import clear_parts, dump_checked, load_checked, part_name

__all__ = [
    "DecodingFacts",
    "RawSplit",
    "ImageRows",
    "CachedDataset",
    "Split",
    "without_images",
    "cache_dir",
    "canonical_order",
    "digest",
    "find",
    "find_content",
    "image_hashes",
    "keep",
    "spool",
]

report_renamed(__name__)

VERSION = 1
"""Version that is part of every key; increase it when decoding or the cache layout changes."""
LARGE = 2**30
"""Size in bytes above which all images of a split are compared once instead of in each process."""
_SAMPLES, _SAMPLE = 64, 2**20
"""Number of places at which images of a large split are compared in each process, and bytes at
each place."""
_log = logging.getLogger(__name__)
_verified: set[tuple[Any, ...]] = set()
"""Splits that were verified in this process, with the identity of their files at that time."""


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a source, with rows in canonical order: by image hash, then by label."""

    images: np.ndarray
    """uint8 [N, H, W, C], mapped from ``path``."""
    labels: np.ndarray
    """int64 [N], indices into the source's classes."""
    hashes: np.ndarray
    """uint8 [N, 32], SHA-256 of each image's shape, dtype and bytes."""
    path: Path
    """Path of the ``.npy`` file that holds exactly ``images``."""


@dataclass(frozen=True, eq=False)
class RawSplit:
    """A split before it is cached: rows of decoded images, in any order."""

    images: np.ndarray
    """uint8 [M, H, W, C]."""
    rows: np.ndarray
    """int64 [N], indices into ``images``."""
    labels: np.ndarray
    """int64 [N]."""
    hashes: np.ndarray
    """uint8 [N, 32]."""

    def canonical(self) -> "RawSplit":
        """The same rows in canonical order."""
        order = canonical_order(self.hashes, self.labels)
        return RawSplit(self.images, self.rows[order], self.labels[order], self.hashes[order])


class DecodingFacts(TypedDict):
    """Facts about a source that its decoding produced."""

    md5: str
    """Comparison of its files with the published checksums: match, differ or unknown."""
    by_hash: bool
    """Whether the test rows were cut off the training rows by image hash."""
    notes: list[str]


@dataclass(frozen=True)
class CachedDataset:
    """Facts of the cache about a source, besides its arrays."""

    card: str
    """Name under which the dataset was loaded."""
    fingerprint: str
    classes: tuple[str, ...]
    digests: dict[str, str]
    """Digest of each split; see `digest`."""
    shapes: dict[str, list[int]]
    facts: DecodingFacts
    decoding: str
    """Description of the decoding of image files, which is part of the digests."""

    def split(self, name: str) -> Split:
        """Map ``train`` or ``test``; on first use in a process, compare it with its fingerprint.

        Raises:
            ValueError: The files differ from what the cache wrote.
            OSError: The files cannot be read.
        """
        paths = [_place(k, self.fingerprint, name) for k in ("images", _LABELS[name], "hashes")]
        images = mapped(paths[0])
        labels, hashes = (np.array(mapped(path)) for path in paths[1:])
        files = (name, self.digests[name], *((str(p), *_identity(p)) for p in paths))
        if files not in _verified:
            self._verify(name, images, labels, hashes)
            _verified.add(files)
        labels.flags.writeable = hashes.flags.writeable = False
        return Split(images, labels, hashes, paths[0])

    def _verify(
        self, name: str, images: np.ndarray, labels: np.ndarray, hashes: np.ndarray
    ) -> None:
        types = [(a.dtype, a.ndim) for a in (images, labels, hashes)]
        if types != [(np.uint8, 4), (np.int64, 1), (np.uint8, 2)]:
            raise ValueError(f"{name} has arrays of other types than the cache writes")
        if list(images.shape) != self.shapes[name] or not len(images) == len(labels) == len(hashes):
            raise ValueError(f"{name} has other shapes than the cache wrote")
        if digest(self.classes, hashes, labels, self.decoding) != self.digests[name]:
            raise ValueError(f"labels or hashes of {name} are not those of its fingerprint")
        note = _root() / "verified" / self.fingerprint / f"{name}.json"
        identity = [self.digests[name], *_identity(_place("images", self.fingerprint, name))]
        large = images.nbytes > LARGE
        for rows in _samples(images) if large and _noted(note) == identity else [slice(None)]:
            if not np.array_equal(image_hashes(images[rows]), hashes[rows]):
                raise ValueError(f"images of {name} do not have their hashes")
        if large and _noted(note) != identity:
            with contextlib.suppress(BadOutput):  # a cache that may only be read
                write_file(note, lambda file: file.write(dump_checked(identity)))


def _samples(images: np.ndarray) -> Iterator[slice]:
    """Runs of consecutive rows at random places, which differ from call to call."""
    run = min(len(images), max(1, _SAMPLE // max(1, int(np.prod(images.shape[1:])))))
    for _ in range(_SAMPLES):
        start = secrets.randbelow(len(images) - run + 1)
        yield slice(start, start + run)


def _noted(path: Path) -> list[Any] | None:
    """Identity that was recorded for a file of images when all of it was compared; else None."""
    with contextlib.suppress(OSError, ValueError):
        return load_checked(path.read_bytes())
    return None


class _Blanked:
    """Images, of which the closed ones read as zeros."""

    def __init__(self, images: np.ndarray, closed: np.ndarray) -> None:
        self._images, self._closed = RowReader(images), closed
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = self._images[rows]
        found[self._closed[rows]] = 0
        return found


def without_images(split: Split, closed: np.ndarray) -> Split:
    """The same split with a new file of images in which the closed ones are zeros.

    Args:
        split: Split with all images.
        closed: bool [N], whether each image is closed.

    Raises:
        BadOutput: The cache cannot be written.
    """
    facts = hashlib.sha256(split.hashes.tobytes() + closed.tobytes())
    path = _root() / "cut" / f"{facts.hexdigest()}.npy"
    keep_rows(path, _Blanked(split.images, closed))
    return replace(split, images=mapped(path), path=path)


def _identity(path: Path) -> tuple[int, ...]:
    """Facts that change with every write to a file; the last, ctime, cannot be set by a user."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


_LABELS = {"train": "labels", "test": "answers"}


def _root() -> Path:
    return cache_dir() / "sources"


def _place(kind: str, fingerprint: str, name: str) -> Path:
    return _root() / kind / fingerprint / f"{name}.npy"


def find(key: str) -> CachedDataset | None:
    """Return the dataset cached under ``key``; None if there is none or it is damaged."""
    return _read(_root() / "keys" / f"{key}.json")


def find_content(card: str, prefix: str) -> CachedDataset | None:
    """Return a card's cached dataset whose fingerprint begins with ``prefix`` (hex), if one."""
    paths = sorted((_root() / "meta").glob(f"{prefix}*.{card}.json"))
    return _read(paths[0]) if len(paths) == 1 else None


def _read(path: Path) -> CachedDataset | None:
    """Read a cached dataset; a damaged one counts as missing, which the log says."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if data.startswith(b'{"card"'):  # clgym 0.1 wrote no checksums
        return None
    try:
        fields = load_checked(data)
        kept = CachedDataset(**{**fields, "classes": tuple(fields["classes"])})
        for name in _LABELS:
            kept.split(name)
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("decoded images are damaged and are decoded anew: %s (%s)", error, path)
        return None
    return kept


def keep(
    key: str,
    card: str,
    classes: Sequence[str],
    halves: dict[str, RawSplit],
    decoding: str,
    facts: DecodingFacts,
) -> None:
    """Write ``train`` and ``test`` to the cache.

    Args:
        key: Key of the files that were decoded.
        card: Name of the card.
        classes: Canonical class ids.
        halves: Decoded splits by name.
        decoding: Description of the decoding of image files.
        facts: Facts that the decoding produced.

    Raises:
        BadOutput: The cache cannot be written.
    """
    halves = {name: half.canonical() for name, half in halves.items()}
    digests = {n: digest(classes, h.hashes, h.labels, decoding) for n, h in halves.items()}
    shapes = {n: [len(h.rows), *h.images.shape[1:]] for n, h in halves.items()}
    whole = hashlib.sha256(f"clgym source 1 {digests['train']} {digests['test']}".encode())
    kept = CachedDataset(card, whole.hexdigest(), tuple(classes), digests, shapes, facts, decoding)
    for name, half in halves.items():
        keep_rows(_place(_LABELS[name], kept.fingerprint, name), half.labels)
        keep_rows(_place("hashes", kept.fingerprint, name), half.hashes)
        keep_rows(_place("images", kept.fingerprint, name), half.images, half.rows)
    # Written last: if these files exist, so do the arrays.
    text = dump_checked(asdict(kept))
    for name in (f"meta/{kept.fingerprint}.{card}.json", f"keys/{key}.json"):
        write_file(_root() / name, lambda file: file.write(text))


@contextlib.contextmanager
def spool(images: ImageRows) -> Iterator[np.ndarray]:
    """Give images as an array; files are decoded once into a temporary file, which is mapped."""
    if isinstance(images, np.ndarray):
        yield images
        return
    with filling_cache(_root()):
        _root().mkdir(parents=True, exist_ok=True)
    clear_parts(_root())
    folder = _root() / part_name("spool")
    path = folder / "images.npy"
    try:

        def fill(file: BinaryIO) -> None:
            write_header(file, images.shape, np.dtype(np.uint8))
            for chunk in chunks(images):
                file.write(np.ascontiguousarray(chunk).data)

        write_file(path, fill)
        yield mapped(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
