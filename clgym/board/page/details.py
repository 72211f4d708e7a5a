"""Details of a row: facts of one entry as plain JSON values, laid out by the page's script."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clgym.board.page.cells import duration, short
from clgym.board.page.tables import BoardRow, BoardTable
from clgym.board.reading.entries import Score
from clgym.results.record import Cost, Record
from clgym.text import operations

__all__ = ["details_of"]

_DIGITS = 4
Facts = list[list[str]]


def details_of(table: BoardTable, row: BoardRow) -> dict[str, object]:
    """Return the details of a row: lists of facts, runs, matrix and curves."""
    entry, first = row.entry, row.entry.scores[0].record
    tuning = entry.tuning
    facts = {
        "Warnings": [["", flag] for flag in (_trust_line(row), *entry.flags)],
        "Declared failures of checks": _pairs(first.result.strategy.known_failures),
        "Certificate": _pairs(tuning.certificate) if tuning else [],
        "Options": _pairs(entry.config),
        "Stream": _stream(table, first.result),
        "Backbone": _pairs(_backbone(first.result)),
        "Cost": _cost(row),
        "Environment": _pairs(first.environment.model_dump(mode="json")),
    }
    return {
        "title": row.name,
        "where": f"{table.name} · {row.mode}",
        "facts": [[name, pairs] for name, pairs in facts.items() if pairs],
        "runs": _runs(row, table.adaptation),
        **({} if table.adaptation else _curves(entry.scores)),
        **_segments(entry.scores),
    }


def _trust_line(row: BoardRow) -> str:
    if row.entry.verified:
        return "verified: recomputed from the stored predictions"
    return "self-reported: predictions of some runs are missing"


def _pairs(values: Mapping[str, object]) -> Facts:
    known = {name: value for name, value in values.items() if value not in ("", None, [], {})}
    return [[name.replace("_", " "), short(value, 400)] for name, value in known.items()]


def _stream(table: BoardTable, result: Any) -> Facts:
    sources = [[source.name, source.fingerprint] for source in result.sources]
    sizes = f"{len(result.test_counts)} experiences, {sum(result.test_counts):,} test images"
    return [
        ["", table.about],
        ["size", sizes],
        *([f"fingerprint of {name}", fingerprint] for name, fingerprint in sources),
        ["strategy's file", result.strategy.source_hash],
    ]


def _backbone(result: Any) -> dict[str, object]:
    if result.backbone is None:
        return {}
    facts = result.backbone.model_dump(mode="json")
    return {**facts, "overlap": facts["overlap"] or "none known"}


def _cost(row: BoardRow) -> Facts:
    entry = row.entry
    costs = [score.record.cost for score in entry.scores]
    facts = [["a run", duration(entry.seconds / len(costs))]]
    if entry.tuning:
        facts.append(["tuning, all trials", duration(entry.tuning.seconds)])
        facts.append(["evaluation, all seeds", duration(entry.seconds)])
    facts += [
        ["peak memory", f"{max(c.peak_memory_bytes for c in costs) / 2**20:,.0f} MiB"],
        *_work(costs),
        ["training images per run", f"{np.mean([c.train_images for c in costs]):,.0f}"],
        ["state on disk", f"{max(c.state_bytes for c in costs):,} bytes"],
    ]
    return [*facts, *_holdings(entry.scores[0].record), *_pairs(costs[0].own)]


def _work(costs: Sequence[Cost]) -> Facts:
    """Means over the runs of costs that older records lack; left out if one run lacks the cost."""
    facts: Facts = []
    added = _known([cost.added_memory_bytes for cost in costs])
    if added:
        facts.append(["peak memory above an idle learner", f"{max(added) / 2**20:,.0f} MiB"])
    if seconds := _known([cost.cpu_seconds for cost in costs]):
        facts.append(["processor time of a run's learners", duration(float(np.mean(seconds)))])
    if trained := _known([cost.total_train_flops for cost in costs]):
        facts.append(
            ["operations of training, per run", f"{operations(float(np.mean(trained)))}FLOP"]
        )
    if answered := _known([cost.predict_flops_per_image for cost in costs]):
        facts.append(
            ["operations of a prediction, per image", f"{operations(float(np.mean(answered)))}FLOP"]
        )
    if used := _known([cost.gpu_utilisation for cost in costs]):
        facts.append(["utilisation of the GPU in training", f"{100 * np.mean(used):.0f} %"])
    if all(cost.energy_joules for cost in costs):
        joules = float(np.mean([sum(cost.energy_joules.values()) for cost in costs]))
        facts.append(["energy of a run, whole devices", f"{joules / 3600:,.3g} Wh"])
    return facts


def _known(values: Sequence[float | None]) -> list[float]:
    """All values; an empty list if one of them is missing."""
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else []


def _holdings(record: Record) -> Facts:
    """State of the learner: parameters, stored samples, and everything else that it stored."""
    result, held = record.result, record.holdings
    facts = [["parameters", f"{result.parameters:,}"]]
    if held is not None:
        facts += [["trainable parameters", f"{held.trainable:,}"], ["buffers", f"{held.buffers:,}"]]
    facts.append(["samples stored", f"{result.stored_samples:,}"])
    if record.conduct is not None:
        facts.append(["samples declared", f"{record.conduct.memory_capacity:,}"])
    if held is not None:
        budget = "none" if held.budget_bytes is None else f"{held.budget_bytes:,}"
        facts += [
            ["largest number of bytes stored", f"{held.stored_bytes:,}"],
            ["budget in bytes", budget],
        ]
        facts += [[f"bytes at {place}", f"{size:,}"] for place, size in held.stored.items()]
    return facts


def _runs(row: BoardRow, adaptation: bool) -> dict[str, object]:
    """A small table with one line per run, missing runs included."""
    if adaptation:
        head = ["seed", "mean error, %", "pooled error, %", "time", "folder"]
    else:
        head = ["seed", "last, %", "average, %", "forgetting, points", "time", "folder"]
    body = [_run(score, adaptation) for score in row.entry.scores]
    for gap in row.entry.missing:
        body.append([str(gap.seed), gap.why, *[""] * (len(head) - 2)])
    return {"head": head, "body": body}


def _run(score: Score, adaptation: bool) -> list[str]:
    result, seed = score.record.result, str(score.seed)
    if score.order_seed not in (None, score.seed):
        seed += f", order {score.order_seed}"
    if adaptation and result.adaptation:
        values = [result.adaptation.mean_error, result.adaptation.pooled_error]
    else:
        values = [result.last_accuracy, result.average_incremental_accuracy, result.forgetting]
    texts = ["–" if value is None else f"{100 * value:.2f}" for value in values]
    return [seed, *texts, duration(score.record.cost.wall_seconds), score.place]


def _curves(scores: tuple[Score, ...]) -> dict[str, object]:
    """Accuracy after each experience by run, and the mean matrix; fractions, rounded.

    There is no curve if an experience was not tested.
    """
    tables = [score.record.result.accuracy_matrix for score in scores]
    known = [_known(score.record.result.accuracy_after) for score in scores]
    curves: dict[str, object] = {}
    if all(known):
        curves["after"] = [[round(v, _DIGITS) for v in run] for run in known]
    if len({len(table) for table in tables}) > 1:
        return curves
    stack = np.array([[[np.nan if v is None else v for v in row] for row in t] for t in tables])
    mean = stack.mean(axis=0).round(_DIGITS)
    matrix = [[None if np.isnan(v) else float(v) for v in row] for row in mean]
    return {**curves, "matrix": matrix}


def _segments(scores: tuple[Score, ...]) -> dict[str, object]:
    """Errors by segment, means over runs."""
    found = [score.record.result.adaptation for score in scores]
    known = [facts for facts in found if facts is not None]
    if not known:
        return {}
    names = [segment.name for segment in known[0].segments]
    if any([segment.name for segment in facts.segments] != names for facts in known):
        return {}
    errors = np.mean([[segment.error for segment in facts.segments] for facts in known], axis=0)
    return {"segments": [[n, round(float(e), _DIGITS)] for n, e in zip(names, errors, strict=True)]}
