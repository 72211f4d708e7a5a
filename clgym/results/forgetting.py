"""Measures of forgetting on request: how much a model still knows of rows that it was to forget.

All of them are computed from logits of one fixed set of rows, which the gym asks for before the
first request and after each request (an *audit*): all test rows of the classes learned, the
training rows that any request names, and as many training rows that no request names.

The membership attack is the threshold on the loss of Yeom et al., "Privacy Risk in Machine
Learning", CSF 2018 (arXiv 1709.01604): a row is called a member of the training set if its
cross-entropy is at most a threshold. The threshold is the one with the best balanced accuracy on
rows that no request touches: training rows against test rows of the same classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["AuditedRows", "measures_of", "probabilities"]


@dataclass(frozen=True, eq=False)
class AuditedRows:
    """Rows whose logits every audit asks for."""

    experience: np.ndarray
    """int [n], experience to which each row belongs."""
    row: np.ndarray
    """int [n], row number in its split."""
    train: np.ndarray
    """bool [n], whether the row belongs to the training split."""
    label: np.ndarray
    """int [n], class index of each row."""


def measures_of(
    rows: AuditedRows,
    requests: Sequence[Sequence[int]],
    audits: Sequence[np.ndarray],
    reference: Sequence[np.ndarray] | None = None,
) -> list[dict[str, object]]:
    """Measures of each request, in the form of the record.

    Args:
        rows: The n rows of the audits.
        requests: Class indices that each request removes.
        audits: Logits [n, classes] before the first request and after each request.
        reference: The same logits of a model that was never trained on the forgotten rows.
    """
    every = {c for classes in requests for c in classes}
    found: list[dict[str, object]] = []
    for number, classes in enumerate(requests):
        gone = sorted({c for earlier in requests[: number + 1] for c in earlier})
        parts = _Parts.of(rows, classes, gone, sorted(every))
        after = audits[number + 1]
        distance = None
        if reference is not None:
            distance = _distance(parts, after, reference[number + 1])
        found.append(
            {
                "classes": list(classes),
                "rows": int(parts.forgotten.sum()),
                "before": _audit(parts, rows.label, audits[number]),
                "after": _audit(parts, rows.label, after),
                "distance": distance,
            }
        )
    return found


@dataclass(frozen=True, eq=False)
class _Parts:
    """Sets of rows that the measures use, bool [n] each."""

    forgotten: np.ndarray
    """Training rows of the request."""
    own_test: np.ndarray
    """Test rows of the request's classes."""
    retained_test: np.ndarray
    """Test rows of the classes that remain after the request."""
    members: np.ndarray
    """Training rows that no request names."""
    others: np.ndarray
    """Test rows of classes that no request names."""

    @classmethod
    def of(
        cls, rows: AuditedRows, classes: Sequence[int], gone: Sequence[int], every: Sequence[int]
    ) -> "_Parts":
        own = np.isin(rows.label, list(classes))
        kept, never = ~np.isin(rows.label, gone), ~np.isin(rows.label, every)
        train = rows.train.astype(bool)
        return cls(own & train, own & ~train, kept & ~train, never & train, never & ~train)


def _audit(parts: _Parts, labels: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
    hits, loss = logits.argmax(1) == labels, _losses(logits, labels)
    threshold = _best_threshold(loss[parts.members], loss[parts.others])
    called = None if threshold is None else _mean(loss[parts.forgotten] <= threshold)
    return {
        "forgotten_accuracy": _mean(hits[parts.own_test]),
        "retained_accuracy": _mean(hits[parts.retained_test]),
        "called_members": called,
        "membership_auc": _auc(loss[parts.forgotten], loss[parts.own_test]),
        "attack_auc": _auc(loss[parts.members], loss[parts.others]),
    }


def _distance(parts: _Parts, logits: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """Distances of the predictions to those of a model that was never trained on the rows."""
    apart = _divergences(probabilities(logits), probabilities(reference))
    other = logits.argmax(1) != reference.argmax(1)
    return {
        "divergence_forgotten": _mean(apart[parts.forgotten]),
        "divergence_retained": _mean(apart[parts.retained_test]),
        "disagreement_forgotten": _mean(other[parts.forgotten]),
        "disagreement_retained": _mean(other[parts.retained_test]),
    }


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits [n, classes], in float64; a logit of minus infinity excludes its class."""
    return _special().softmax(logits.astype(np.float64), axis=1)


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row, float64 [n]; large but finite if the label's class is excluded."""
    every = _special().log_softmax(logits.astype(np.float64), axis=1)
    chosen = every[np.arange(len(labels)), labels]
    return np.minimum(-chosen, np.finfo(np.float32).max)


def _divergences(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of each row's distributions in bits, [n] in [0, 1]."""
    middle, apart = (p + q) / 2, _special().rel_entr
    nats = (apart(p, middle) + apart(q, middle)).sum(1) / 2
    return np.clip(nats / np.log(2), 0, 1)


def _best_threshold(members: np.ndarray, others: np.ndarray) -> float | None:
    """Largest loss at which the attack calls a row a member; None without rows of both kinds."""
    if not len(members) or not len(others):
        return None
    truth = np.r_[np.ones(len(members)), np.zeros(len(others))]
    false, true, thresholds = _sklearn_metrics().roc_curve(truth, -np.r_[members, others])
    return float(-thresholds[(true - false).argmax()])


def _auc(members: np.ndarray, others: np.ndarray) -> float | None:
    """Area under the attack's ROC curve: the chance that a member has the smaller loss."""
    if not len(members) or not len(others):
        return None
    truth = np.r_[np.ones(len(members)), np.zeros(len(others))]
    return float(_sklearn_metrics().roc_auc_score(truth, -np.r_[members, others]))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _special() -> Any:
    """SciPy's special functions, imported only here, since most runs have no request to forget."""
    from scipy import special  # pyright: ignore[reportMissingTypeStubs]  # scipy ships none

    return special


def _sklearn_metrics() -> Any:
    """The metrics of scikit-learn, imported only here for the same reason."""
    from sklearn import metrics  # pyright: ignore[reportMissingTypeStubs]

    return metrics
