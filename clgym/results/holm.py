"""Correction of p values for several tests."""

from collections.abc import Sequence

__all__ = ["holm"]


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p values by the step-down procedure of Holm (1979).

    Args:
        values: p values of one family of tests, in any order.

    Returns:
        The adjusted values, in the order of ``values``; each may be compared with the level of the
        whole family.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [0.0] * len(values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, values[i] * (len(values) - place)))
        adjusted[i] = largest
    return adjusted
