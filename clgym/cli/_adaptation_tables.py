"""Tables of an adaptation stream's measurements: online errors in order of arrival."""

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clgym.results.record import AdaptationFacts, Record, SegmentFacts
from clgym.text import duration

__all__ = ["adaptation_measures", "show_segments", "show_shifted_seeds"]

_SHOWN = 30
"""Maximum number of segments in a table; with more, it shows the worst."""
_WORST = 10


def show_segments(console: Console, facts: AdaptationFacts) -> None:
    """Print one row per segment, with the mean below."""
    segments = facts.segments
    heading = "online error, of each prediction when it was made"
    if len(segments) > _SHOWN:
        heading += f"; the {_WORST} worst of {len(segments)} segments, all are in the record"
        worst = sorted(segments, key=lambda segment: -segment.error)[:_WORST]
        segments = [segment for segment in segments if segment in worst]
    console.print(heading)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("segment", overflow="fold")
    for head in ("images", "error %", "calibration %", "recovery"):
        table.add_column(head, justify="right")
    for segment in segments:
        table.add_row(*_cells(segment))
    table.add_section()
    table.add_row("mean", "", f"{100 * facts.mean_error:.2f}", "", "")
    console.print(table)
    _show_domains(console, facts)


def _cells(segment: SegmentFacts) -> list[str]:
    collapsed = " (collapsed)" if segment.collapsed else ""
    return [
        f"{segment.name}{collapsed}",
        f"{segment.images:,}",
        f"{100 * segment.error:.2f}",
        f"{100 * segment.calibration_error:.2f}",
        f"{100 * segment.recovery:+.2f}",
    ]


def _show_domains(console: Console, facts: AdaptationFacts) -> None:
    """Print the error of each domain, where one segment mixes several."""
    if len(facts.segments) == 1 < len(facts.domains):
        errors = ", ".join(f"{name} {100 * e:.1f}" for name, e in facts.domains.items())
        console.print(f"error % by domain: {errors}", highlight=False)


def adaptation_measures(facts: AdaptationFacts) -> list[tuple[str, str]]:
    """Names and values of the measures that are printed below the table."""
    passes = "not counted"
    if facts.forward_per_image is not None and facts.backward_per_image is not None:
        forward, backward = facts.forward_per_image, facts.backward_per_image
        passes = f"{forward:.2f} forward, {backward:.2f} backward per image"
    return [
        ("mean error", f"{100 * facts.mean_error:.2f} %, pooled {100 * facts.pooled_error:.2f} %"),
        ("classifier", facts.model.name),
        ("predictions", f"{facts.predict} the update, batches of {facts.batch_size}"),
        ("passes", passes),
    ]


def show_shifted_seeds(console: Console, records: Sequence[Record]) -> None:
    """Print one row per seed, then mean and standard deviation (n - 1)."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("seed", "mean error %", "pooled error %", "time"):
        table.add_column(head, justify="left" if head == "seed" else "right")
    found = []
    for record in records:
        facts = record.result.adaptation
        assert facts is not None
        found.append((100 * facts.mean_error, 100 * facts.pooled_error))
        cells = [f"{value:.2f}" for value in found[-1]]
        table.add_row(str(record.result.seed), *cells, duration(record.cost.wall_seconds))
    table.add_section()
    table.add_row("mean", *[f"{value:.2f}" for value in np.mean(found, axis=0)], "")
    table.add_row("std", *[f"{value:.2f}" for value in np.std(found, axis=0, ddof=1)], "")
    console.print(table)
