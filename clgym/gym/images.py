"""Images of an adaptation stream on the gym's side: generated once, cached, read when needed.

Corruptions are made by worker processes, one per core, and cached as uint8. A pixel depends only on
the source, the corruption and the row, so neither the number of workers nor the cache changes it.
"""

import contextlib
import hashlib
import io
import itertools
import logging
import queue
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict, cast

import numpy as np

from clgym.data import corruptions
from clgym.data.npy import mapped, release
from clgym.data.published import Decoding, published_images
from clgym.data.root import data_root as root_of
from clgym.data.row_files import write_file, write_header
from clgym.data.sources import Source
from clgym.data.store import cache_dir
from clgym.engines import Channel, open_channel
from clgym.engines.channel import Message
from clgym.errors import ClgymError, GymFailed
from clgym.files import (
    canonical_json,
    clear_parts,
    dump_checked,
    file_sha256,
    load_checked,
    sha256,
    write_atomic,
)
from clgym.gym.conversation import OnEvent
from clgym.messages import DomainPrepared
from clgym.streams.adaptation import AdaptationStream, Domain

__all__ = ["Corruptor", "StreamImages", "make"]

VERSION = 1
"""Version that is part of every cache key; increase it when a corruption changes."""
_CHUNK = 200
"""Number of images that a worker corrupts at once."""
_AHEAD = 4
"""Chunks of each worker that may wait to be written."""

_log = logging.getLogger(__name__)


class _Job(TypedDict):
    """Images to corrupt, as sent from one process of the gym to another."""

    do: Literal["corrupt"]
    images: np.ndarray
    """uint8 [n, S, S, C]."""
    rows: np.ndarray
    name: str
    severity: int
    seed: int
    frost: str
    """Folder of the textures, for frost only."""
    hsv: corruptions.Hsv


