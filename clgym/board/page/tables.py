"""Tables of text from entries. The page and the Markdown board print the same cells."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from clgym.board.page.after_requests import measures_after_requests
from clgym.board.page.columns import (
    ADAPTATION,
    DELETION,
    EVALUATION_TIME,
    FIRST,
    GROUP,
    LAST,
    LEARNING,
    PRETRAINING,
    RUN_TIME,
    SEEDS,
    SHIFT,
    TUNING,
    Column,
)
from clgym.board.reading.entries import Board, BoardEntry
from clgym.board.stats import Rank, interval, ranks
from clgym.gym.request import FROM_PRESET
from clgym.results.grouping import identity
from clgym.results.record import Record

__all__ = ["BY_HAND", "Cell", "BoardRow", "BoardTable", "tables_of"]

BY_HAND = "untuned (hand-set hyper-parameters)"


@dataclass(frozen=True)
class Cell:
    """The text of a cell and its sort value; None sorts last."""

    text: str
    value: float | str | None


@dataclass(frozen=True)
class BoardRow:
    """An entry as a row of its table."""

    entry: BoardEntry
    label: str
    """Options that distinguish the entry from others of its strategy in the table."""
    brief: str
    """The same values without the options' names, for figures."""
    rank: Rank | None
    mean: float | None
    interval: tuple[float, float] | None
    cells: dict[str, Cell]

    @property
    def name(self) -> str:
        """Strategy and label."""
        return f"{self.entry.strategy} {self.label}".strip()

    @property
    def short_name(self) -> str:
        """Strategy and values."""
        return f"{self.entry.strategy} {self.brief}".strip()


@dataclass(frozen=True)
class BoardTable:
    """Rows that may be compared: one pair and mode, or one stream."""

    id: str
    title: str
    part: str
    """Options that distinguish the table from others of its title and mode; may be empty."""
    mode: str
    about: str
    """Sources and options of the stream."""
    adaptation: bool
    columns: tuple[Column, ...]
    rows: tuple[BoardRow, ...]


def tables_of(board: Board) -> list[BoardTable]:
    """Return all tables: evaluations by pair and mode, then runs by stream."""
    groups: dict[tuple[str, str, str], list[BoardEntry]] = defaultdict(list)
    for entry in board.entries:
        mode = entry.tuning.mode if entry.tuning else BY_HAND
        groups[mode, str(entry.stream["name"]), identity(entry.stream)].append(entry)
    order = sorted(groups, key=lambda key: (key[0] == BY_HAND, key[1], key[0], key[2]))
    return _parted([_table(mode, key, groups[mode, name, key]) for mode, name, key in order])


def _parted(tables: list[BoardTable]) -> list[BoardTable]:
    """Add the parts of ``about`` in which tables of one title and mode differ."""
    alike: dict[tuple[str, str], list[set[str]]] = defaultdict(list)
    for table in tables:
        alike[table.title, table.mode].append(set(table.about.split("; ")))
    found = []
    for table in tables:
        common = set.intersection(*alike[table.title, table.mode])
        own = [words for words in table.about.split("; ") if words not in common]
        found.append(replace(table, part=", ".join(own)))
    return found


def _table(mode: str, key: str, entries: list[BoardEntry]) -> BoardTable:
    stream, adaptation = entries[0].stream, entries[0].adaptation
    shifts = not adaptation and entries[0].scores[0].record.result.adaptation is not None
    middle = ADAPTATION if adaptation else (*LEARNING, SHIFT) if shifts else LEARNING
    if entries[0].scores[0].record.result.kind == "deletion":
        middle = DELETION
    if entries[0].scores[0].record.result.kind == "pretraining":
        middle = PRETRAINING
    time = EVALUATION_TIME if entries[0].tuning else RUN_TIME
    tuned = any(entry.tuning and entry.tuning.score is not None for entry in entries)
    rows = tuple(_rows(entries))
    lettered = sum(bool(row.rank and row.rank.letters) for row in rows) > 1
    return BoardTable(
        id=identity([mode, key]),
        title=str(stream["name"]),
        part="",
        mode=mode,
        about=_about(stream, entries),
        adaptation=adaptation,
        columns=tuple(
            column
            for column in (*FIRST, *middle, *([TUNING] if tuned else []), SEEDS, time, *LAST)
            if column != GROUP or lettered
        ),
        rows=rows,
    )


