"""Everything that can be reached from a strategy: what it may carry to the next experience.

The walk follows attributes, containers, closures, generators and the globals of the plugin's own
module. It sees what `state_dict` does not tell.
"""

# pyright: standard
# Not strict: what is walked over may be of any type.

import functools
import sys
import types
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from clgym.data.experience import Experience
from clgym.data.memory import Memory
from clgym.strategy import Strategy

__all__ = ["arrays_in", "roots_of", "walk"]

_FOREIGN = (types.ModuleType, types.BuiltinFunctionType, torch.dtype, torch.device)
_OF_IMPORTS = ("__builtins__", "__loader__", "__spec__")
"""Variables that Python's import system sets in every module."""
_LEAVES = (str, int, float, type, torch.Tensor, np.ndarray, bytes, bytearray, type(None))
_PLAIN = (str, int, float, bool, type(None))
"""Types whose values hold no numbers to look at and lead nowhere: most of what a walk comes by."""


def roots_of(strategy: Strategy) -> dict[str, object]:
    """Where a plugin may keep things: the strategy, and the variables of its module's file."""
    roots: dict[str, object] = {"self": strategy}
    module = sys.modules.get(type(strategy).__module__)
    if module is None or module.__name__.startswith("clgym.avalanche"):
        return roots
    for name, value in vars(module).items():
        if name in _OF_IMPORTS:
            continue
        if isinstance(value, type) and value.__module__ == module.__name__:
            roots |= {f"{name}.{key}": inner for key, inner in vars(value).items()}
        elif not isinstance(value, (type, types.ModuleType, types.FunctionType)):
            roots[name] = value
    return roots


def walk(
    roots: dict[str, object], leave_out: Collection[object] = (), *, plain: bool = False
) -> Iterator[tuple[str, Any]]:
    """Everything that the roots lead to, each object once, with the place where it was found.

    Args:
        roots: Objects by the names that places begin with.
        leave_out: Objects, and classes whose objects, are neither given nor followed.
        plain: Whether single numbers, strings and None are given, too.
    """
    passed_over = () if plain else _PLAIN
    seen = {id(value) for value in leave_out}
    foreign = (*_FOREIGN, *(value for value in leave_out if isinstance(value, type)))
    waiting, known = list(roots.items()), []
    while waiting:
        place, value = waiting.pop()
        if id(value) in seen or isinstance(value, foreign):
            continue
        seen.add(id(value))
        known.append(value)  # so that no id is used twice
        yield place, value
        waiting.extend(
            (place + step, part) for step, part in _parts(value) if type(part) not in passed_over
        )


def arrays_in(
    roots: dict[str, object], leave_out: Collection[object] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """The numbers among it, with their places; of a view, the whole storage that it keeps alive."""
    storages: set[int] = set()
    for place, value in walk(roots, leave_out):
        if isinstance(value, torch.Tensor):
            if (start := value.untyped_storage().data_ptr()) not in storages:
                storages.add(start)
                yield place, _numpy(_whole(value))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
            yield place, value
        elif isinstance(value, (bytes, bytearray)):
            yield place, np.frombuffer(bytes(value), np.uint8)
        elif isinstance(value, (list, tuple)) and value and _all_numbers(value):
            yield place, np.array(value, dtype=np.float64)


def _all_numbers(values: Any) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of the storage that a tensor is a view of: a small view keeps everything alive."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.is_meta:
        return torch.zeros(0)
    flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return flat.set_(tensor.untyped_storage())


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype not in (torch.float16, torch.float64) and tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.numpy()


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """What an object leads to, and by which step; code leads to what it has captured only."""
    if isinstance(value, _LEAVES):
        return ()
    if isinstance(value, Experience):
        return ((name, vars(value)[name]) for name in ("_pixels", "_labels"))
    if isinstance(value, Memory):
        return ((f"[{name!r}]", column) for name, column in value.columns().items())
    if isinstance(value, dict):
        keys = ((f" key {_name(key)}", key) for key in value)
        return (*keys, *((f"[{_name(key)}]", item) for key, item in value.items()))
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return ((f"[{number}]", item) for number, item in enumerate(value))
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = ((f" closure {name}", cell.cell_contents) for name, cell in cells if _filled(cell))
        return (*held, (" defaults", value.__defaults__), (".__dict__", value.__dict__))
    if isinstance(value, types.MethodType):
        return ((".__self__", value.__self__), (".__func__", value.__func__))
    if isinstance(value, types.GeneratorType):
        inside = {} if value.gi_frame is None else value.gi_frame.f_locals
        return ((f" local {name}", item) for name, item in inside.items())
    slots = ((f".{name}", getattr(value, name, None)) for name in _slots(type(value)))
    return (*((f".{n}", item) for n, item in getattr(value, "__dict__", {}).items()), *slots)


def _name(key: object) -> str:
    """A key of a dict in words; a tensor's numbers are none."""
    return "tensor" if isinstance(key, torch.Tensor) else f"{key!r:.40}"


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


@functools.lru_cache(maxsize=1000)
def _slots(cls: type) -> tuple[str, ...]:
    declared = (vars(base).get("__slots__", ()) for base in cls.__mro__)
    names = ((slots,) if isinstance(slots, str) else tuple(slots) for slots in declared)
    return tuple(name for group in names for name in group)
