"""Choose the rows of a domain that arrive on an adaptation stream, and their order.

This module does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clgym.data.halves import in_half
from clgym.data.published import published_labels
from clgym.errors import BadStream
from clgym.streams import orders
from clgym.streams.adaptation import AdaptationConfig, AdaptationStream, Domain

if TYPE_CHECKING:
    from clgym.data.sources import Source

__all__ = ["arranged", "labels_of", "rows_by_segment", "rows_of", "segment_labels"]


def labels_of(
    domain: Domain, sources: Sequence["Source"], data_root: Path | None = None
) -> np.ndarray:
    """The label of every row of a domain, int64."""
    source = sources[domain.source]
    if domain.published is not None and domain.corruption is not None:
        return published_labels(
            data_root, domain.published, domain.corruption, domain.severity, source.classes
        )
    if domain.part == "test":
        return source.test.labels
    return np.concatenate([source.train.labels, source.test.labels])


def segment_labels(
    stream: AdaptationStream, sources: Sequence["Source"], data_root: Path | None = None
) -> list[np.ndarray]:
    """The label of every image of every segment, int64, by class number of the source."""
    by_domain = [labels_of(domain, sources, data_root) for domain in stream.domains]
    labels = []
    for segment in stream.segments:
        own = np.empty(len(segment.row), dtype=np.int64)
        for d in np.unique(segment.domain):
            here = segment.domain == d
            own[here] = by_domain[d][segment.row[here]]
        labels.append(own)
    return labels


def rows_of(
    domain: Domain, sources: Sequence["Source"], config: AdaptationConfig, seed: int, count: int
) -> np.ndarray:
    """Rows of a domain that arrive, shuffled, int64 [n].

    Args:
        domain: Domain of the rows.
        sources: Sources of the stream.
        config: Options, of which ``rows`` and ``images`` are used.
        seed: Seed of the order.
        count: Number of rows of the domain.

    Raises:
        BadStream: Half of published files is asked for, whose images cannot be split by hash.
    """
    if config.rows == "all":
        return orders.shuffled(count, seed, config.images)
    if domain.published is not None:
        raise BadStream(
            expected="all rows of published files, which do not contain the clean images",
            found=f"--rows {config.rows}",
            fix="Leave --published out, so that the corruptions are computed here",
        )
    source = sources[domain.source]
    splits = [source.test] if domain.part == "test" else [source.train, source.test]
    hashes = np.concatenate([split.hashes for split in splits])
    held = np.flatnonzero(in_half(hashes, config.rows))
    return held[orders.shuffled(len(held), seed, config.images)]


def arranged(
    rows: np.ndarray, labels: np.ndarray, config: AdaptationConfig, seed: int
) -> np.ndarray:
    """Arrange shuffled rows in the order that the options request.

    Args:
        rows: int64 [n], shuffled; they index ``labels``.
        labels: Class numbers, int64.
        config: Options, of which ``order`` and ``delta`` are used.
        seed: Seed of a Dirichlet order.
    """
    if config.order == "sorted":
        return orders.sorted_by_label(rows, labels)
    if config.order == "dirichlet":
        return orders.dirichlet(rows, labels, config.delta, seed)
    return rows


def rows_by_segment(
    rows: np.ndarray, labels: np.ndarray, config: Any, seed: int, count: int
) -> list[np.ndarray]:
    """Return the same rows for every segment, all in one order or each in its own.

    Args:
        rows: int64 [n], shuffled; they index ``labels``.
        labels: Class numbers, int64.
        config: Options, of which ``arrival``, ``order`` and ``delta`` are used.
        seed: Seed of the orders.
        count: Number of segments.
    """
    if config.arrival == "published":
        return [arranged(rows, labels, config, seed)] * count
    seeds = [orders.segment_seed(seed, number) for number in range(count)]
    return [arranged(rows[orders.shuffled(len(rows), own)], labels, config, own) for own in seeds]
