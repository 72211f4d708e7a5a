"""Tests of pretraining streams: the learner returns features, and the gym's probes predict."""

import numpy as np

from clgym.data.sources import Source
from clgym.gym.conduct import REPEAT_BATCH, Repetition, compared, repeated_places
from clgym.gym.conversation import Conversation
from clgym.gym.probe_fits import answers_of_probes
from clgym.gym.scoring import TestPool
from clgym.gym.shown import Rows
from clgym.gym.testing import Tester, distinct_groups, row_group
from clgym.gym.withheld_order import permutation
from clgym.messages import Represent
from clgym.streams.pretraining import PretrainingStream, probe_rows

__all__ = ["KNN", "ProbeTester", "probe_pool"]

KNN = "knn"
"""Name of the nearest-neighbour probe among the heads of a record."""
_PLACE = -3
"""Number of these orders among the orders of an experience."""


def probe_pool(stream: PretrainingStream, sources: list[Source], index: int) -> TestPool:
    """Training rows of the probe after experience ``index``, with their labels."""
    return TestPool(*probe_rows(stream, [source.train.labels for source in sources], index))


class ProbeTester(Tester):
    """Requests features of training and test rows in one shuffled pool, and predicts by probes.

    Attributes:
        iterations: Number of iterations of the last linear probe.
        width: Length of the last feature vectors.
    """

    _stream: PretrainingStream
    iterations = 0
    width = 0

    def predict(
        self, learner: Conversation, index: int, pool: TestPool, by_head: bool = True
    ) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
        """Predictions of the linear probe in the pool's order, seconds, those of the other probe.

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
        groups, rows, where = self._both(fitted, pool)
        order = permutation(self._order_key, len(rows), index, _PLACE)
        reply = learner.represent(
            Represent(rows=rows[order], where=where[order], groups=groups, batch_size=self._batch)
        )
        features = np.empty_like(reply.features)
        features[order] = reply.features
        return features, reply.seconds

    def _needed(self, index: int, pool: TestPool) -> Rows:
        """Rows whose images the test of a pool needs: with those that the probes are fitted on."""
        return self._both(probe_pool(self._stream, self._run.sources, index), pool)

    def _both(self, fitted: TestPool, pool: TestPool) -> Rows:
        """Rows of both pools, one after the other."""
        steps = self._stream.steps
        groups, number = distinct_groups(
            [
                *(row_group(step, "train") for step in steps),
                *(row_group(step, step.measured_on) for step in steps),
            ]
        )
        where = number[np.concatenate([fitted.step, pool.step + len(steps)])]
        return groups, np.concatenate([fitted.row, pool.row]), where

    def _repeated(
        self, learner: Conversation, index: int, pool: TestPool, logits: np.ndarray
    ) -> Repetition:
        """Request features of some rows a second time; see `clgym.gym.conduct`."""
        chosen = repeated_places(self._order_key, len(pool.row), index)
        groups, where = self.groups(pool.step[chosen])
        message = Represent(
            rows=pool.row[chosen], where=where, groups=groups, batch_size=REPEAT_BATCH
        )

        def ask() -> np.ndarray:
            return learner.represent(message).features

        return compared(self._of_pool[chosen], ask, self._run.request.device)
