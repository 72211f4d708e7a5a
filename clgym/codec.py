"""Nested values as a tree that JSON can hold, with arrays or tensors beside it. No pickle.

One encoding for what the two sides of a run say to each other (`clgym.engines.wire`) and for the
learner's state on disk (`clgym.learner.state`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from clgym.text import Json

if TYPE_CHECKING:  # whoever packs tensors has torch loaded; whoever packs arrays does without it
    import numpy as np
    from torch import Tensor

__all__ = ["Tree", "Unpackable", "pack", "unpack"]

Plain: TypeAlias = None | bool | int | float | str
Tree: TypeAlias = "Plain | np.ndarray | Tensor | Sequence[Tree] | Mapping[Any, Tree]"
"""What can be packed: plain values, arrays or tensors, and lists, tuples and dicts of them. A
dict's keys may be of any kind that can be packed: optimizers number their parameters."""

_LEAF, _TUPLE, _DICT = "$tensor", "$tuple", "$dict"
_PLAIN = (bool, int, float, str)


class Unpackable(TypeError):
    """A value that cannot be encoded; the message names it and its place."""


def pack(value: Any, kind: type, leaves: list[Any], place: str = "") -> Json:
    """Turn nested dicts, lists and tuples into a tree; what is of ``kind`` goes to ``leaves``.

    Args:
        value: What to encode.
        kind: Class of the leaves: NumPy's arrays, or torch's tensors.
        leaves: Appended to, in the order in which the tree refers to them.
        place: Where the value stands, for messages.

    Raises:
        Unpackable: a value of another kind, or a list or dict that contains itself.
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
        KeyError, IndexError, TypeError, ValueError: the tree is not one that `pack` made.
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
