"""Replay at a fixed rate: old samples replace a fraction of new ones in batches of constant size.

Ibrahim et al. 2024 (arXiv 2403.08763): at a rate r a batch of B holds about r B old samples, so
that runs with and without replay cost the same. `RateReplay` rounds r B at random in every step;
`greedy_blend` mixes as their language-model code does, without random numbers.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["RateReplay", "greedy_blend"]

Rows = NDArray[np.int64]


class RateReplay:
    """Choice of the rows of each batch of a stream: new ones in order, then old ones in order.

    Attributes:
        rate: Share of old samples in a batch, within [0, 1).
        sizes: Rows of each experience that has begun.
        pointers: The next old row of each experience, modulo its size.
        used: New rows of the present experience that have been given out.
    """

    def __init__(self, rate: float, weighting: Literal["uniform", "size"] = "uniform") -> None:
        """Mix at ``rate``; old experiences are drawn uniformly, or in proportion to their sizes."""
        self.rate, self.weighting = rate, weighting
        self.sizes: list[int] = []
        self.pointers: list[int] = []
        self.used = 0

    def begin(self, experience: int, rows: int) -> None:
        """Begin an experience of ``rows`` rows; those before it are old from now on."""
        assert experience == len(self.sizes)
        self.sizes.append(rows)
        self.pointers.append(0)
        self.used = 0

    def old_rows(self, batch_size: int, chance: float) -> int:
        """Number of old rows in a batch: floor(rB), one more with probability frac(rB).

        Args:
            batch_size: B.
            chance: Uniform in [0, 1).
        """
        if len(self.sizes) < 2:
            return 0
        wanted = Decimal(str(self.rate)) * batch_size
        whole = math.floor(wanted)
        return whole + (chance < float(wanted - whole))

    def batch(
        self, batch_size: int, chance: float, picks: NDArray[np.float64] | Sequence[float]
    ) -> tuple[Rows, Rows]:
        """Experience and row of every sample of the next batch, int64 [B] each.

        Args:
            batch_size: B.
            chance: Uniform in [0, 1), for the number of old rows.
            picks: Uniform in [0, 1), [B]; the first ones choose the experiences of the old rows.
        """
        present, old = len(self.sizes) - 1, self.old_rows(batch_size, chance)
        new = batch_size - old
        source = np.full(batch_size, present, np.int64)
        row = np.empty(batch_size, np.int64)
        row[:new] = (self.used + np.arange(new)) % self.sizes[present]
        self.used += new
        if old:
            weights = np.array(self.sizes[:-1] if self.weighting == "size" else [1] * present)
            shares = np.cumsum(weights) / weights.sum()
            source[new:] = np.searchsorted(shares, np.asarray(picks)[:old], side="right")
            for place, experience in enumerate(source[new:].tolist(), start=new):
                row[place] = self.pointers[experience]
                self.pointers[experience] = (row[place] + 1) % self.sizes[experience]
        return source, row


def greedy_blend(weights: Sequence[float], count: int) -> tuple[Rows, Rows]:
    """Source and number of each of ``count`` samples; each comes from the source most behind.

    Sample i goes to the source of the largest ``w max(i, 1) - used``, the first one on ties, so
    that every stretch of samples keeps the weights to within one sample.

    Args:
        weights: Share of each source, positive, of sum 1.
        count: Samples in all.

    Returns:
        Source, and number of the sample within it, int64 [count] each.
    """
    shares, used = np.asarray(weights, float), np.zeros(len(weights), np.int64)
    source, sample = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        chosen = int(np.argmax(shares * max(i, 1) - used))
        source[i], sample[i] = chosen, used[chosen]
        used[chosen] += 1
    return source, sample
