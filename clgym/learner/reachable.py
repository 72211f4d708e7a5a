"""Walk over everything that a strategy refers to and could keep for the next experience.

The walk follows attributes, containers, closures, generators and the globals of the plugin's
module. It also finds objects that are not in `state_dict`. The search for arrays follows what else
Python's garbage collector knows of, too: arguments of `functools.partial`, caches, iterators,
variables of frames that an exception kept.
"""

# pyright: standard
# Not strict: what is walked over may be of any type.

import array
import functools
import gc
import io
import mmap
import sys
import types
import typing
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from clgym.data.experience import Experience
from clgym.data.memory import Memory
from clgym.strategy import Strategy

__all__ = ["arrays_in", "roots_of", "walk"]

_FOREIGN = (types.ModuleType, torch.dtype, torch.device)
_OF_IMPORTS = ("__builtins__", "__loader__", "__spec__")
"""Variables that Python's import system sets in every module."""
_LEAVES = (str, int, float, type, torch.Tensor, np.ndarray, bytes, bytearray, type(None))
_BUFFERS = (bytes, bytearray, memoryview, mmap.mmap)
_MOST_DENSE = 100_000_000
"""Numbers that a sparse tensor may have as a dense one."""
_CHARACTERS = "uw"
"""Codes of the characters that an `array.array` may contain."""
_PLAIN = (str, int, float, bool, type(None))
"""Types of values that contain no arrays and refer to nothing; most visited values have them."""


def roots_of(strategy: Strategy) -> dict[str, object]:
    """Roots of the walk: the strategy, and the variables of its module."""
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
    roots: dict[str, object],
    leave_out: Collection[object] = (),
    *,
    plain: bool = False,
    hidden: bool = False,
) -> Iterator[tuple[str, Any]]:
    """Yield everything that the roots refer to, each object once, with its place.

    Args:
        roots: Objects by name; places begin with these names.
        leave_out: Objects, and classes of objects, that are neither yielded nor followed.
        plain: Whether single numbers, strings and None are yielded, too.
        hidden: Whether objects are followed that have no name in Python: those in objects of
            compiled types, and attributes of tensors, numbers and containers.
    """
    passed_over = () if plain else _PLAIN
    seen = {id(value) for value in leave_out}
    foreign = (*_FOREIGN, *(value for value in leave_out if isinstance(value, type)))
    foreign = foreign if hidden else (types.BuiltinFunctionType, *foreign)
    parts_of = _all_parts if hidden else _parts
    waiting, known = list(roots.items()), []
    while waiting:
        place, value = waiting.pop()
        if id(value) in seen or isinstance(value, foreign):
            continue
        seen.add(id(value))
        known.append(value)  # kept alive, so that no id is used twice
        yield place, value
        waiting.extend(
            (place + step, part) for step, part in parts_of(value) if type(part) not in passed_over
        )


def arrays_in(
    roots: dict[str, object], leave_out: Collection[object] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays among these objects, with their places; for a view, the whole memory behind it."""
    known: set[int] = set()
    for place, value in walk(roots, leave_out, hidden=True):
        try:
            start = _start(value)
            found = None if start in known else _array(value)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, BufferError):
            continue  # it has no numbers: a closed file, a parameter that is not initialised
        if found is not None:
            known.add(start)
            known.discard(0)
            yield place, found


def _start(value: Any) -> int:
    """Address of the memory of a tensor or array; 0 for others."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().data_ptr() if value.layout is torch.strided else 0
    if isinstance(value, np.ndarray):
        return _base(value).__array_interface__["data"][0]
    return 0


def _array(value: Any) -> np.ndarray | None:
    """The numbers of an object, if it has any of its own."""
    if isinstance(value, torch.Tensor):
        return _numpy(_whole(value))
    if isinstance(value, np.ndarray):
        base = _base(value)
        if base.dtype.kind in "iuf":
            return base
        return None if base.dtype.hasobject else np.frombuffer(base.tobytes(), np.uint8)
    if isinstance(value, array.array) and value.typecode not in _CHARACTERS:
        return np.array(value)
    if isinstance(value, _BUFFERS):
        return np.frombuffer(value, np.uint8)
    if isinstance(value, io.BytesIO):
        return np.frombuffer(value.getvalue(), np.uint8)
    if isinstance(value, (list, tuple)) and value and _all_numbers(value):
        return np.array(value, dtype=np.float64)
    return None


def _all_numbers(values: Any) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _base(array: np.ndarray) -> np.ndarray:
    """The array that a view shows a part of: a small view keeps all of it alive."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole storage of a tensor; a sparse one as a dense one.

    Empty if it has no numbers, or too many.
    """
    tensor = tensor.detach()
    if tensor.is_meta or (tensor.layout is not torch.strided and tensor.numel() > _MOST_DENSE):
        return torch.zeros(0)
    if tensor.layout is not torch.strided:
        return tensor.to_dense()
    flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return flat.set_(tensor.untyped_storage())


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.dtype not in (torch.float16, torch.float64) and tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.numpy()


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """Objects that an object refers to, with the step; functions refer only to captured values."""
    if isinstance(value, _LEAVES):
        return ()
    if isinstance(value, Experience):
        return value.held_data().items()
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


def _all_parts(value: Any) -> Iterable[tuple[str, Any]]:
    """`_parts`, after everything else that an object refers to; what comes last is followed first.

    Functions and running code also refer to the variables of whole modules, which are left out.
    """
    if isinstance(value, type):
        return ()
    try:
        held = getattr(value, "__dict__", None)
        parts = (*_attributes(value), *_parts(value))
    except Exception:  # code of a plugin, or of a library: what it refers to is followed anyway
        held, parts = None, ()
    if isinstance(value, types.FrameType):
        return (*((f" local {name}", item) for name, item in value.f_locals.items()), *parts)
    if isinstance(value, types.FunctionType):
        return ((" defaults", value.__kwdefaults__), *parts)
    if isinstance(value, types.GeneratorType):
        return ((" from", value.gi_yieldfrom), *parts)
    if isinstance(value, (types.CodeType, np.memmap, Experience, Memory)):
        return parts  # the memory that an array is mapped to is the array's own
    if getattr(typing, type(value).__name__, None) is type(value):
        # types of `typing`, whose caches refer to those of all modules
        return [(f".{name}", getattr(value, name, ())) for name in ("__args__", "__metadata__")]
    if isinstance(value, (types.CoroutineType, types.AsyncGeneratorType)):
        frame = getattr(value, "cr_frame", None) or getattr(value, "ag_frame", None)
        return ((" frame", frame), *parts)
    if isinstance(value, BaseException):
        parts = ((" traceback", value.__traceback__), *parts)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return (*((f"[{number}]", item) for number, item in enumerate(value.flat)), *parts)
    return (*((" inside", item) for item in gc.get_referents(value) if item is not held), *parts)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of an object of any type, and the gradient of a parameter."""
    for name, item in getattr(value, "__dict__", {}).items():
        if not (isinstance(value, np.memmap) and isinstance(item, mmap.mmap)):
            yield f".{name}", item
    if isinstance(value, torch.Tensor) and value.is_leaf:
        yield ".grad", value.grad


def _name(key: object) -> str:
    """Text of a dict's key; for a tensor, without its numbers."""
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
