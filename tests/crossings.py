"""A stand-in for a GPU: torch's device ``meta``, with a count of what crosses over to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from clgym.data import to_device

META = torch.device("meta")


@dataclass
class Crossings:
    """Copies from the host to the device, by how they were made."""

    good: int = 0
    """Out of pinned memory, without waiting."""
    bad: list[str] = field(default_factory=list)
    """All others, by operation."""


class _Watch(TorchDispatchMode):
    def __init__(self, found: Crossings, pinned: list[Tensor]) -> None:
        super().__init__()
        self._found, self._pinned = found, pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, str(func)
        out = func(*args, **kwargs)
        if name.startswith(("aten._to_copy", "aten.copy_")):
            source = args[1] if name.startswith("aten.copy_") else args[0]
            if source.device.type == "cpu" and out.device == META:
                goes_on = kwargs.get("non_blocking") or True in args[2:]
                if goes_on and any(_of(source, one) for one in self._pinned):
                    self._found.good += 1
                else:
                    self._found.bad.append(f"{name} {tuple(source.shape)}")
        elif name.startswith(("aten.index.", "aten.index_put", "aten._index_put")):
            # Indices on the host are copied inside: a GPU's kernel cannot read them there.
            rows = [one for one in args[1] if isinstance(one, Tensor)]
            if args[0].device == META and any(one.device.type == "cpu" for one in rows):
                self._found.bad.append(f"{name} by indices on the host")
        return out


def _of(part: Tensor, whole: Tensor) -> bool:
    """Whether a tensor lies in another one's memory."""
    return part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


@contextmanager
def crossings() -> Iterator[Crossings]:
    """Inside, ``meta`` is taken for a GPU, and pinned memory is what `to_device` asks for."""
    pinned: list[Tensor] = []

    def is_sent(values: Tensor, device: torch.device) -> bool:
        return device.type == "meta" and values.device.type == "cpu"

    def pin(values: Tensor) -> Tensor:
        pinned.append(values.clone())
        return pinned[-1]

    found = Crossings()
    with (
        patch.object(to_device, "is_sent", is_sent),
        patch.object(to_device, "pinned", pin),
        _Watch(found, pinned),
    ):
        yield found
