"""The phase of a pretraining stream: train without labels, then fit probes on features.

The learner receives neither labels nor classes. The predictions of a linear probe are scored; those
of the nearest neighbours are recorded as those of a further head.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.learning import LearningPhase
from clgym.gym.phase import Arrays, Kind
from clgym.gym.plan import ResolvedRun
from clgym.gym.probing import KNN, ProbeTester, probe_pool
from clgym.gym.scoring import TestPool
from clgym.gym.testing import TestLearners
from clgym.messages import ClassifierIdentity, TestEnded, Train
from clgym.results.metrics import accuracy_by_group
from clgym.results.result import PretrainingResult
from clgym.results.stored import open_run
from clgym.streams.pretraining import PretrainingStream

__all__ = ["PretrainingPhase"]


class PretrainingPhase(LearningPhase):
    """Trains on each experience of a pretraining stream and scores probes of its features."""

    kind: Kind = "pretraining"
    tester_class = ProbeTester
    _stream: PretrainingStream
    tester: ProbeTester  # pyright: ignore[reportIncompatibleVariableOverride]  # made from the class

    def __init__(
        self,
        run: ResolvedRun,
        stream: PretrainingStream,
        conversation: Conversation,
        learners: TestLearners,
        on_event: OnEvent,
        order_key: str,
    ) -> None:
        """Prepare the phase; see `LearningPhase`."""
        super().__init__(run, stream, conversation, learners, on_event, order_key)
        self._probed: list[np.ndarray] = []
        if run.request.after is not None:
            earlier = open_run(run.request.after).result
            assert isinstance(earlier, PretrainingResult)  # determined by the kind of stream
            pairs = zip(earlier.probe.iterations, earlier.probe.widths, strict=True)
            self._probed = [np.array(pair) for pair in pairs]

    def _as_sent(self, message: Train) -> Train:
        """Remove everything about classes from a message."""
        return replace(message, labels=None, classes=(), num_seen_classes=0)

    def test(self, step: int, state: Path) -> TestEnded | None:
        """Request features, fit the probes, and score their predictions."""
        ended = super().test(step, state)
        probed = np.array([self.tester.iterations, self.tester.width], dtype=np.int64)
        self._piece = {**self._piece, "probed": probed}
        self._probed.append(probed)
        return ended

    def restore(self, piece: Arrays) -> None:
        """Score the predictions of the probes of an earlier session."""
        super().restore(piece)
        self._probed.append(piece["probed"])

    def predictions(self) -> Arrays:
        """Predictions of the probes, and the training rows on which the last ones were fitted."""
        fitted = self._fitted(len(self) - 1)
        return {
            **super().predictions(),
            "probe/experience": fitted.step.astype(np.int32),
            "probe/row": fitted.row.astype(np.int64),
            "probe/label": fitted.label.astype(np.int32),
        }

    def measures(self, classifier: ClassifierIdentity | None) -> dict[str, object]:
        """The accuracies of the record, and its probe block."""
        arrays = super().predictions()
        knn = [
            accuracy_by_group(
                arrays[f"{i}/head/{KNN}"] == arrays[f"{i}/label"],
                arrays[f"{i}/experience"],
                len(self),
            )
            for i in range(len(self))
        ]
        probe = self._stream.probe
        return {
            **super().measures(classifier),
            "probe": {
                "rows_per_class": probe.rows,
                "strength": probe.strength,
                "max_iterations": probe.iterations,
                "neighbours": probe.neighbours,
                "rows": [len(self._fitted(i).row) for i in range(len(self))],
                "iterations": [int(iterations) for iterations, _ in self._probed],
                "widths": [int(width) for _, width in self._probed],
                "knn_matrix": knn,
            },
        }

    def _fitted(self, index: int) -> TestPool:
        """Training rows of the probes after experience ``index``."""
        return probe_pool(self._stream, self._run.sources, index)
