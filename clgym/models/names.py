"""Names of networks with weights: NETWORK[argument=value,...]@WEIGHTS, taken apart."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clgym.errors import BadConfig
from clgym.models.loaders import loader_of

__all__ = ["AVERAGED", "SCALE", "Name", "parse"]

SCALE = ("mean", "std")
"""Arguments of the normalisation of images."""
AVERAGED = "averaged"
"""Argument that states which averaged weights of the file are used; all others belong to the
constructor."""


@dataclass(frozen=True)
class Name:
    """A name taken apart."""

    architecture: str
    """Name of the architecture in its library, with the tag if the weights are timm's."""
    arguments: Mapping[str, Any]
    weights: str | None
    """Part after the @; None means timm's own weights."""

    @property
    def bare(self) -> str:
        """The name without the weights."""
        pairs = ",".join(f"{k}={_text(v)}" for k, v in sorted(self.arguments.items()))
        return self.architecture + (f"[{pairs}]" if pairs else "")

    @property
    def constructor(self) -> dict[str, object]:
        """The arguments that the network's constructor takes."""
        return {k: v for k, v in self.arguments.items() if k not in (*SCALE, AVERAGED)}

    @property
    def scale(self) -> dict[str, tuple[float, ...]]:
        """``mean`` and ``std`` per channel, as far as they are given."""
        return {k: v for k, v in self.arguments.items() if k in SCALE}

    @property
    def is_recorded(self) -> bool:
        """Whether the name comes from a record and is therefore complete."""
        return (self.weights or "").startswith("sha256:")

    def with_arguments(self, more: Mapping[str, Any]) -> "Name":
        """The same name with more arguments; existing ones are kept."""
        return replace(self, arguments={**more, **self.arguments})


def parse(name: str) -> Name:
    """Parse a name.

    Raises:
        BadConfig: The name has another form.
    """
    found = re.fullmatch(r"([\w.]+)(?:\[([^\]]*)\])?(?:@(.+))?", name)
    if found is None or (loader_of(found[1]) is not None and (found[2] or not found[3])):
        raise BadConfig(
            expected="a network such as TAG, NAME@FILE, NAME[argument=value]@FILE or run@FOLDER",
            found=repr(name),
            fix="Give --backbone another value",
        )
    pairs = [pair.partition("=") for pair in (found[2] or "").split(",") if pair]
    return Name(found[1], {k.strip(): _value(k.strip(), v.strip()) for k, _, v in pairs}, found[3])


def _value(key: str, text: str) -> Any:
    if key in SCALE:
        try:
            return tuple(float(part) for part in text.split("x"))
        except ValueError:
            raise BadConfig(
                expected=f"{key} as one number per channel, such as {key}=0.5x0.5x0.5",
                found=repr(text),
                fix="Give numbers, with an x between them",
            ) from None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _text(value: Any) -> str:
    return "x".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
