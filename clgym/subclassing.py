"""Additions to a strategy's class at its definition: its options, and `experience` in `train`."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

from clgym.errors import BadPlugin

__all__ = ["config_argument", "knowing_experience"]


def config_argument(cls: type, base: type, bound: type) -> type | None:
    """The class of options in the brackets of a base, as in ``Strategy[MineConfig]``.

    Args:
        cls: The class that is being defined.
        base: Class whose subclasses may have brackets.
        bound: Base of all classes of options.

    Raises:
        BadPlugin: The brackets contain something else.
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
    """Wrap `train` so that ``self.experience`` is its argument during the call."""

    @functools.wraps(train)
    def knowing(self: Any, experience: Any) -> None:
        before, self._experience = self._experience, experience
        try:
            train(self, experience)
        finally:
            self._experience = before

    return knowing
