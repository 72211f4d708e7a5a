"""Probes of pretraining streams: classifiers that the gym fits on a learner's features.

scikit-learn fits them with one thread, in 64 bits: the same features give the same answers whatever
the number of cores.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from clgym.data.sources import Source
from clgym.gym.conduct import REPEAT_BATCH, Repetition, compared, repeated_places
from clgym.gym.conversation import Conversation
from clgym.gym.scoring import TestPool
from clgym.gym.testing import PREDICT_BATCH, Tester, distinct_groups, row_group
from clgym.gym.withheld_order import permutation
from clgym.messages import Represent
from clgym.streams.pretraining import PretrainingStream, Probe, probe_rows

__all__ = ["KNN", "ProbeAnswers", "ProbeTester", "answers_of_probes", "probe_pool"]

KNN = "knn"
"""Name of the nearest-neighbour probe among the heads of a record."""
_PLACE = -3
"""Place of these orders among the orders of an experience."""


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


def probe_pool(stream: PretrainingStream, sources: list[Source], index: int) -> TestPool:
    """Training rows of the probe after experience ``index``, with their labels."""
    return TestPool(*probe_rows(stream, [source.train.labels for source in sources], index))


class ProbeTester(Tester):
    """Asks for features of training and test rows in one shuffled pool, and has probes answer.

    Attributes:
        iterations: Those of the last linear probe.
        width: Length of the last feature vectors.
    """

    _stream: PretrainingStream
    iterations = 0
    width = 0

    def predict(
        self, learner: Conversation, index: int, pool: TestPool, by_head: bool = True
    ) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
        """Answers of the linear probe in the pool's order, seconds, and those of the other probe.

        See `Tester.predict`.
        """
        fitted = probe_pool(self._stream, self._run.sources, index)
        features, seconds = self._features(learner, index, fitted, pool)
        own, self._of_pool = np.split(features, [len(fitted.row)])
        columns, probe = self._stream.columns_after(index), self._stream.probe
        answers = answers_of_probes(own, fitted.label, self._of_pool, columns, probe)
        self.iterations, self.width = answers.iterations, features.shape[1]
        return answers.linear, seconds, {KNN: answers.votes}

    def answers(self, learner: Conversation, index: int, pool: TestPool) -> np.ndarray:
        """Features of the pool, float32 [n, width], in its order."""
        fitted = probe_pool(self._stream, self._run.sources, index)
        return self._features(learner, index, fitted, pool)[0][len(fitted.row) :]

    def _features(
        self, learner: Conversation, index: int, fitted: TestPool, pool: TestPool
    ) -> tuple[np.ndarray, float]:
        """Features of both pools' rows, float32 [m + n, width], and the seconds they took."""
        steps = self._stream.steps
        groups, number = distinct_groups(
            [
                *(row_group(step, "train") for step in steps),
                *(row_group(step, step.measured_on) for step in steps),
            ]
        )
        rows = np.concatenate([fitted.row, pool.row])
        where = number[np.concatenate([fitted.step, pool.step + len(steps)])]
        order = permutation(self._order_key, len(rows), index, _PLACE)
        reply = learner.represent(
            Represent(rows=rows[order], where=where[order], groups=groups, batch_size=PREDICT_BATCH)
        )
        features = np.empty_like(reply.features)
        features[order] = reply.features
        return features, reply.seconds

    def _repeated(
        self, learner: Conversation, index: int, pool: TestPool, logits: np.ndarray
    ) -> Repetition:
        """Have features of some rows given a second time; see `clgym.gym.conduct`."""
        chosen = repeated_places(self._order_key, len(pool.row), index)
        groups, where = self.groups(pool.step[chosen])
        message = Represent(
            rows=pool.row[chosen], where=where, groups=groups, batch_size=REPEAT_BATCH
        )

        def ask() -> np.ndarray:
            return learner.represent(message).features

        return compared(self._of_pool[chosen], ask, self._run.request.device)
