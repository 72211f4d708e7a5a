"""Find the tensors from which a prediction was computed, by tracing the operations of one call.

An operation's results depend on its arguments. Tensors that existed before the call and on which
the prediction depends in this way are used for predictions. A read whose result is not used does
not count, and neither does a value that only decides a branch of Python code.
"""

# pyright: standard
# Not strict: operations take and return values of any type.

from collections.abc import Iterator
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from clgym.learner.flops import flops_of

__all__ = ["Dataflow", "address"]


class Dataflow(TorchDispatchMode):
    """Notes every operation inside ``with``; the operations themselves are not changed.

    Attributes:
        given: Tensors that no operation made, by address.
        flops: Number of floating-point operations of all noted operations.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave `__torch_dispatch__` as it is: torch would import its compiler to wrap it.

        That takes longer than a small test, and every test has a process of its own. Nothing is
        compiled here.
        """
        return False

    def __init__(self, *, follow_updates: bool) -> None:
        """Begin without operations.

        Args:
            follow_updates: Whether a tensor that existed before depends on values written into it.
                False if a call also learns, since a prediction would depend on all that its loss
                read.
        """
        super().__init__()
        self._follow_updates = follow_updates
        self._storages: dict[int, _Storage] = {}
        # for each version, the versions that it was computed from
        self._before: list[set[int]] = []
        self.given: dict[int, torch.Tensor] = {}
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation and note what its results depend on."""
        kwargs = kwargs or {}
        taken = [self._known(tensor) for tensor in _tensors((args, list(kwargs.values())))]
        versions = {storage.version for storage in taken if storage is not None}
        result = func(*args, **kwargs)
        self.flops += flops_of(func, args, kwargs, result)
        for tensor in _tensors(result):
            if _identity(tensor) not in self._storages:
                self._add(tensor, versions, made=True)
        for tensor in _written(func, args, kwargs):
            storage = self._known(tensor)
            if storage is not None and (storage.made or self._follow_updates):
                storage.version = self._new_version(versions)  # its old version is among them
        return result

    def _known(self, tensor: torch.Tensor) -> "_Storage | None":
        """The storage of an argument; one that was not seen before counts as given."""
        if (known := self._storages.get(_identity(tensor))) is None:
            known = self._add(tensor, set(), made=False)
            if known is not None:
                self.given[known.address] = tensor  # alive, so that it keeps its address
        return known

    def _add(self, tensor: torch.Tensor, before: set[int], made: bool) -> "_Storage | None":
        if not (identity := _identity(tensor)):
            return None
        reference = StorageWeakRef(tensor.untyped_storage())
        known = _Storage(reference, address(tensor), made, self._new_version(before))
        self._storages[identity] = known
        return known

    def _new_version(self, before: set[int]) -> int:
        self._before.append(before)
        return len(self._before) - 1

    def sources(self, answer: torch.Tensor) -> set[int]:
        """Addresses of all storages that a prediction depends on and that still exist."""
        known, found = self._storages.get(_identity(answer)), set[int]()
        waiting = [] if known is None else [known.version]
        while waiting:
            version = waiting.pop()
            if version not in found:
                found.add(version)
                waiting.extend(self._before[version])
        used = [s for s in self._storages.values() if found & {s.version, s.first}]
        return {storage.address for storage in used if not storage.reference.expired()} - {0}


class _Storage:
    """A storage that an operation took or made; the weak reference keeps its identity from others.

    Attributes:
        version: Number of its present content, which changes with every write.
        first: Number of the content with which it was first seen.
    """

    def __init__(self, reference: StorageWeakRef, address: int, made: bool, version: int) -> None:
        self.reference, self.address, self.made = reference, address, made
        self.version = self.first = version


def _identity(tensor: torch.Tensor) -> int:
    """Identity of a storage, which differs even between storages that reuse one address."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse tensors, for example
        return 0


def address(tensor: torch.Tensor) -> int:
    """Address of a tensor's storage; 0 for a tensor without one."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse tensors, for example
        return 0


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Tensors that an operation writes to."""
    declared = func._schema.arguments
    given = list(zip(declared, args, strict=False))
    given += [(argument, kwargs[argument.name]) for argument in declared if argument.name in kwargs]
    values = [v for a, v in given if a.alias_info is not None and a.alias_info.is_write]
    return list(_tensors(values))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
