"""A function of a scenario: images become darker."""

from torch import Tensor


def darken(images: Tensor, amount: float) -> Tensor:
    return images * amount
