"""Rows of a tensor."""

from torch import Tensor

__all__ = ["take_rows"]


def take_rows(values: Tensor, rows: Tensor | slice) -> Tensor:
    """Return ``values[rows]``, for images several times faster.

    torch's kernel for ``values[rows]`` copies single bytes, that of `index_select` whole rows.

    Args:
        values: [n, ...] of any type, on any device.
        rows: int64 [m], on the same device; or a slice, whose rows are not copied.

    Returns:
        Values, [m, ...]. Their order in memory is that of ``values[rows]``, because convolutions
        choose their kernel by the strides, which matters for the last bits.
    """
    if isinstance(rows, slice) or len(values) < 2 or not values.is_contiguous():
        return values[rows]  # strides of a single row are not those of several
    found = values.index_select(0, rows)
    if found.stride() == values.stride():
        return found
    # Images with one channel are contiguous with two different strides.
    return found.as_strided(found.shape, values.stride())
