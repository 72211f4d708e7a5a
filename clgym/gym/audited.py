"""Rows of the audits of forgetting, with their labels, which only the gym holds."""

from collections.abc import Sequence

import numpy as np

from clgym.data.sources import Source
from clgym.gym.scoring import pool_after
from clgym.results.forgetting import AuditedRows
from clgym.streams.deletion import DeletionStream

__all__ = ["audited_rows", "train_labels"]


def train_labels(sources: Sequence[Source]) -> list[np.ndarray]:
    """Labels of the training split of each source."""
    return [source.train.labels for source in sources]


def audited_rows(stream: DeletionStream, sources: Sequence[Source]) -> AuditedRows:
    """All test rows, the training rows to forget, and some other training rows.

    The latter are evenly spaced, and as many as there are test rows of the same classes.
    """
    labels, every = train_labels(sources), stream.forgotten(len(stream.deletions))
    kept = [c for c in range(stream.columns_after(len(stream))) if c not in every]
    pool = pool_after(stream.learning, sources, len(stream.learning) - 1)
    never = _joined(stream, labels, stream.rows(labels, kept))
    wanted = min(int(np.isin(pool.label, kept).sum()), len(never.row))
    chosen = np.unique(np.linspace(0, max(len(never.row) - 1, 0), wanted).astype(np.int64))
    tested = AuditedRows(pool.step, pool.row, np.zeros(len(pool.row), bool), pool.label)
    gone = _joined(stream, labels, stream.rows(labels, every))
    parts = [tested, gone, AuditedRows(*(values[chosen] for values in vars(never).values()))]
    names = ("experience", "row", "train", "label")
    return AuditedRows(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def _joined(
    stream: DeletionStream, labels: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> AuditedRows:
    """Join training rows, which are given by experience."""
    sources = [step.source for step in stream.steps]
    columns = [
        np.array(stream.columns[source])[labels[source][own]]
        for source, own in zip(sources, rows, strict=True)
    ]
    row = np.concatenate(rows)
    experience = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    return AuditedRows(experience, row, np.ones(len(row), bool), np.concatenate(columns))
