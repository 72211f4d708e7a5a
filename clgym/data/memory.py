"""Samples of past experiences that a strategy may keep: counted, bounded, reservoir-sampled."""

from typing import TypedDict

import torch
from torch import Tensor

from clgym.errors import OutOfReach

__all__ = ["Memory", "MemoryState"]


class MemoryState(TypedDict):
    """What a memory holds, for a state file."""

    seen: int
    """Samples that were offered to it so far."""
    columns: dict[str, Tensor]


class Memory:
    """Storage of at most ``capacity`` samples, each one row of every column stored with it.

    `add` is Vitter's algorithm R (1985): after n samples each has been kept with probability
    capacity / n. Columns are given by name at the first `add` (pixels, labels, logits, ...).
    """

    def __init__(self, capacity: int) -> None:
        """Allow ``capacity`` samples; 0 allows none."""
        self._capacity = capacity
        self.seen = 0
        self._columns: dict[str, Tensor] = {}
        self._filled = 0

    @property
    def capacity(self) -> int:
        """The most samples that may be held.

        Raises:
            OutOfReach: a strategy sets it: what it may keep is what it declared.
        """
        return self._capacity

    @capacity.setter
    def capacity(self, value: int) -> None:
        raise OutOfReach(
            expected=f"a memory of {self._capacity} samples, as the strategy declared",
            found=f"another capacity, {value}",
            fix="Declare it in the strategy's needs: Needs(memory=...)",
        )

    @property
    def size(self) -> int:
        """Bytes of all samples held."""
        return sum(self[name].numel() * self[name].element_size() for name in self._columns)

    def __len__(self) -> int:
        """Count the samples held."""
        return self._filled

    def __getitem__(self, name: str) -> Tensor:
        """One column of all samples held, [len(self), ...]."""
        return self._columns[name][: self._filled]

    def add(self, generator: torch.Generator, **columns: Tensor) -> None:
        """Offer a batch to the reservoir: each argument is [n, ...], all of one length.

        Raises:
            OutOfReach: the strategy declared no memory.
        """
        if self.capacity == 0:
            raise OutOfReach(
                expected="a strategy that stores samples to declare Needs(memory=M)",
                found="no declared memory",
                fix="Declare it in the strategy's needs",
            )
        count = len(next(iter(columns.values())))
        for name, values in columns.items():
            self._hold(name, values)
        slots = self._slots(count, generator)
        kept = slots >= 0
        for name, values in columns.items():
            store = self._columns[name]
            store[slots[kept].to(store.device)] = values[kept.to(values.device)].to(store)
        self._filled = min(self.capacity, max(self._filled, self.seen))

    def _slots(self, count: int, generator: torch.Generator) -> Tensor:
        """Where each new sample goes; -1 for those not kept, or overwritten by a later one."""
        order = torch.arange(self.seen, self.seen + count)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        drawn = (uniform * (order + 1)).long()
        slots = torch.where(order < self.capacity, order, drawn)
        slots[slots >= self.capacity] = -1
        self.seen += count
        # Two samples of one batch may draw the same slot: the later one stays.
        last = {slot: i for i, slot in enumerate(slots.tolist()) if slot >= 0}
        result = torch.full_like(slots, -1)
        for slot, i in last.items():
            result[i] = slot
        return result

    def _hold(self, name: str, like: Tensor) -> None:
        """Make room for a column, or widen it: new classes add columns to stored logits."""
        shape = (self.capacity, *like.shape[1:])
        old = self._columns.get(name)
        if old is None:
            self._columns[name] = torch.zeros(shape, dtype=like.dtype, device=like.device)
        elif old.shape[1:] != like.shape[1:]:
            wider = torch.zeros(shape, dtype=old.dtype, device=old.device)
            wider[tuple(slice(0, n) for n in old.shape)] = old
            self._columns[name] = wider

    def draw(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw at most ``size`` samples uniformly without replacement: rows of every column."""
        rows = torch.randperm(self._filled, generator=generator)[:size]
        return {name: store[rows.to(store.device)] for name, store in self._columns.items()}

    def columns(self) -> dict[str, Tensor]:
        """All columns of the samples held, not copied."""
        return {name: self[name] for name in self._columns}

    def state_dict(self) -> MemoryState:
        """All samples, as tensors and numbers."""
        return {
            "seen": self.seen,
            "columns": {name: self[name].clone() for name in self._columns},
        }

    def load_state_dict(self, state: MemoryState, device: torch.device) -> None:
        """Restore `state_dict` on ``device``."""
        self.seen = int(state["seen"])
        self._columns, self._filled = {}, 0
        for name, values in state["columns"].items():
            values = values.to(device)
            self._hold(name, values)
            self._columns[name][: len(values)] = values
            self._filled = len(values)
