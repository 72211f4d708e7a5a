"""Fits of the probes of pretraining streams, on the gym's side.

scikit-learn fits them with one thread in 64 bits, so that the same features give the same
predictions for any number of cores.
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
    """Predictions of the probes for some rows."""

    linear: np.ndarray
    """Logarithms of probabilities by the linear probe, float32 [n, classes]; minus infinity for a
    class without training rows."""
    votes: np.ndarray
    """Fraction of the nearest neighbours of each class, float32 [n, classes]."""
    iterations: int
    """Number of iterations of the linear probe's solver."""


def answers_of_probes(
    features: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int, probe: Probe
) -> ProbeAnswers:
    """Fit both probes, and predict by them.

    Args:
        features: Features of training rows, float32 [m, width].
        labels: Class indices of these rows, int64 [m], in [0, classes).
        asked: Features of the rows to predict, float32 [n, width].
        classes: Number of classes seen.
        probe: Hyper-parameters of the probes.
    """
    # Imported here, since scikit-learn takes a second to import, and other runs do not need it.
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
        # the record states whether the solver converged
        warnings.simplefilter("ignore", ConvergenceWarning)
        nearest = KNeighborsClassifier(min(probe.neighbours, len(labels)), metric="cosine")
        votes[:, present] = nearest.fit(given, labels).predict_proba(wanted)
        if len(present) == 1:  # with one class there is nothing to fit
            linear[:, present] = 0.0
        else:
            scale = StandardScaler().fit(given)
            regression = LogisticRegression(C=probe.strength, max_iter=probe.iterations)
            regression.fit(scale.transform(given), labels)
            linear[:, present] = regression.predict_log_proba(scale.transform(wanted))
            iterations = int(regression.n_iter_.max())
    return ProbeAnswers(linear, votes, iterations)
