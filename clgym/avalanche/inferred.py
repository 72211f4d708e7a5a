"""Inference of the recipe and the options that a subclass of `AvalancheStrategy` leaves out."""

import dataclasses
from typing import Any

from clgym.avalanche.catalogue import recipe_of
from clgym.avalanche.options import config_class
from clgym.errors import BadPlugin

__all__ = ["complete", "refuse_uncalled"]

_UNCALLED = (
    *("loss", "penalty", "rehearse", "after_step", "observe", "plugins", "begin"),
    *("before_experience", "after_experience"),
)
"""Hooks of `SGDStrategy` that nothing calls here: the template's plugins do their work."""


def refuse_uncalled(cls: Any) -> None:
    """Refuse a class that overrides a hook that is never called.

    Args:
        cls: A subclass of `AvalancheStrategy`.

    Raises:
        BadPlugin: The class overrides such a hook.
    """
    if uncalled := [name for name in _UNCALLED if name in vars(cls)]:
        raise BadPlugin(
            expected=f"{cls.__name__} to override what an AvalancheStrategy calls: arguments, "
            "augment, rate, make_network, make_optimizer",
            found=", ".join(uncalled),
            fix="Derive from SGDStrategy, or write a plugin and give it in `arguments`",
        )


def complete(cls: Any) -> None:
    """Give a class the recipe and the options that it does not state.

    Args:
        cls: A subclass of `AvalancheStrategy`.

    Raises:
        BadPlugin: The strategy keeps samples, and no option limits their number.
    """
    body = vars(cls)
    own = "Config" in body
    if "recipe" not in body and ("template_class" in body or not hasattr(cls, "recipe")):
        found = recipe_of(cls.template_class, strict="arguments" not in body)
        if own:
            names = {field.name for field in dataclasses.fields(cls.Config)}
            found = dataclasses.replace(found, memory="memory_size" in names)
        cls.recipe = found
    if not own and ("template_class" in body or "recipe" in body):
        config = config_class(cls.__name__, cls.template_class, cls.recipe)
        config.__module__, config.__qualname__ = cls.__module__, f"{cls.__qualname__}.Config"
        cls.Config = config
    if cls.recipe.memory and "memory_size" not in cls.Config.__dataclass_fields__:
        raise BadPlugin(
            expected=f"an option memory_size in {cls.Config.__name__}, since the recipe of "
            f"{cls.__name__} says that it keeps samples",
            found="none",
            fix="Add memory_size: Annotated[int, Ge(1)] = 200 to it",
        )
