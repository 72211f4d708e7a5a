"""What the board's records say about a run in words, and how long it took."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from writing import cell, table

from clgym import config, registry
from clgym.board.reading.entries import BoardEntry
from clgym.cli._flags import as_text
from clgym.errors import ClgymError
from clgym.gym.request import FROM_PRESET, scenario_fields
from clgym.strategy import Strategy

__all__ = ["chosen", "costs", "cut"]

_WORDS = {"per_class": "train and test images a class", "images": "images", "classes": "classes"}
_SHOWN_ELSEWHERE = ("model", "published")


def cut(entry: BoardEntry) -> str:
    """Options of the stream that are not the preset's, in words; "" where it is whole."""
    options, preset = entry.stream["options"], _preset(str(entry.stream["name"]))
    assert isinstance(options, Mapping)
    parts: list[str] = []
    for name, value in sorted(options.items()):
        if name in _SHOWN_ELSEWHERE or preset.get(name, value) == _plain(value):
            continue
        listed = isinstance(value, (list, tuple)) and len(value) > 6
        shown = f"{len(value)} given" if listed else as_text(_plain(value))
        parts.append(f"{_WORDS.get(name, name.replace('_', ' '))}: {shown}")
    return "; ".join(parts)


def _preset(name: str) -> dict[str, object]:
    try:
        return {f.name: f.default for f in scenario_fields(name)}
    except ClgymError:  # a pair's stream has the pair's name
        return {}


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def chosen(entry: BoardEntry) -> str:
    """Options of the strategy that are not its defaults."""
    defaults = _defaults(entry.strategy.partition(" ")[0].partition(":")[0])
    parts = [
        f"{name.replace('_', '-')} {as_text(_plain(value))}"
        for name, value in sorted(entry.config.items())
        if name not in FROM_PRESET and defaults.get(name, _plain(value)) != _plain(value)
    ]
    return ", ".join(parts)


def _defaults(strategy: str) -> dict[str, object]:
    try:
        entry = registry.find("strategies", strategy)
        cls = registry.load_class(entry, Strategy)
    except ClgymError:
        return {}
    return {f.name: f.default for f in config.fields_of(cls.Config)}


def costs(board: Sequence[BoardEntry]) -> str:
    """A table of time and memory, one line for each row of the board."""
    heads = ("stream", "cut", "method", "device", "minutes a run", "peak memory")
    order = sorted(board, key=lambda e: (str(e.stream["name"]), e.strategy, e.id))
    return table(heads, _cost_rows(order))


def _cost_rows(board: Sequence[BoardEntry]) -> Iterator[tuple[str, ...]]:
    for entry in board:
        records = [score.record for score in entry.scores]
        minutes = fmean(record.cost.wall_seconds for record in records) / 60
        memory = [r.cost.peak_memory_bytes for r in records if r.cost.peak_memory_bytes]
        devices = {r.environment.device_name or r.environment.device for r in records}
        yield (
            f"`{entry.stream['name']}`",
            cell(cut(entry)),
            cell(f"{entry.strategy} {chosen(entry)}"),
            cell(", ".join(sorted(devices))),
            f"{minutes:.1f}",
            f"{max(memory) / 2**30:.1f} GiB" if memory else "not measured",
        )
