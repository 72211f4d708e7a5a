"""Tests of a learning stream, each in a separate learner that is restored from the saved state.

Anything that `predict` learned from test images is lost when its process ends. The process that
trains never receives a test row.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from clgym.gym.anytime import exposed_pool
from clgym.gym.conduct import REPEAT_BATCH, Repetition, compared, repeated_places
from clgym.gym.conversation import Conversation
from clgym.gym.feature_files import FeatureFiles, FeatureFiller
from clgym.gym.plan import ResolvedRun
from clgym.gym.scoring import TestPool
from clgym.gym.shown import Rows, shown, shown_features
from clgym.gym.withheld_order import permutation
from clgym.messages import (
    FillClassifiers,
    Load,
    Predict,
    Predicted,
    RowGroup,
    Start,
    TestEnded,
)
from clgym.scenario import Step, Stream

__all__ = ["TestLearners", "TestOutcome", "Tester", "distinct_groups", "row_group"]

PREDICT_BATCH = 256


class TestLearners(FeatureFiller, Protocol):
    """Starts the learners that tests and caches need."""

    __test__ = False  # pytest would collect a class of this name as a test

    def testing(self, state: Path) -> AbstractContextManager[Conversation]:
        """A conversation with a new learner, which may read a state and ends with the context."""
        ...

    def fill_classifiers(self, message: FillClassifiers) -> None:
        """Train a classifier that the cache lacks."""
        ...


@dataclass(frozen=True)
class TestOutcome:
    """Outcome of one test."""

    __test__ = False  # pytest would collect a class of this name as a test

    logits: np.ndarray
    """float32 [n, classes seen], in the pool's order."""
    seconds: float
    repetition: Repetition | None
    """Second prediction of some rows; None if there was none."""
    ended: TestEnded
    by_head: dict[str, np.ndarray]
    """Logits of each head, like ``logits``; empty for strategies of one head."""


