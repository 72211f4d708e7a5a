"""Texts of a table about its stream, and labels that distinguish the variants of one strategy."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from clgym.board.page.cells import short
from clgym.board.reading.entries import BoardEntry
from clgym.gym.request import FROM_PRESET

__all__ = ["about_stream", "labels", "network_of"]

_SAID_ELSEWHERE = ("source", "classes", "class_order", *FROM_PRESET)
_ACTS_ONLY = {"delta": ("order", "dirichlet")}
"""Options of a stream that have no effect unless another option has a certain value."""


# Any: options of a scenario, of any type.
def about_stream(stream: dict[str, Any], entries: Sequence[BoardEntry]) -> str:
    """The stream in one line: its options that have an effect on at least one of the rows."""
    names, options = list(dict.fromkeys(name for name, _ in stream["sources"])), stream["options"]
    parts = [str(stream["setting"]), ", ".join(names)]
    for name, value in sorted(options.items()):
        other, wanted = _ACTS_ONLY.get(name, ("", None))
        idle = name in _SAID_ELSEWHERE or options.get(other) != wanted
        if value not in (None, 0.0, []) and not idle:
            parts.append(f"{name.replace('_', ' ')} {short(value)}")
    parts += _acting(entries)
    if stream.get("model"):
        name, digest = stream["model"]
        parts.append(f"model {name}" + (f" ({digest[:8]})" if digest else ""))
    parts += (
        [f"scored on {stream['scored on']}"] if stream.get("scored on", "test") != "test" else []
    )
    parts += [f"experiences {stream['part']}"] if stream.get("part") else []
    return "; ".join(part for part in parts if part)


def _acting(entries: Sequence[BoardEntry]) -> list[str]:
    """All backbones, networks and memory sizes of the rows."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        result = entry.scores[0].record.result
        if result.backbone is not None:
            found["backbone"].add(f"{network_of(entry)} ({result.backbone.weights[:8]})")
        elif network := network_of(entry):
            found["network"].add(network)
        if result.stored_samples and (size := _option(entry, "memory_size")):
            found["memory size"].add(short(size))
    names = ("backbone", "network", "memory size")
    return [f"{name} {', '.join(sorted(found[name]))}" for name in names if found[name]]


def network_of(entry: BoardEntry) -> str:
    """Name of the pretrained backbone, or of the network that an option names; else empty."""
    backbone = entry.scores[0].record.result.backbone
    if backbone is not None:
        return short(backbone.name.partition("@sha256:")[0])
    network = _option(entry, "network")
    return short(network) if network else ""


def _option(entry: BoardEntry, name: str) -> Any:
    """Value of an option of a strategy, or of one that it wraps; None if none of them has it."""
    values = [v for key, v in entry.config.items() if key.rpartition(".")[2] == name]
    return values[0] if values else None


def labels(entries: list[BoardEntry], named: bool = True) -> list[str]:
    """What tells the entries of one strategy apart.

    Their modes if all differ; else the options in which they differ, or the hash where none does.
    The mode ``transfer`` is not named, nor are options that an earlier version did not have.
    """
    differing: dict[str, list[str]] = {}
    by_mode: set[str] = set()
    for name in {entry.strategy for entry in entries}:
        own = [entry for entry in entries if entry.strategy == name]
        modes = {entry.mode for entry in own}
        if len(modes) == len(own) > 1 and "transfer" in modes:
            by_mode.add(name)
        keys = sorted(set.intersection(*(set(entry.config) for entry in own)))
        differing[name] = [k for k in keys if len({repr(e.config.get(k)) for e in own}) > 1]
    texts = [
        ("" if entry.mode == "transfer" else entry.mode)
        if entry.strategy in by_mode
        else ", ".join(
            f"{key if named else ''} {short(entry.config.get(key), 24)}".strip()
            for key in differing[entry.strategy]
        )
        for entry in entries
    ]
    counts = Counter(zip((e.strategy for e in entries), texts, strict=True))
    return [
        f"{label} #{entry.id[:6]}".strip() if counts[entry.strategy, label] > 1 else label
        for entry, label in zip(entries, texts, strict=True)
    ]
