"""Online errors of an adaptation stream, from predictions and labels; NumPy only.

The gym computes scores with this module, and so does the audit of a stored run.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

__all__ = ["calibration_error", "confidence", "largest_class", "recovery", "scores"]

_BINS = 15


class SegmentScores(TypedDict):
    """See `clgym.results.record.SegmentFacts`."""

    name: str
    images: int
    error: float
    calibration_error: float
    largest_class: float
    recovery: float


class OnlineScores(TypedDict):
    """Fields of `clgym.results.record.AdaptationFacts` that depend on the predictions."""

    segments: list[SegmentScores]
    domains: dict[str, float]
    mean_error: float
    pooled_error: float
    per_class: dict[str, float | None]


def confidence(logits: np.ndarray) -> np.ndarray:
    """Largest softmax probability of each row, float32 [n]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return (1 / np.exp(shifted).sum(axis=1)).astype(np.float32)


def calibration_error(confidences: np.ndarray, hits: np.ndarray) -> float:
    """Expected calibration error over 15 equal bins of confidence, in [0, 1].

    Naeini et al. 2015, Guo et al. 2017 (arXiv 1706.04599).
    """
    number = np.clip(np.ceil(confidences * _BINS).astype(int) - 1, 0, _BINS - 1)
    gap = np.bincount(number, weights=hits - confidences.astype(float), minlength=_BINS)
    return float(np.abs(gap).sum() / len(hits))


def largest_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Largest class's fraction of the predictions minus that of the labels, in [-1, 1]."""
    shares = [np.bincount(v, minlength=classes).max() / len(v) for v in (predicted, labels)]
    return float(shares[0] - shares[1])


def recovery(hits: np.ndarray) -> float:
    """Error over the first fifth minus error over the second half, in [-1, 1].

    This is the cost of a change before the method has adapted; about 0 without a change.
    """
    first, rest = hits[: max(1, len(hits) // 5)], hits[len(hits) // 2 :]
    return float(rest.mean() - first.mean())


def scores(
    names: Sequence[str],
    domains: Sequence[np.ndarray],
    domain_names: Mapping[int, str] | Sequence[str],
    labels: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray],
    class_names: Sequence[str],
) -> OnlineScores:
    """Compute the errors of a record's adaptation block.

    Args:
        names: Names of the segments.
        domains: Domain of each image, int64 [n], by segment.
        domain_names: Name of each domain.
        labels: Class indices, int64 [n], by segment.
        predicted: Predicted class indices, int64 [n], by segment.
        confidences: Confidences, float [n], by segment.
        class_names: Name of each class, by class index.
    """
    hits = [p == y for p, y in zip(predicted, labels, strict=True)]
    every = [np.concatenate(list(parts)) for parts in (hits, labels, domains)]
    all_hits, all_labels, all_domains = every
    segments: list[SegmentScores] = [
        {
            "name": name,
            "images": len(hit),
            "error": float(1 - hit.mean()),
            "calibration_error": calibration_error(sure, hit),
            "largest_class": largest_class(guess, label, len(class_names)),
            "recovery": recovery(hit),
        }
        for name, hit, guess, label, sure in zip(
            names, hits, predicted, labels, confidences, strict=True
        )
    ]
    by_domain = {
        domain_names[int(d)]: float(1 - all_hits[all_domains == d].mean())
        for d in np.unique(all_domains)
    }
    mixed = len(segments) == 1
    counted = list(by_domain.values()) if mixed else [s["error"] for s in segments]
    per_class = {
        name: float(1 - all_hits[all_labels == c].mean()) if (all_labels == c).any() else None
        for c, name in enumerate(class_names)
    }
    return {
        "segments": segments,
        "domains": by_domain,
        "mean_error": float(np.mean(counted)),
        "pooled_error": float(1 - all_hits.mean()),
        "per_class": per_class,
    }
