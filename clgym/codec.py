"""Nested values as a tree that JSON can hold, with arrays or tensors beside it. No pickle.

The same encoding serves the messages between the two sides of a run (`clgym.engines.wire`) and the
learner's state on disk (`clgym.learner.state`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from clgym.text import Json

# code that packs tensors has torch loaded, and code that packs arrays does not need it
if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["Tree", "Unpackable", "pack", "unpack"]

Plain: TypeAlias = None | bool | int | float | str
Tree: TypeAlias = "Plain | np.ndarray | Tensor | Sequence[Tree] | Mapping[Any, Tree]"
"""Values that can be packed: plain values, arrays or tensors, and lists, tuples and dicts of them.
Keys of a dict may be any value that can be packed: those of optimizers are numbers."""

_LEAF, _TUPLE, _DICT = "$tensor", "$tuple", "$dict"
_PLAIN = (bool, int, float, str)


class Unpackable(TypeError):
    """A value that cannot be encoded; the message names it and its place."""


def pack(value: Any, kind: type, leaves: list[Any], place: str = "") -> Json:
    """Turn nested dicts, lists and tuples into a tree, and collect leaves of class ``kind``.

    Args:
        value: Value to encode.
        kind: Class of the leaves: NumPy's arrays, or torch's tensors.
        leaves: List to which leaves are added, in the order in which the tree refers to them.
        place: Place of the value, for messages.

    Raises:
        Unpackable: A value is of another class, or a list or dict contains itself.
    """
    try:
        return _packed(value, kind, leaves, place)
    except RecursionError:
        raise Unpackable("values that contain themselves") from None


def _packed(value: Any, kind: type, leaves: list[Any], place: str) -> Json:
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, kind):
        leaves.append(value)
        return {_LEAF: str(len(leaves) - 1)}
    if isinstance(value, (list, tuple)):
        items = [_packed(item, kind, leaves, f"{place}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, dict):
        return {
            _DICT: [
                [
                    _packed(key, kind, leaves, f"a key of {place}"),
                    _packed(item, kind, leaves, f"{place}.{key}" if place else f"{key}"),
                ]
                for key, item in value.items()
            ]
        }
    raise Unpackable(f"a {type(value).__name__} at {place or 'the top'}")


def unpack(tree: Any, leaves: Sequence[Any]) -> Tree:
    """Undo `pack`.

    Raises:
        KeyError, IndexError, TypeError, ValueError: The tree was not made by `pack`.
    """
    if isinstance(tree, list):
        return [unpack(item, leaves) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _LEAF in tree:
        return leaves[int(tree[_LEAF])]
    if _TUPLE in tree:
        return tuple(unpack(item, leaves) for item in tree[_TUPLE])
    made: dict[Any, Tree] = {}  # keys of any kind that can be packed; an unhashable one is refused
    for key, item in tree[_DICT]:
        made[unpack(key, leaves)] = unpack(item, leaves)
    return made
