"""The source classifier as it is, frozen: what every adaptation is compared with."""

from typing import ClassVar

from clgym.adaptation import AdaptStrategy


class Source(AdaptStrategy):
    """No adaptation."""

    DETERMINISTIC = True
    batch_matters: ClassVar[bool] = False
