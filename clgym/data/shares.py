"""Number of rows in a fraction of a set, computed from the decimal notation of the fraction."""

from fractions import Fraction

__all__ = ["rows_of_share"]


def rows_of_share(share: float, count: int) -> int:
    """Whole rows in a share of ``count`` rows, rounded down.

    0.29 of 100 is 29: the share counts as it is written. In binary it is a little less.
    """
    return int(Fraction(str(float(share))) * count)
