"""Rows of a tensor: values and strides are those of plain indexing."""

import pytest
import torch

from clgym.data.take_rows import take_rows

ROWS = torch.tensor([4, 0, 0, 2])
LAYOUTS = {
    "contiguous": torch.arange(5 * 3 * 4 * 4, dtype=torch.uint8).view(5, 3, 4, 4),
    "channels last": torch.arange(5 * 3 * 4 * 4).view(5, 4, 4, 3).permute(0, 3, 1, 2),
    "one channel, from channels last": torch.rand(5, 4, 4, 1).permute(0, 3, 1, 2),
    "every second row": torch.rand(10, 1, 4, 4)[::2],
    "numbers": torch.arange(5),
    "a single row of overlapping ones": torch.arange(10).unfold(0, 3, 1)[:1],
    "a single row of a larger tensor": torch.arange(40).reshape(4, 10)[:1, :3],
    "features": torch.rand(5, 7),
}


@pytest.mark.parametrize("rows", [ROWS, ROWS[:0], slice(1, 3)], ids=["some", "none", "slice"])
@pytest.mark.parametrize("values", LAYOUTS.values(), ids=list(LAYOUTS))
def test_values_and_strides_are_those_of_indexing(
    values: torch.Tensor, rows: torch.Tensor | slice
) -> None:
    if len(values) == 1:
        rows = torch.tensor([0, 0])
    found, expected = take_rows(values, rows), values[rows]
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    if len(expected) and values.shape[0] > 1:
        assert found.stride() == expected.stride()


def test_a_copy_is_returned() -> None:
    values = torch.zeros(3, 1, 2, 2)
    take_rows(values, torch.tensor([1]))[:] = 1
    assert not values.any()
