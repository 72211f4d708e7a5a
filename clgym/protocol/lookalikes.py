"""Transformed copies of one image, found by their spectra and by correlation.

Every image is converted to a grey one of 32 x 32. The magnitudes of its spectrum do not change when
the image is shifted, inverted, brightened or rotated by 180 degrees; sorted among the frequencies
that flips and rotations by 90 degrees exchange, they do not change by these either. The images of
the other side with the nearest spectra are candidates. The inner part of the image is then compared
with each of them in all eight flips and rotations, with every shift of a few pixels: the normalised
correlations decide.
"""

from typing import Any

import numpy as np

__all__ = ["averaging", "lookalikes", "shrunk", "spectra"]

SIDE = 32
_RING = 4
"""Number of outer pixels that the correlation leaves out, which is also the largest shift."""
_INNER = SIDE - 2 * _RING
_EDGE = 2
"""Number of outer pixels that spectra leave out."""
_HIGHEST = 7
"""Highest frequency of a spectrum, in waves over its side."""
_CANDIDATES = 6
_EQUAL = 0.98
"""Smallest correlation at which two images always count as copies."""
_LIKELY, _STANDS_OUT = 0.9, 0.3
"""Smallest correlation of a copy that stands out, and the largest ratio of its distance from 1 to
that of the second candidate."""
_CONTRAST = 6.0
"""Smallest standard deviation in grey levels, since plain images resemble all others."""
_BLOCK = 256


def shrunk(images: np.ndarray, max_value: int) -> np.ndarray:
    """Grey images, uint8 [n, 32, 32]: means over equal blocks of rows and columns.

    Args:
        images: Whole numbers [n, H, W, C].
        max_value: Maximum value of a pixel.
    """
    grey = np.asarray(images, dtype=np.float32).mean(axis=3)
    down, right = (averaging(SIDE, size) for size in grey.shape[1:])
    return np.rint(down @ grey @ right.T * (255 / max_value)).astype(np.uint8)


