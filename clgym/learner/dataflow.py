"""Which tensors an answer was computed from: the operations of one call, followed backwards.

An operation's results depend on its arguments. What was there before the call and is among the
arguments that lead to the answer serves predictions. A read whose result goes nowhere does not
count, and neither does what only decides a branch of Python code.
"""

# pyright: standard
# Not strict: operations take and return values of any type.

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Dataflow", "address"]


class Dataflow(TorchDispatchMode):
    """Notes every operation inside ``with``; the operations themselves are not changed.

    Attributes:
        given: Tensors that no operation made, by address. They live as long as this object, so that
            no other tensor gets their address.
    """

    def __init__(self, *, follow_updates: bool) -> None:
        """Begin.

        Args:
            follow_updates: Whether a tensor that was there before depends on what is written into
                it. False where a call also learns: an answer would depend on all that its loss saw.
        """
        super().__init__()
        self._follow_updates = follow_updates
        # Versions of storages, since an address is given to one after the other.
        self._version: dict[int, int] = {}  # the present one by address
        self._before: list[set[int]] = []  # versions that a version was computed from
        self._origin: list[int] = []  # address of one that no operation made, else 0
        self.given: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation and note what its results depend on."""
        kwargs = kwargs or {}
        tensors = {address(tensor): tensor for tensor in _tensors((args, list(kwargs.values())))}
        versions = {self._known(place, tensor) for place, tensor in tensors.items()}
        result = func(*args, **kwargs)
        for place in {address(tensor) for tensor in _tensors(result)} - tensors.keys():
            self._add(place, versions)
        for place in _written(func, args, kwargs):
            made_here = not self._origin[self._version[place]]
            if made_here or self._follow_updates:
                self._add(place, versions)  # its own old version is among them
        return result

    def _known(self, place: int, tensor: torch.Tensor) -> int:
        if place not in self._version:
            self._add(place, set(), place)
            self.given[place] = tensor
        return self._version[place]

    def _add(self, place: int, before: set[int], origin: int = 0) -> None:
        self._version[place] = len(self._before)
        self._before.append(before)
        self._origin.append(origin)

    def sources(self, answer: torch.Tensor) -> set[int]:
        """Addresses of all storages that an answer depends on, intermediate results among them."""
        found: set[int] = set()
        waiting = [self._version[address(answer)]] if address(answer) in self._version else []
        while waiting:
            version = waiting.pop()
            if version not in found:
                found.add(version)
                waiting.extend(self._before[version])
        present = {place for place, version in self._version.items() if version in found}
        return (present | {self._origin[version] for version in found}) - {0}


def address(tensor: torch.Tensor) -> int:
    """Where a tensor's storage begins; 0 for one without a storage."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse tensors, for example
        return 0


def _written(func: Any, args: Any, kwargs: Any) -> set[int]:
    """Addresses that an operation writes to."""
    declared = func._schema.arguments
    given = list(zip(declared, args, strict=False))
    given += [(argument, kwargs[argument.name]) for argument in declared if argument.name in kwargs]
    values = [v for a, v in given if a.alias_info is not None and a.alias_info.is_write]
    return {address(tensor) for tensor in _tensors(values)}


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