class Tester:
    """Sends test rows to learners that start from a given state; has no labels."""

    def __init__(
        self,
        run: ResolvedRun,
        stream: Stream,
        order_key: str,
        learners: TestLearners,
        start: Callable[[], Start],
    ) -> None:
        """Prepare tests, without a request to a learner.

        Args:
            run: The run that is carried out.
            stream: The learning stream.
            order_key: Key of the order of test rows; see `clgym.gym.withheld_order`.
            learners: Starts a learner for each test.
            start: Returns the message that builds the strategy.
        """
        self._run, self._stream, self._order_key = run, stream, order_key
        self._learners, self._start = learners, start
        self._feature_files = FeatureFiles(run, learners, start)
        self._batch = run.request.eval_batch or PREDICT_BATCH

    @contextmanager
    def _restored(self, state: Path, rows: Rows) -> Generator[Conversation]:
        """Start a learner from a state, which may open the images of some rows and no others."""
        with shown(self._run, rows) as files, self._learners.testing(state) as conversation:
            conversation.start(replace(self._start(), sources=files))
            conversation.load(Load(path=state))
            yield conversation

    def _needed(self, index: int, pool: TestPool) -> Rows:
        """Rows whose images the test of a pool needs: those of the pool."""
        groups, where = self.groups(pool.step)
        return groups, pool.row, where

    def test(self, index: int, pool: TestPool, state: Path, repeat: bool) -> TestOutcome:
        """Request predictions for a pool.

        Args:
            index: Index of the experience that was learned last.
            pool: Rows to predict.
            state: State after training.
            repeat: Whether some of the rows are predicted again; see `clgym.gym.conduct`.
        """
        with self._restored(state, self._needed(index, pool)) as learner:
            logits, seconds, by_head = self.predict(learner, index, pool)
            again = self._repeated(learner, index, pool, logits) if repeat else None
            return TestOutcome(logits, seconds, again, learner.end_test(), by_head)

    def audit(
        self, state: Path, rows: np.ndarray, groups: tuple[RowGroup, ...], where: np.ndarray
    ) -> tuple[Predicted, TestEnded]:
        """Request logits for rows of both splits in the given order, over all the stream's classes.

        Args:
            state: State of the learner.
            rows: int64 [n], row numbers.
            groups: Groups of rows.
            where: int64 [n], index of each row's group.
        """
        with self._restored(state, (groups, rows, where)) as learner:
            reply = learner.predict(
                Predict(
                    rows=rows,
                    where=where,
                    groups=groups,
                    features=self._shown_features(groups, rows, where),
                    task=None,
                    num_seen_classes=self._stream.columns_after(len(self._stream) - 1),
                    batch_size=self._batch,
                )
            )
            return reply, learner.end_test()

    def anytime(self, index: int, state: Path) -> np.ndarray:
        """Predictions inside an experience, int32 [n], in the order of `exposed`."""
        pool, places = self.exposed(index)
        with self._restored(state, self._needed(index, pool)) as learner:
            reply = self._ask(learner, index, pool, None, places, self._batch)
        return reply.logits.argmax(1).astype(np.int32)

    def exposed(self, index: int) -> tuple[TestPool, np.ndarray]:
        """Rows that are predicted inside an experience, and the order in which they are sent."""
        pool = exposed_pool(self._stream, self._run.sources, index)
        return pool, permutation(self._order_key, len(pool.row), index, -1)

    def sent_order(self, index: int, pool: TestPool) -> np.ndarray:
        """Places in the pool, int64 [n], in the order in which the rows are sent."""
        return np.concatenate([places for _, places in self._parts(index, pool)])

    def _parts(self, index: int, pool: TestPool) -> list[tuple[int | None, np.ndarray]]:
        """Places in the pool in the order of sending: by task if task ids are given, else mixed.

        In a shuffled pool neither the order nor the batch of a row reveals its experience.
        """
        whole = np.arange(len(pool.row))
        tasks: list[tuple[int | None, np.ndarray]] = [(None, whole)]
        if self._stream.gives_task_ids:
            tasks = [(int(j), whole[pool.step == j]) for j in np.unique(pool.step)]
        return [
            (task, places[permutation(self._order_key, len(places), index, task)])
            for task, places in tasks
        ]

    def predict(
        self, learner: Conversation, index: int, pool: TestPool, by_head: bool = True
    ) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
        """Logits in the pool's order, float32 [n, classes seen], and the seconds they took.

        The third value holds the logits of each head, for strategies with several heads, if
        ``by_head`` is set.
        """
        logits = np.empty((len(pool.row), self._stream.columns_after(index)), dtype=np.float32)
        heads: dict[str, np.ndarray] = {}
        seconds = 0.0
        for task, places in self._parts(index, pool):
            reply = self._ask(learner, index, pool, task, places, self._batch, by_head)
            logits[places] = reply.logits
            for name, told in reply.by_head.items():
                heads.setdefault(name, np.empty_like(logits))[places] = told
            seconds += reply.seconds
        return logits, seconds, heads

    def answers(self, learner: Conversation, index: int, pool: TestPool) -> np.ndarray:
        """Direct output of the strategy for a pool, in the pool's order: here, logits."""
        return self.predict(learner, index, pool, by_head=False)[0]

    def _repeated(
        self, learner: Conversation, index: int, pool: TestPool, logits: np.ndarray
    ) -> Repetition:
        """Request predictions of some rows a second time; see `clgym.gym.conduct`."""
        chosen = repeated_places(self._order_key, len(pool.row), index)
        tasks: list[tuple[int | None, np.ndarray]] = [(None, chosen)]
        if self._stream.gives_task_ids:
            own = pool.step[chosen]
            tasks = [(int(j), chosen[own == j]) for j in np.unique(own)]

        def ask() -> np.ndarray:
            replies = [self._ask(learner, index, pool, *part, REPEAT_BATCH) for part in tasks]
            return np.concatenate([reply.logits for reply in replies])

        first = logits[np.concatenate([places for _, places in tasks])]
        return compared(first, ask, self._run.request.device)

    def _ask(
        self,
        learner: Conversation,
        index: int,
        pool: TestPool,
        task: int | None,
        places: np.ndarray,
        size: int,
        by_head: bool = False,
    ) -> Predicted:
        """Request predictions for some rows of the pool, in batches of ``size``."""
        groups, where = self.groups(pool.step[places])
        rows = pool.row[places]
        return learner.predict(
            Predict(
                rows=rows,
                where=where,
                groups=groups,
                features=self._shown_features(groups, rows, where),
                task=task,
                num_seen_classes=self._stream.columns_after(index),
                batch_size=size,
                by_head=by_head,
            )
        )

    def _shown_features(
        self, groups: tuple[RowGroup, ...], rows: np.ndarray, where: np.ndarray
    ) -> Path | None:
        """File of the features of some rows, which is deleted with those of the images."""
        return self._feature_files.compute(groups, rows, where, shown_features(self._run))

    def groups(self, steps: np.ndarray) -> tuple[tuple[RowGroup, ...], np.ndarray]:
        """The distinct groups of the experiences' test rows, and the index of each row's group."""
        groups, number = distinct_groups([row_group(s, s.measured_on) for s in self._stream.steps])
        return groups, number[steps]


def distinct_groups(groups: Sequence[RowGroup]) -> tuple[tuple[RowGroup, ...], np.ndarray]:
    """Return the distinct groups, and the index of each given group among them, int64 [n].

    Rows of one group cannot be distinguished: in a class-incremental stream of one source the
    learner's process gets no hint about a row's experience.
    """
    keys = [(group.source, group.split, group.transform) for group in groups]
    found = dict(zip(keys, groups, strict=True))
    places = {key: place for place, key in enumerate(found)}
    return tuple(found.values()), np.array([places[key] for key in keys], dtype=np.int64)


def row_group(step: Step, split: Literal["train", "test"]) -> RowGroup:
    """The group of an experience's rows in one split."""
    change = step.transform and step.transform.message
    return RowGroup(source=step.source, split=split, transform=change)