def averaging(target: int, size: int) -> np.ndarray:
    """Weights, float32 [target, size], that average over equal spans, cut pixels in shares."""
    edges = np.linspace(0, size, target + 1)
    pixels = np.arange(size)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(shares, 0, None)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def lookalikes(one: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that are copies: each row of ``one`` with at most one of ``other``.

    Args:
        one: Grey images, uint8 [n, 32, 32].
        other: Grey images of the other side, uint8 [m, 32, 32].
    """
    if not len(one) or not len(other):
        return []
    # Imported here for a fast start, since only the survey of a pair needs it.
    from sklearn.neighbors import NearestNeighbors  # pyright: ignore[reportMissingTypeStubs]

    known: Any = NearestNeighbors(n_neighbors=min(_CANDIDATES, len(other)), algorithm="brute")
    nearest: np.ndarray = known.fit(spectra(other)).kneighbors(spectra(one), return_distance=False)
    alike = np.concatenate(
        [
            _correlations(one[start : start + _BLOCK], other, nearest[start : start + _BLOCK])
            for start in range(0, len(one), _BLOCK)
        ]
    )
    rows = np.arange(len(one))
    best = alike.argmax(axis=1)
    first = alike[rows, best]
    alike[rows, best] = 0
    stands_out = 1 - first <= _STANDS_OUT * (1 - alike.max(axis=1))
    shown = (first >= _EQUAL) | ((first >= _LIKELY) & stands_out)
    return [(int(row), int(nearest[row, best[row]])) for row in rows[shown]]


def spectra(images: np.ndarray) -> np.ndarray:
    """Features that do not change under flips, quarter turns, shifts, inversion and brightness.

    Args:
        images: Grey, uint8 [n, 32, 32].

    Returns:
        float32 [n, features]: square roots of the magnitudes of low frequencies, of length 1 before
        the root, in ascending order among those that flips and turns exchange.
    """
    blocks = range(0, len(images), _BLOCK)
    return np.concatenate([_spectra_of_block(images[s : s + _BLOCK]) for s in blocks])


def _spectra_of_block(images: np.ndarray) -> np.ndarray:
    size = SIDE - 2 * _EDGE
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)
    window = np.outer(window, window)
    seen = images[:, _EDGE:-_EDGE, _EDGE:-_EDGE].astype(np.float32)
    seen -= (seen * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    waves = np.abs(np.fft.rfft2(seen * window))
    groups = [np.sort(waves[:, down, right], axis=1) for down, right in _exchanged()]
    found = np.concatenate(groups, axis=1)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
    return np.sqrt(found)


def _exchanged() -> list[tuple[list[int], list[int]]]:
    """Frequencies, down and right, in groups that flips and quarter turns exchange."""
    groups: list[tuple[list[int], list[int]]] = []
    for high in range(1, _HIGHEST + 1):
        for low in range(high + 1):
            turned = [(low, high), (-low, high), (high, low), (-high, low)]
            different = list(dict.fromkeys(turned))
            if low == 0:  # without phase, (high, 0) and (-high, 0) are the same wave
                different = [(0, high), (high, 0)]
            groups.append(([d for d, _ in different], [r for _, r in different]))
    return groups


def _correlations(one: np.ndarray, other: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Largest absolute correlation over flips, turns and shifts, float32 [n, k], in [0, 1].

    Args:
        one: Grey images, uint8 [n, 32, 32].
        other: Grey images, uint8 [m, 32, 32].
        columns: Rows of ``other`` with which each is compared, int [n, k].
    """
    inner = one[:, _RING:-_RING, _RING:-_RING].astype(np.float32)
    inner -= inner.mean(axis=(1, 2), keepdims=True)
    norms = np.linalg.norm(inner, axis=(1, 2))[:, None, None]
    flips = (inner, inner[:, :, ::-1])
    views = [np.rot90(flip, turns, axes=(1, 2)) for flip in flips for turns in range(4)]
    waves = np.stack([np.fft.rfft2(view, (SIDE, SIDE)) for view in views], axis=1).conj()
    least = _CONTRAST * _INNER
    found = np.zeros(columns.shape, dtype=np.float32)
    for place in range(columns.shape[1]):
        against = other[columns[:, place]].astype(np.float32)
        # Correlations with every shift at once; nothing wraps around, since the ring has the
        # shift's width.
        products = np.fft.irfft2(waves * np.fft.rfft2(against)[:, None], (SIDE, SIDE))
        products = np.abs(products[:, :, : 2 * _RING + 1, : 2 * _RING + 1]).max(axis=1)
        lengths = _deviations(against)
        share = products / np.maximum(norms * lengths, 1e-6)
        found[:, place] = _peak(np.where((norms >= least) & (lengths >= least), share, 0))
    return found


def _deviations(images: np.ndarray) -> np.ndarray:
    """Norm of every inner window without its mean, float64 [n, 9, 9], by shift."""
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 0), (1, 0)))
    sums, squares = (
        table[:, _INNER:, _INNER:]
        - table[:, :-_INNER, _INNER:]
        - table[:, _INNER:, :-_INNER]
        + table[:, :-_INNER, :-_INNER]
        for table in (np.cumsum(np.cumsum(x, axis=1), axis=2) for x in (padded, padded**2))
    )
    return np.sqrt(np.maximum(squares - sums**2 / _INNER**2, 0))


def _peak(grid: np.ndarray) -> np.ndarray:
    """Largest value of each grid [n, 9, 9], between its points too: parabolas through the peak.

    An image of another size is not shifted by whole pixels of the grid.
    """
    rows = np.arange(len(grid))
    down, right = np.divmod(grid.reshape(len(grid), -1).argmax(axis=1), grid.shape[2])
    top = grid[rows, down, right]
    rise = np.zeros_like(top)
    for line, at in ((grid[rows, :, right], down), (grid[rows, down, :], right)):
        within = np.clip(at, 1, line.shape[1] - 2)
        before, behind = line[rows, within - 1], line[rows, within + 1]
        bend = np.maximum(2 * top - before - behind, 1e-6)
        rise += np.where(within == at, (behind - before) ** 2 / (8 * bend), 0)
    return np.minimum(top + rise, 1)