_SAID_ELSEWHERE = ("source", "classes", "class_order", *FROM_PRESET)
_ACTS_ONLY = {"delta": ("order", "dirichlet")}
"""Options of a stream that have no effect unless another option has a certain value."""


# Any: options of a scenario, of any type.
def _about(stream: dict[str, Any], entries: Sequence[BoardEntry]) -> str:
    """The stream in a line: what acts on at least one of the rows, and nothing else."""
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
    """Backbones, networks and sizes of memories that rows have; several are all named."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        result = entry.scores[0].record.result
        if result.backbone is not None:
            name = short(result.backbone.name.partition("@sha256:")[0])
            found["backbone"].add(f"{name} ({result.backbone.weights[:8]})")
        elif network := _option(entry, "network"):
            found["network"].add(short(network))
        if result.stored_samples and (size := _option(entry, "memory_size")):
            found["memory size"].add(short(size))
    names = ("backbone", "network", "memory size")
    return [f"{name} {', '.join(sorted(found[name]))}" for name in names if found[name]]


def _option(entry: BoardEntry, name: str) -> Any:
    """A strategy's option, or that of one that it wraps; None without one."""
    values = [v for key, v in entry.config.items() if key.rpartition(".")[2] == name]
    return values[0] if values else None


def short(value: Any, longest: int = 60) -> str:
    """A value as one line of text, not too long."""
    if isinstance(value, bool) or value is None:
        text = str(value).lower()
    elif isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, (list, tuple)):
        text = " ".join(short(item) for item in value) or "none"
    elif isinstance(value, dict):
        text = ", ".join(f"{key} {short(item)}" for key, item in value.items()) or "none"
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _rows(entries: list[BoardEntry]) -> list[BoardRow]:
    """Rows by their mean, the best first. One that lacks a promised run has no mean, no rank."""
    placed = ranks([{s.key: s.primary for s in e.scores} if e.complete else {} for e in entries])
    labels = zip(_labels(entries), _labels(entries, named=False), strict=True)
    found = [_row(e, *told, rank) for e, told, rank in zip(entries, labels, placed, strict=True)]
    scores = [e.tuning.score for e in entries if e.tuning and e.tuning.score is not None]
    for row in found:
        row.cells["tuning"] = _tuning_cell(row.entry, scores)
    tail = float("inf")
    found.sort(key=lambda r: (tail if r.mean is None else -r.mean, r.name, r.entry.id))
    for place, row in enumerate(found, 1):
        row.cells["rank"] = _rank_cell(row.rank, place)
    return found


def _labels(entries: list[BoardEntry], named: bool = True) -> list[str]:
    """Options in which entries of one strategy differ; what is left alike gets its hash."""
    differing: dict[str, list[str]] = {}
    for name in {entry.strategy for entry in entries}:
        configs = [entry.config for entry in entries if entry.strategy == name]
        keys = sorted({key for config in configs for key in config})
        differing[name] = [k for k in keys if len({repr(c.get(k)) for c in configs}) > 1]
    labels = [
        ", ".join(
            f"{key if named else ''} {short(entry.config.get(key), 24)}".strip()
            for key in differing[entry.strategy]
        )
        for entry in entries
    ]
    counts = Counter(zip((e.strategy for e in entries), labels, strict=True))
    return [
        f"{label} #{entry.id[:6]}".strip() if counts[entry.strategy, label] > 1 else label
        for entry, label in zip(entries, labels, strict=True)
    ]


def _strata(entry: BoardEntry, values: Sequence[float]) -> list[list[float]]:
    """Class orders, where each has several runs; else all runs are one stratum."""
    by_order: dict[int | None, list[float]] = defaultdict(list)
    for score, value in zip(entry.scores, values, strict=True):
        by_order[score.order_seed].append(value)
    if min(map(len, by_order.values())) > 1:
        return list(by_order.values())
    return [list(values)]


def _row(entry: BoardEntry, label: str, brief: str, rank: Rank | None) -> BoardRow:
    values = [score.primary for score in entry.scores]
    mean = sum(values) / len(values) if entry.complete else None
    ends = interval(_strata(entry, values)) if entry.complete and not entry.alike else None
    cells = {
        "group": Cell(rank.letters if rank else "", rank.letters if rank else None),
        "method": Cell(f"{entry.strategy} {label}".strip(), f"{entry.strategy} {label}".lower()),
        **(_adapted_cells if entry.adaptation else _learned_cells)(entry, mean, ends),
        "seeds": _seeds_cell(entry),
        "time": _time_cell(entry),
        "parameters": _count_cell([s.record.result.parameters for s in entry.scores]),
        "stored": _stored_cell([score.record for score in entry.scores]),
        "trust": Cell(*[_trust(entry)] * 2),
        "flags": Cell("; ".join(entry.flags), -len(entry.flags)),
    }
    return BoardRow(entry, label, brief, rank, mean, ends, cells)


