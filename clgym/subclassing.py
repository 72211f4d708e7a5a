"""What a strategy's class is given when it is defined: its options, and what `train` knows."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

from clgym.errors import BadPlugin

__all__ = ["config_argument", "knowing_experience"]


def config_argument(cls: type, base: type, bound: type) -> type | None:
    """The class of options in the brackets of a base, as in ``Strategy[MineConfig]``.

    Args:
        cls: The class that is defined.
        base: Bases that derive from it may have brackets.
        bound: What a class of options derives from.

    Raises:
        BadPlugin: something else stands there.
    """
    for written in vars(cls).get("__orig_bases__", ()):
        origin = get_origin(written)
        if not (isinstance(origin, type) and issubclass(origin, base)):
            continue
        (stated,) = get_args(written)
        if isinstance(stated, TypeVar):
            continue
        if not (isinstance(stated, type) and issubclass(stated, bound)):
            raise BadPlugin(
                expected=f"a class of options in the brackets of {cls.__name__}'s base",
                found=repr(stated),
                fix="Define it above the strategy, as a frozen dataclass over clgym's Config",
            )
        return stated
    return None


def knowing_experience(train: Callable[..., None]) -> Callable[..., None]:
    """`train`, during which ``self.experience`` is the one that it was given."""

    @functools.wraps(train)
    def knowing(self: Any, experience: Any) -> None:
        before, self._experience = self._experience, experience
        try:
            train(self, experience)
        finally:
            self._experience = before

    return knowing
