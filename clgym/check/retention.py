"""What a strategy keeps of training images: everything reachable from it."""

import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from clgym.learner.entrance import Learner
from clgym.strategy import Experience, Memory, Strategy

__all__ = ["Held", "buffers_in", "held_by", "numbers_in"]

_ALIKE = 1e-4
"""Maximum difference of two pixels that count as the same image."""

_FOREIGN = (types.ModuleType, types.BuiltinFunctionType, torch.dtype, torch.device, Learner)


class Held:
    """The numbers in reach of a strategy.

    Attributes:
        images: How many of the given training images are among them.
        numbers: How many numbers there are outside `StreamInfo.memory`.
    """

    def __init__(
        self,
        arrays: list[np.ndarray],
        kept: list[np.ndarray],
        pixels: np.ndarray,
        scales: Sequence[tuple[float, float]],
    ) -> None:
        """Compare.

        Args:
            arrays: Everything in reach besides the memory.
            kept: What the memory holds.
            pixels: Training images, [n, ...].
            scales: Forms in which a pixel may be kept: (factor, what is added).
        """
        self.numbers = sum(a.size for a in arrays)
        size = int(np.prod(pixels.shape[1:]))
        # Sorted, so that an image is known again when it was flipped or permuted.
        plain = np.sort(pixels.reshape(len(pixels), size).astype(np.float64), axis=1)
        found = np.zeros(len(plain), dtype=bool)
        for array in [*arrays, *kept]:
            if array.size >= size and array.size % size == 0:
                rows = np.sort(np.nan_to_num(array.reshape(-1, size).astype(np.float64)), axis=1)
                for factor, added in scales:
                    found |= _among(plain * factor + added, rows)
        self.images = int(found.sum())


def _among(wanted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of the wanted rows there are: bool [n]."""
    # A short look at one pixel first: most rows are of weights.
    found = np.zeros(len(wanted), dtype=bool)
    for i, image in enumerate(wanted):
        near = rows[np.abs(rows[:, -1] - image[-1]) < _ALIKE]
        found[i] = bool(len(near)) and bool((np.abs(near - image).max(axis=1) < _ALIKE).any())
    return found


def held_by(strategy: Strategy, pixels: np.ndarray, scales: Sequence[tuple[float, float]]) -> Held:
    """Visit everything reachable from ``strategy``, its module's globals included."""
    memory = strategy.info.memory
    kept = [_numpy(t) for t in memory._columns.values()]
    roots = [strategy, *_globals_of(type(strategy))]
    return Held(list(_arrays(roots, {id(memory)})), kept, pixels, scales)


def numbers_in(strategy: Strategy) -> int:
    """Number of values reachable from a strategy, without its memory."""
    return sum(a.size for a in _arrays([strategy], {id(strategy.info.memory)}))


def buffers_in(strategy: Strategy) -> int:
    """How many of these are buffers of networks: statistics, not parameters."""
    found = _walk([strategy], {id(strategy.info.memory)})
    modules = [value for value in found if isinstance(value, torch.nn.Module)]
    own = [b for m in modules for b in m.buffers(recurse=False) if b.is_floating_point()]
    return sum(b.numel() for b in own)


def _globals_of(cls: type) -> Iterator[Any]:
    """What the plugin's file keeps outside its objects: variables and class attributes."""
    module = sys.modules.get(cls.__module__)
    if module is None or module.__name__.startswith("clgym.avalanche"):
        return
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from vars(value).values()
        elif not isinstance(value, (type, types.ModuleType, types.FunctionType)):
            yield value


def _walk(roots: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    """Everything that the roots lead to, once; ``seen`` holds ids to leave out."""
    waiting, known = list(roots), []
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _FOREIGN):
            continue
        seen.add(id(value))
        known.append(value)  # so that no id is used twice
        yield value
        waiting.extend(_parts(value))


def _arrays(roots: Iterable[Any], seen: set[int]) -> Iterator[np.ndarray]:
    """The numbers among it."""
    storages: set[int] = set()
    for value in _walk(roots, seen):
        if isinstance(value, torch.Tensor):
            if (place := value.untyped_storage().data_ptr()) not in storages:
                storages.add(place)
                yield _numpy(_whole(value))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
            yield value
        elif isinstance(value, (bytes, bytearray)):
            yield np.frombuffer(bytes(value), np.uint8)
        elif isinstance(value, (list, tuple)) and value and _all_numbers(value):
            yield np.array(value, dtype=np.float64)


def _all_numbers(values: Any) -> bool:
    return all(isinstance(v, (int, float)) for v in values)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of the storage that a tensor is a view of: a small view keeps everything alive."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.is_meta:
        return torch.zeros(0)
    flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return flat.set_(tensor.untyped_storage())


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _parts(value: Any) -> Iterable[Any]:
    """What an object leads to; code leads to what it has captured only."""
    if isinstance(value, (str, int, float, type, torch.Tensor, np.ndarray, bytes)) or value is None:
        return ()
    if isinstance(value, Experience):
        return (value._pixels, value._labels)
    if isinstance(value, Memory):
        return value._columns.values()
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return value
    if isinstance(value, types.FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _filled(c)]
        return (*cells, value.__defaults__, value.__dict__)
    if isinstance(value, types.MethodType):
        return (value.__self__, value.__func__)
    if isinstance(value, types.GeneratorType):
        return () if value.gi_frame is None else value.gi_frame.f_locals.values()
    slots = [getattr(value, s, None) for c in type(value).__mro__ for s in _slots(c)]
    return (*getattr(value, "__dict__", {}).values(), *slots)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
