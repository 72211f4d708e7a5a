"""Decorator of messages: frozen dataclasses whose fields are validated. No torch."""

from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

import numpy as np
import pydantic
import pydantic.dataclasses
from pydantic import AfterValidator, ConfigDict

__all__ = [
    "Fit",
    "Floats",
    "Images",
    "Integers",
    "Logits",
    "Features",
    "Setting",
    "T",
    "message",
]

T = TypeVar("T")
_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid", defer_build=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def message(cls: type[T]) -> type[T]:
    """Make a class a message: a frozen dataclass whose fields are validated when it is made."""
    make: Any = pydantic.dataclasses.dataclass
    return make(cls, frozen=True, eq=False, kw_only=True, config=_CONFIG)


def _array(dtype: str, dimensions: int) -> AfterValidator:
    """Accept arrays of one type and number of dimensions."""

    def check(array: np.ndarray) -> np.ndarray:
        if array.dtype != np.dtype(dtype) or array.ndim != dimensions:
            raise ValueError(
                f"expected {np.dtype(dtype)} of {dimensions} dimension(s), "
                f"found {array.dtype} {array.shape}"
            )
        return array

    return AfterValidator(check)


Integers = Annotated[np.ndarray, _array("int64", 1)]
"""int64 [n]."""
Floats = Annotated[np.ndarray, _array("float64", 1)]
"""float64 [n]."""
Images = Annotated[np.ndarray, _array("uint8", 4)]
"""uint8 [n, H, W, C]."""
Logits = Annotated[np.ndarray, _array("float32", 2)]
"""float32 [n, classes]."""
Features = Annotated[np.ndarray, _array("float32", 2)]
"""float32 [n, width]."""

Setting = Literal[
    "class-incremental", "task-incremental", "domain-incremental", "pretraining", "adaptation"
]
Fit = Literal["stretch", "crop"]
