"""Fits of the probes of pretraining streams, on the gym's side.

scikit-learn fits them with one thread, in 64 bits: the same features give the same answers whatever
the number of cores.
"""

# pyright: standard
# Not strict: scikit-learn has no types.

import warnings
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from clgym.streams.pretraining import Probe

__all__ = ["ProbeAnswers", "answers_of_probes"]


@dataclass(frozen=True, eq=False)
class ProbeAnswers:
    """What the probes say of some rows."""

    linear: np.ndarray
    """Logarithms of probabilities by the linear probe, float32 [n, classes]; minus infinity for a
    class without training rows."""
    votes: np.ndarray
    """Fraction of the nearest neighbours of each class, float32 [n, classes]."""
    iterations: int
    """Iterations that the linear probe's solver took."""


def answers_of_probes(
    features: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int, probe: Probe
) -> ProbeAnswers:
    """Fit both probes and ask them.

    Args:
        features: float32 [m, width], of training rows.
        labels: int64 [m], their class indices, in [0, classes).
        asked: float32 [n, width], features of the rows to be answered.
        classes: Number of classes seen.
        probe: Settings.
    """
    # Here: scikit-learn takes a second to import, and other runs do without.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    given, wanted = features.astype(np.float64), asked.astype(np.float64)
    present = np.unique(labels)
    linear = np.full((len(asked), classes), -np.inf, dtype=np.float32)
    votes = np.zeros((len(asked), classes), dtype=np.float32)
    iterations = 0
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the record says it
        nearest = KNeighborsClassifier(min(probe.neighbours, len(labels)), metric="cosine")
        votes[:, present] = nearest.fit(given, labels).predict_proba(wanted)
        if len(present) == 1:  # nothing to tell apart
            linear[:, present] = 0.0
        else:
            scale = StandardScaler().fit(given)
            regression = LogisticRegression(C=probe.strength, max_iter=probe.iterations)
            regression.fit(scale.transform(given), labels)
            linear[:, present] = regression.predict_log_proba(scale.transform(wanted))
            iterations = int(regression.n_iter_.max())
    return ProbeAnswers(linear, votes, iterations)