def _trust(entry: BoardEntry) -> str:
    return "verified" if entry.verified else "self-reported"


def _rank_cell(rank: Rank | None, place: int) -> Cell:
    """Between which ranks the row stands; sorted by its place, that of its mean."""
    if rank is None:
        return Cell("–", None)
    return Cell(f"{rank.low}–{rank.high}" if rank.high > rank.low else str(rank.low), place)


def _percent(value: float | None, ends: tuple[float, float] | None = None) -> str:
    if value is None:
        return "–"
    text = f"{100 * value:.2f}"
    return f"{text} [{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]" if ends else text


def _mean_cell(values: Sequence[float | None], complete: bool = True) -> Cell:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if complete and len(known) == len(values) > 0 else None
    return Cell(_percent(mean), mean)


def _learned_cells(
    entry: BoardEntry, mean: float | None, ends: tuple[float, float] | None
) -> dict[str, Cell]:
    results = [score.record.result for score in entry.scores]
    averages = [result.average_incremental_accuracy for result in results]
    return {
        "score": Cell(_percent(mean, ends), mean),
        "average": _mean_cell(averages, entry.complete),
        "forgetting": _mean_cell([result.forgetting for result in results], entry.complete),
        "shift": _mean_cell(
            [result.adaptation and result.adaptation.mean_error for result in results],
            entry.complete,
        ),
        "neighbours": _mean_cell(
            [(result.heads or {"knn": [None]}).get("knn", [None])[-1] for result in results],
            entry.complete,
        ),
        **{
            name: _mean_cell(values, entry.complete)
            for name, values in measures_after_requests(results).items()
        },
    }


def _adapted_cells(
    entry: BoardEntry, mean: float | None, ends: tuple[float, float] | None
) -> dict[str, Cell]:
    """Errors; a mean error's interval is that of the accuracy, turned round."""
    error = None if mean is None else 1 - mean
    turned = (1 - ends[1], 1 - ends[0]) if ends else None
    facts = [score.record.result.adaptation for score in entry.scores]
    known = [fact for fact in facts if fact is not None]
    calibration = [
        sum(s.calibration_error for s in fact.segments) / len(fact.segments) for fact in known
    ]
    return {
        "score": Cell(_percent(error, turned), error),
        "pooled": _mean_cell([fact.pooled_error for fact in known], entry.complete),
        "calibration": _mean_cell(calibration, entry.complete),
    }


def _tuning_cell(entry: BoardEntry, scores: Sequence[float]) -> Cell:
    score = entry.tuning.score if entry.tuning else None
    if score is None:
        return Cell("–", None)
    rank = 1 + sum(other > score for other in scores)
    return Cell(f"{100 * score:.2f} ({rank})", score)


def _seeds_cell(entry: BoardEntry) -> Cell:
    there, wanted = len(entry.scores), len(entry.scores) + len(entry.missing)
    if entry.missing:
        return Cell(f"{there} of {wanted}", there)
    return Cell(str(there), there)


def _time_cell(entry: BoardEntry) -> Cell:
    """For evaluations all there was to do, tuning included; else of one run."""
    if entry.tuning:
        seconds = entry.tuning.seconds + entry.seconds
    else:
        seconds = entry.seconds / len(entry.scores)
    return Cell(duration(seconds), seconds)


def duration(seconds: float) -> str:
    """Format seconds for a reader."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _stored_cell(records: Sequence[Record]) -> Cell:
    """Most bytes that predictions did not depend on, of the budget where one was declared."""
    known = [record.holdings for record in records if record.holdings is not None]
    if len(known) < len(records):
        return Cell("–", None)
    most, budget = max(held.stored_bytes for held in known), known[0].budget_bytes
    of = "" if budget is None else f" of {_bytes(budget)}"
    return Cell(f"{_bytes(most)}{of}", most)


def _bytes(size: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def _count_cell(values: Sequence[int]) -> Cell:
    mean = sum(values) / len(values)
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if mean >= size:
            return Cell(f"{mean / size:.3g} {unit}", mean)
    return Cell(f"{mean:.0f}", mean)