class Corruptor:
    """The target of a worker that corrupts images."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        """Ignore ``emit``, since there is no progress to report."""

    def handle(self, message: Message) -> Message:
        """Corrupt ``images``, uint8 [n, S, S, C]; see `clgym.data.corruptions.corrupt_rows`."""
        job = cast(_Job, message)  # no plugin runs at either end
        made = corruptions.corrupt_rows(
            job["images"],
            job["rows"],
            job["name"],
            job["severity"],
            job["seed"],
            corruptions.textures(Path(job["frost"])) if job["name"] == "frost" else (),
            job["hsv"],
        )
        return {"images": made}

    def blamed(self, error: BaseException, message: Message) -> type[ClgymError]:
        """See `clgym.engines.answer.Handler`: no strategy runs here."""
        return GymFailed


class StreamImages:
    """Images of a stream by domain and row, as uint8 from 0 to 255."""

    def __init__(
        self,
        stream: AdaptationStream,
        sources: Sequence[Source],
        data_root: Path | None,
        workers: int,
        on_event: OnEvent = lambda event: None,
    ) -> None:
        """Make or map every domain.

        Raises:
            MissingData: Published files, or the textures of frost, are missing.
            BadStream: Images cannot be corrupted.
            BadOutput: The cache cannot be written.
        """
        self._stream, self._sources, self._data_root = stream, sources, data_root
        self._rows: list[np.ndarray | None] = []
        self._arrays: list[np.ndarray | Decoding] = []
        for number, domain in enumerate(stream.domains):
            on_event(DomainPrepared(name=domain.name, number=number))
            rows, array = self._domain(number, domain, workers)
            self._rows.append(rows)
            self._arrays.append(array)

    def _domain(
        self, number: int, domain: Domain, workers: int
    ) -> tuple[np.ndarray | None, np.ndarray | Decoding]:
        """Row numbers of the stored images (None: all rows), and these images."""
        if domain.published is not None and domain.corruption is not None:
            source = self._sources[domain.source]
            images = published_images(
                self._data_root,
                domain.published,
                domain.corruption,
                domain.severity,
                source.classes,
                source.test.images.shape[1],
            )
            return None, images
        if domain.corruption is None:
            return None, np.zeros(0)
        used = [s.row[s.domain == number] for s in self._stream.segments]
        rows = np.unique(np.concatenate(used))
        source = self._sources[domain.source]
        frost = _frost_folder(self._data_root) if domain.corruption == "frost" else None
        return rows, _corrupted(source, domain, rows, frost, workers)

    def gather(self, segment: int, places: slice) -> np.ndarray:
        """The images of a batch, uint8 [n, H, W, C]."""
        chosen = self._stream.segments[segment]
        domains, rows = chosen.domain[places], chosen.row[places]
        parts = {int(d): self._of(int(d), rows[domains == d]) for d in np.unique(domains)}
        first = next(iter(parts.values()))
        images = np.empty((len(rows), *first.shape[1:]), dtype=np.uint8)
        for number, part in parts.items():
            images[domains == number] = part
        return images

    def _of(self, number: int, rows: np.ndarray) -> np.ndarray:
        held, domain = self._rows[number], self._stream.domains[number]
        if domain.corruption is None:
            return self._sources[domain.source].gather(domain.part, rows)
        places = rows if held is None else np.searchsorted(held, rows)
        array = self._arrays[number]
        found = np.asarray(array[places])
        release(array)
        return found


def _frost_folder(data_root: Path | None) -> Path:
    folder = root_of(data_root) / "frost"
    corruptions.textures(folder)
    return folder


def _corrupted(
    source: Source, domain: Domain, rows: np.ndarray, frost: Path | None, workers: int
) -> np.ndarray:
    """Corrupted images of some rows, mapped from the cache, to which they are added if missing."""
    facts = {**domain.facts(), "name": None, "source": source.fingerprint, "version": VERSION}
    key = sha256(canonical_json(facts) + rows.astype("<i8").tobytes())
    path = cache_dir() / "corrupted" / f"{key}.npy"
    note = path.with_suffix(".json")
    if not _whole(path, note):
        clear_parts(path.parent)
        digest = _write(path, source, domain, rows, frost, workers)
        write_atomic(note, dump_checked({**facts, "sha256": digest}))
    return mapped(path)


def _write(
    path: Path, source: Source, domain: Domain, rows: np.ndarray, frost: Path | None, workers: int
) -> str:
    """Write corrupted images as they are made, which may exceed memory; SHA-256 of the file."""
    digest, head = hashlib.sha256(), io.BytesIO()
    write_header(head, (len(rows), *source.test.images.shape[1:]), np.dtype(np.uint8))

    def fill(file: BinaryIO) -> None:
        with contextlib.closing(make(source, domain, rows, frost, workers)) as made:
            for piece in itertools.chain([head.getbuffer()], (images.data for images in made)):
                file.write(piece)
                digest.update(piece)

    write_file(path, fill)
    return digest.hexdigest()


def _whole(path: Path, note: Path) -> bool:
    """Whether the file exists and is undamaged; log a warning if it is damaged."""
    try:
        data = note.read_bytes()
    except OSError:
        return False
    try:
        whole = file_sha256(path) == load_checked(data)["sha256"]
    except (OSError, ValueError):
        whole = False
    if not whole and data.startswith(b'{"body"'):  # clgym 0.1 wrote no checksums
        _log.warning("cached corrupted images are damaged and are made anew: %s", path)
    return whole


def make(
    source: Source, domain: Domain, rows: np.ndarray, frost: Path | None, workers: int
) -> Generator[np.ndarray]:
    """Corrupt some rows of a source; in parts uint8 [n, S, S, C], in the order of the rows.

    Args:
        source: Source of the images.
        domain: The corruption.
        rows: int64 [n].
        frost: Folder of the textures, for frost only.
        workers: Maximum number of processes; at most one per chunk is started.
    """
    assert domain.corruption is not None
    corruption = domain.corruption
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    count = max(1, min(workers, len(chunks)))
    free: queue.SimpleQueue[Channel] = queue.SimpleQueue()
    channels = [open_channel("process", "clgym.gym.images:Corruptor") for _ in range(count)]
    for channel in channels:
        free.put(channel)

    def corrupted(part: np.ndarray) -> np.ndarray:
        channel = free.get()
        try:
            job: _Job = {
                "do": "corrupt",
                "images": source.gather(domain.part, part),
                "rows": part,
                "name": corruption,
                "severity": domain.severity,
                "seed": domain.seed,
                "frost": str(frost),
                "hsv": domain.hsv,
            }
            reply = channel.ask(cast(Message, job), lambda event: None)
            return np.ascontiguousarray(cast(np.ndarray, reply["images"]))
        finally:
            free.put(channel)

    try:
        with ThreadPoolExecutor(count) as pool:
            ahead = _AHEAD * count
            for start in range(0, len(chunks), ahead):
                yield from pool.map(corrupted, chunks[start : start + ahead])
    finally:
        for channel in channels:
            channel.close()
