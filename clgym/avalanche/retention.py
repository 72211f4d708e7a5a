"""Samples of past experiences that a strategy can still reach."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.flat_data import FlatData
from torch import Tensor

from clgym.avalanche.rows import Rows
from clgym.data.memory import Memory
from clgym.data.to_device import to_device
from clgym.errors import OutOfReach
from clgym.strategy import Experience

__all__ = ["end", "rows_held"]


def end(
    root: Any,
    rows: Rows | None,
    kept: Sequence[tuple[Tensor, Tensor]],
    memory: Memory,
    experience: Experience,
) -> None:
    """Copy the samples that ``root`` holds to the memory, and make all others unreachable.

    Args:
        root: Object from which the strategy's buffers can be reached.
        rows: Rows of the finished experience; None if nothing read them as a dataset.
        kept: Samples held as tensors: (images in [0, 1], class indices).
        memory: Memory for samples of past experiences.
        experience: The finished experience.

    Raises:
        OutOfReach: The strategy holds more samples than it declared.
    """
    held = rows_held(root)
    sources = {id(r): r for r in [*(r for r, _ in held.values()), *([rows] if rows else [])]}
    pairs = [(source, row) for source, numbers in held.values() for row in sorted(numbers)]
    total = len(pairs) + sum(len(labels) for _, labels in kept)
    if total > memory.capacity:
        raise OutOfReach(
            expected=f"at most {memory.capacity} samples of past experiences",
            found=f"{total} in the strategy's buffers",
            fix="Give --memory-size a larger number",
        )
    pixels = [source.pixels(row) for source, row in pairs]
    labels = [source.targets[row] for source, row in pairs]
    _fill(memory, experience, pixels, labels, kept)
    places: dict[int, dict[int, int]] = {number: {} for number in sources}
    for place, (source, row) in enumerate(pairs):
        places[id(source)][row] = place
    for number, source in sources.items():
        source.keep(memory, places[number])


def _fill(
    memory: Memory,
    experience: Experience,
    pixels: list[Tensor],
    labels: list[int],
    kept: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """Make the memory hold exactly these samples."""
    like = experience.pixels
    scale = experience.to_float(torch.ones(1, device=like.device))
    parts = [torch.stack(pixels)] if pixels else []
    stored = [to_device(images, like.device) / scale for images, _ in kept]
    parts += [x.to(like) if like.is_floating_point() else x.round().to(like) for x in stored]
    columns = [torch.tensor(labels, dtype=torch.long), *(y.cpu() for _, y in kept)]
    held = {} if not parts else {"pixels": torch.cat(parts), "labels": torch.cat(columns)}
    total = sum(map(len, parts))
    memory.load_state_dict({"seen": total, "columns": held}, like.device)


def rows_held(root: Any) -> dict[int, tuple[Rows, set[int]]]:
    """Every `Rows` that can be reached from ``root``, with the row numbers in its datasets."""
    found: dict[int, tuple[Rows, set[int]]] = {}
    known: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (Tensor, type, str, bytes, int, float)) or id(value) in known:
            continue
        known[id(value)] = value
        if isinstance(value, Rows):
            found.setdefault(id(value), (value, set()))
        elif isinstance(value, AvalancheDataset):
            _collect(value._flat_data, range(len(value)), found)
        elif isinstance(value, FlatData):
            _collect(value, range(len(value)), found)
        else:
            waiting.extend(_parts(value))
    return found


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    return getattr(value, "__dict__", {}).values()


def _collect(data: Any, numbers: Iterable[int], found: dict[int, tuple[Rows, set[int]]]) -> None:
    """Follow row numbers down Avalanche's tree of subsets and concatenations."""
    if isinstance(data, Rows):
        found.setdefault(id(data), (data, set()))[1].update(numbers)
    elif isinstance(data, AvalancheDataset):
        _collect(data._flat_data, numbers, found)
    elif isinstance(data, FlatData):
        if data._indices is not None:
            numbers = [int(data._indices[n]) for n in numbers]
        start = 0
        numbers = sorted(numbers)
        for part in data._datasets:
            stop = start + len(part)
            _collect(part, [n - start for n in numbers if start <= n < stop], found)
            start = stop
