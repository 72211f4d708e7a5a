"""Identity of decoded images: a hash of each, their canonical order, the digest of a split."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from clgym.data.npy import release

__all__ = ["ImageRows", "canonical_order", "chunks", "digest", "image_hashes", "rows_a_chunk"]

_CHUNK = 64 * 2**20


class ImageRows(Protocol):
    """Images that can be read in chunks: an array, or files decoded on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C]."""
        ...

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """The images of these rows, uint8 [n, H, W, C]."""
        ...


def image_hashes(images: ImageRows) -> np.ndarray:
    """SHA-256 of every image's shape, dtype and bytes: uint8 [N, 32]."""
    shape = images.shape[1:]
    start = hashlib.sha256(f"{'x'.join(map(str, shape))} uint8\n".encode())

    def hashed(chunk: np.ndarray) -> bytes:
        out = bytearray()
        for row in np.ascontiguousarray(chunk).reshape(len(chunk), -1):
            state = start.copy()
            state.update(row.data)
            out += state.digest()
        return bytes(out)

    found = b"".join(hashed(chunk) for chunk in chunks(images))
    return np.frombuffer(found, dtype=np.uint8).reshape(-1, 32)


def chunks(images: ImageRows) -> Iterator[np.ndarray]:
    """The images in parts of at most 64 MiB, so that they may exceed memory."""
    step = rows_a_chunk(images.shape)
    for start in range(0, images.shape[0], step):
        yield images[start : start + step]
        release(images)


def rows_a_chunk(shape: Sequence[int]) -> int:
    """Number of rows in one of the `chunks` of images of this ``shape``, [N, H, W, C]."""
    return max(1, _CHUNK // max(1, int(np.prod(shape[1:]))))


def canonical_order(hashes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Canonical row order, independent of the order of files: by hash, then by label."""
    words = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return np.lexsort((labels, *words.T[::-1]))


def digest(classes: Sequence[str], hashes: np.ndarray, labels: np.ndarray, decoding: str) -> str:
    """Hex SHA-256 of a split in canonical order: class names, decoding, every image and label."""
    head = json.dumps({"classes": list(classes), "decoding": decoding}, sort_keys=True)
    state = hashlib.sha256(head.encode())
    rows = np.concatenate([hashes, labels.astype("<i8").view(np.uint8).reshape(-1, 8)], axis=1)
    state.update(np.ascontiguousarray(rows).data)
    return state.hexdigest()
