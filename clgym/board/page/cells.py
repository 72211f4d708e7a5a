"""Cells of the board's tables: a text to print and a value to sort by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clgym.board.page.after_requests import measures_after_requests
from clgym.board.page.references import Reference
from clgym.board.reading.entries import BoardEntry
from clgym.board.stats import Rank
from clgym.results.record import Record

__all__ = [
    "Cell",
    "adapted_cells",
    "count_cell",
    "duration",
    "learned_cells",
    "memory_cell",
    "paper_cells",
    "rank_cell",
    "seeds_cell",
    "short",
    "time_cell",
    "trust_word",
    "tuning_cell",
]


@dataclass(frozen=True)
class Cell:
    """The text of a cell and its sort value; None sorts last."""

    text: str
    value: float | str | None


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


def trust_word(entry: BoardEntry) -> str:
    """Say whether an entry's numbers were recomputed from predictions."""
    return "verified" if entry.verified else "self-reported"


def rank_cell(rank: Rank | None, place: int) -> Cell:
    """Interval of the row's rank; it is sorted by the row's place, which follows from its mean."""
    if rank is None:
        return Cell("–", None)
    return Cell(f"{rank.low}–{rank.high}" if rank.high > rank.low else str(rank.low), place)


def percent_text(value: float | None, ends: tuple[float, float] | None = None) -> str:
    if value is None:
        return "–"
    text = f"{100 * value:.2f}"
    return f"{text} [{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]" if ends else text


def mean_cell(values: Sequence[float | None], complete: bool = True) -> Cell:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if complete and len(known) == len(values) > 0 else None
    return Cell(percent_text(mean), mean)


def learned_cells(
    entry: BoardEntry, mean: float | None, ends: tuple[float, float] | None
) -> dict[str, Cell]:
    """Accuracies and forgetting of a learning stream, and measures after it."""
    results = [score.record.result for score in entry.scores]
    averages = [result.average_incremental_accuracy for result in results]
    return {
        "score": Cell(percent_text(mean, ends), mean),
        "average": mean_cell(averages, entry.complete),
        "forgetting": mean_cell([result.forgetting for result in results], entry.complete),
        "shift": mean_cell(
            [result.adaptation and result.adaptation.mean_error for result in results],
            entry.complete,
        ),
        "neighbours": mean_cell(
            [(result.heads or {"knn": [None]}).get("knn", [None])[-1] for result in results],
            entry.complete,
        ),
        **{
            name: mean_cell(values, entry.complete)
            for name, values in measures_after_requests(results).items()
        },
    }


def adapted_cells(
    entry: BoardEntry, mean: float | None, ends: tuple[float, float] | None
) -> dict[str, Cell]:
    """Errors; the interval of a mean error is one minus that of the accuracy."""
    error = None if mean is None else 1 - mean
    turned = (1 - ends[1], 1 - ends[0]) if ends else None
    facts = [score.record.result.adaptation for score in entry.scores]
    known = [fact for fact in facts if fact is not None]
    calibration = [
        sum(s.calibration_error for s in fact.segments) / len(fact.segments) for fact in known
    ]
    return {
        "score": Cell(percent_text(error, turned), error),
        "pooled": mean_cell([fact.pooled_error for fact in known], entry.complete),
        "calibration": mean_cell(calibration, entry.complete),
    }


def tuning_cell(entry: BoardEntry, scores: Sequence[float]) -> Cell:
    """Tuning score and its rank among the scores of its mode."""
    score = entry.tuning.score if entry.tuning else None
    if score is None:
        return Cell("–", None)
    rank = 1 + sum(other > score for other in scores)
    return Cell(f"{100 * score:.2f} ({rank})", score)


def seeds_cell(entry: BoardEntry) -> Cell:
    """Number of runs; if some are missing, also the number of promised runs."""
    there, wanted = len(entry.scores), len(entry.scores) + len(entry.missing)
    if entry.missing:
        return Cell(f"{there} of {wanted}", there)
    return Cell(str(there), there)


def time_cell(entry: BoardEntry) -> Cell:
    """Time of all trials and seeds for an evaluation, else of one run."""
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


def memory_cell(records: Sequence[Record]) -> Cell:
    """Most stored samples, and most bytes that prediction does not use, with their budget."""
    samples = max(record.result.stored_samples for record in records)
    known = [record.holdings for record in records if record.holdings is not None]
    if len(known) < len(records):
        return Cell(f"{samples:,}", samples)
    most, budget = max(held.stored_bytes for held in known), known[0].budget_bytes
    of = "" if budget is None else f" of {bytes_text(budget)}"
    return Cell(f"{samples:,} ({bytes_text(most)}{of})", samples)


def paper_cells(reference: Reference) -> dict[str, Cell]:
    """Paper and year of a strategy."""
    return {
        "paper": Cell(reference.name or "–", reference.name or None),
        "year": Cell(str(reference.year or "–"), reference.year),
    }


def bytes_text(size: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def count_cell(values: Sequence[int]) -> Cell:
    """Mean of some counts, in thousands, millions or billions."""
    mean = sum(values) / len(values)
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if mean >= size:
            return Cell(f"{mean / size:.3g} {unit}", mean)
    return Cell(f"{mean:.0f}", mean)
