"""Memory for samples of past experiences, whose size is checked at every call.

The strategy chooses the samples and their places: by a reservoir (`Memory.add`), by a new choice of
all samples after each experience (`Memory.replace`: herding, rainbow), by single places
(`Memory.append`, `Memory.put`: class-balanced memories, GDumb, GSS, banks of test-time methods), or
by a selection among the stored ones (`Memory.keep`).
"""

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from clgym.data.take_rows import take_rows
from clgym.data.to_device import to_device
from clgym.errors import OutOfReach

__all__ = ["Memory", "MemoryState"]


class MemoryState(TypedDict):
    """Contents of a memory, for a state file."""

    seen: int
    """Number of samples offered to the memory so far."""
    columns: dict[str, Tensor]


class Memory:
    """Storage of at most ``capacity`` samples, each one row of every column stored with it.

    The first call that stores samples names the columns (pixels, labels, logits, features, ages,
    ...), and later calls must give the same ones. Labels or logits may become wider as classes
    come: rows that were stored before are filled with zeros.

    Attributes:
        capacity: Maximum number of samples.
        seen: Number of samples offered to `add` so far.
    """

    def __init__(self, capacity: int) -> None:
        """Allow ``capacity`` samples; 0 allows none."""
        self._capacity = capacity
        self.seen = 0
        self._columns: dict[str, Tensor] = {}
        self._filled = 0

    @property
    def capacity(self) -> int:
        """Maximum number of samples.

        Raises:
            OutOfReach: A strategy sets it; only its declared needs determine the capacity.
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
        """Size of all stored samples in bytes."""
        return sum(self[name].numel() * self[name].element_size() for name in self._columns)

    def __len__(self) -> int:
        """Count the stored samples."""
        return self._filled

    def __contains__(self, name: object) -> bool:
        """Whether there is a column of this name."""
        return name in self._columns

    def __getitem__(self, name: str) -> Tensor:
        """One column of all stored samples, [len(self), ...]."""
        return self._columns[name][: self._filled]

    def rows_by(self, name: str = "labels") -> dict[int, Tensor]:
        """Row numbers of the stored samples, int64 and ascending, by the value of a column."""
        if not self._filled:
            return {}
        values = self[name].cpu()
        return {int(value): (values == value).nonzero()[:, 0] for value in values.unique()}

    def add(self, generator: torch.Generator, **columns: Tensor) -> None:
        """Offer a batch to the reservoir: each argument is [n, ...], all of one length.

        Vitter's algorithm R (1985): all samples are kept while there is room, and of n samples each
        is kept with probability capacity / n.

        Raises:
            OutOfReach: The strategy declared no memory.
            ValueError: The columns differ in length, or from those that are stored.
        """
        count = self._checked(columns, limit=None)
        kept, slots = self._slots(count, generator)
        chosen = {n: take_rows(v, to_device(kept, v.device)) for n, v in columns.items()}
        self._write(slots, chosen)
        self._filled = min(self.capacity, self._filled + count)

    def append(self, **columns: Tensor) -> None:
        """Store samples behind the stored ones, [n, ...] each.

        Raises:
            OutOfReach: There is no room for them; drop some first (`keep`), or `put` them.
        """
        count = self._checked(columns, limit=self.capacity - self._filled)
        self._write(torch.arange(self._filled, self._filled + count), columns)
        self._filled += count

    def put(self, rows: Tensor, **columns: Tensor) -> None:
        """Store samples in place of others.

        Args:
            rows: int64 [n], row numbers of stored samples, each at most once.
            **columns: [n, ...] each.

        Raises:
            OutOfReach: A row holds no sample.
            ValueError: The number of different rows is not that of the samples.
        """
        count = self._checked(columns, limit=None)
        self._check_rows(rows)
        if len(rows) != count or len(rows.unique()) != count:
            raise ValueError(f"{count} samples go to {count} different rows, found {len(rows)}")
        self._write(rows, columns)

    def replace(self, **columns: Tensor) -> None:
        """Store these samples, [n, ...] each, and drop all others.

        Raises:
            OutOfReach: There are more samples than the capacity.
        """
        self._checked(columns, limit=self.capacity, anew=True)
        self._columns, self._filled = {}, 0
        self.append(**columns)

    def keep(self, rows: Tensor) -> None:
        """Keep only these samples, in this order.

        Args:
            rows: int64 [n], row numbers of stored samples, each at most once.

        Raises:
            OutOfReach: A row holds no sample.
            ValueError: A row occurs more than once.
        """
        self._check_rows(rows)
        if len(rows.unique()) != len(rows):
            raise ValueError("a sample is kept once")
        for store in self._columns.values():
            kept = store[to_device(rows, store.device)]  # a copy: rows may move either way
            store[: len(rows)] = kept
            store[len(rows) :] = 0
        self._filled = len(rows)

    def draw(
        self, size: int, generator: torch.Generator, among: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Draw at most ``size`` samples uniformly without replacement: rows of every column.

        Args:
            size: Maximum number of samples.
            generator: Generator of the draws, on the CPU.
            among: int64 [m], row numbers to draw from; None: all stored samples.
        """
        if among is not None:
            self._check_rows(among)
        count = self._filled if among is None else len(among)
        rows = torch.randperm(count, generator=generator)[:size]
        rows = rows if among is None else among.cpu()[rows]
        return {
            name: take_rows(store, to_device(rows, store.device))
            for name, store in self._columns.items()
        }

    def columns(self) -> dict[str, Tensor]:
        """All columns of the stored samples, not copied."""
        return {name: self[name] for name in self._columns}

    def storage(self) -> dict[str, Tensor]:
        """All columns including rows without a sample, [capacity, ...], for clgym's checks."""
        return dict(self._columns)

    def state_dict(self) -> MemoryState:
        """All samples, as tensors and numbers."""
        return {
            "seen": self.seen,
            "columns": {name: self[name].clone() for name in self._columns},
        }

    def load_state_dict(self, state: MemoryState, device: torch.device) -> None:
        """Restore `state_dict` on ``device``."""
        self._columns, self._filled = {}, 0
        columns = {name: to_device(values, device) for name, values in state["columns"].items()}
        if columns:
            self.append(**columns)
        self.seen = int(state["seen"])

    def _checked(self, columns: dict[str, Tensor], limit: int | None, anew: bool = False) -> int:
        """Number of samples in a call, after checking that they may be stored.

        Args:
            columns: Columns to be stored.
            limit: Maximum number of samples; None: any number.
            anew: Whether all stored samples are dropped, so that other columns are allowed.
        """
        if self.capacity == 0:
            raise OutOfReach(
                expected="a strategy that stores samples to declare Needs(memory=M)",
                found="no declared memory",
                fix="Declare it in the strategy's needs",
            )
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of one length are stored, found {lengths or 'none'}")
        if self._columns and not anew and columns.keys() != self._columns.keys():
            known, given = sorted(self._columns), sorted(columns)
            raise ValueError(f"every sample has the columns {known}, found {given}")
        count = next(iter(lengths.values()))
        if limit is not None and count > limit:
            raise OutOfReach(
                expected=f"at most {limit} more samples in a memory of {self.capacity}",
                found=str(count),
                fix="Drop some that are held, or declare a larger memory in the strategy's needs",
            )
        return count

    def _check_rows(self, rows: Tensor) -> None:
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= self._filled):
            raise OutOfReach(
                expected=f"row numbers of the {self._filled} samples held",
                found=f"{int(rows.min())} to {int(rows.max())}",
                fix="Use `append` for new ones",
            )

    def _write(self, rows: Tensor, columns: dict[str, Tensor]) -> None:
        for name, values in columns.items():
            self._hold(name, values)  # all of them, before one is changed
        if not len(rows):
            return
        for name, values in columns.items():
            store = self._columns[name]
            store[to_device(rows, store.device)] = to_device(values.to(store.dtype), store.device)

    def _slots(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples of a batch that are kept, and the slot of each; int64 [k] both."""
        uniform = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
        slots = (uniform * np.arange(self.seen + 1, self.seen + 1 + count)).astype(np.int64)
        room = min(count, self.capacity - self._filled)
        slots[:room] = np.arange(self._filled, self._filled + room)
        self.seen += count
        kept = np.flatnonzero(slots < self.capacity)
        # Two samples of one batch may draw the same slot: the later one stays.
        last = dict(zip(slots[kept].tolist(), kept.tolist(), strict=True))
        pairs = np.array([*last.values(), *last], dtype=np.int64).reshape(2, -1)
        rows, places = torch.from_numpy(pairs)
        return rows, places

    def _hold(self, name: str, like: Tensor) -> None:
        """Make room for a column, or widen it: new classes add columns to stored logits."""
        shape = (self.capacity, *like.shape[1:])
        old = self._columns.get(name)
        if old is None:
            self._columns[name] = torch.zeros(shape, dtype=like.dtype, device=like.device)
            return
        if old.shape == shape and old.dtype == like.dtype:
            return
        narrower = any(n < m for n, m in zip(shape, old.shape, strict=False))
        if (
            old.ndim != len(shape)
            or narrower
            or old.is_floating_point() != like.is_floating_point()
        ):
            now, given = tuple(old.shape[1:]), tuple(like.shape[1:])
            raise ValueError(
                f"the column {name!r} holds {old.dtype} {now} a sample, found {like.dtype} {given}"
            )
        if old.shape != shape:
            wider = torch.zeros(shape, dtype=old.dtype, device=old.device)
            wider[tuple(slice(0, n) for n in old.shape)] = old
            self._columns[name] = wider
