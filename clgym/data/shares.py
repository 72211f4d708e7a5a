"""Number of rows in a fraction of a set, computed from the decimal notation of the fraction."""

from fractions import Fraction

__all__ = ["rows_of_share"]


def rows_of_share(share: float, count: int) -> int:
    """Number of whole rows in a share of ``count`` rows, rounded down.

    The share is taken as a decimal number: 0.29 of 100 is 29, although 0.29 is a little less in
    binary.
    """
    return int(Fraction(str(float(share))) * count)
