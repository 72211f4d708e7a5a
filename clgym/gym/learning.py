"""The learning phase of a run: train on each experience, then score.

This phase holds the labels of the test rows. The learner receives the rows of one experience at a
time, and the test rows in an order that it cannot know.
"""

from contextlib import closing
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np

from clgym.checksums import is_undamaged
from clgym.data.words import class_words
from clgym.gym.anytime import anytime_facts
from clgym.gym.by_head import accuracies, received, series
from clgym.gym.by_head import sent as by_head_arrays
from clgym.gym.conduct import Repetition, learned_apart
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.due import Due
from clgym.gym.feature_files import FeatureFiles
from clgym.gym.folder import LEARNER
from clgym.gym.inside import TestsInside
from clgym.gym.phase import Arrays, Kind, PhaseCost, add_numbers, start_message
from clgym.gym.plan import ResolvedRun
from clgym.gym.scoring import (
    Predictions,
    Scores,
    TestPool,
    chance_levels,
    pool_after,
    predictions_of,
    score,
)
from clgym.gym.testing import Tester, TestLearners, distinct_groups, row_group
from clgym.messages import (
    ClassifierIdentity,
    Scored,
    SourceFiles,
    Start,
    StreamFacts,
    TestEnded,
    Train,
)
from clgym.results.conduct import Cause
from clgym.results.layout import STATE
from clgym.results.metrics import matrix_summary
from clgym.results.series import Series
from clgym.results.stored import open_run
from clgym.scenario import Stream

__all__ = ["LearningPhase"]

_CAUSES: tuple[Cause, ...] = get_args(Cause)


class LearningPhase:
    """Trains on each experience of a learning stream and scores all test rows seen."""

    kind: Kind = "learning"
    tester_class: ClassVar[type[Tester]] = Tester
    tester: Tester
    """Sends test rows to learners."""
    due: Due
    """Files with what is being learned."""

    def __init__(
        self,
        run: ResolvedRun,
        stream: Stream,
        conversation: Conversation,
        learners: TestLearners,
        on_event: OnEvent,
        order_key: str,
    ) -> None:
        """Prepare the phase, without a request to the learner.

        Args:
            run: The run that is carried out.
            stream: The learning stream, or the learning phase of the run's stream.
            conversation: Conversation with the learner that trains.
            learners: Starts learners for tests.
            on_event: Called with scores.
            order_key: Key of the order of test rows; see `clgym.gym.withheld_order`.
        """
        self._run, self._stream = run, stream
        self._conversation, self._learners, self._emit = conversation, learners, on_event
        self.tester = self.tester_class(run, stream, order_key, learners, self.start_message)
        self._features = FeatureFiles(run, learners, self.start_message)
        self.due = Due(run, self._features)
        self._scores: list[Scores] = []
        self._saved_arrays: list[Arrays] = []
        self._train_seconds: list[float] = []
        self._train_flops: list[float | None] = []
        self._predict_seconds: list[float] = []
        self._train_images_of_step = 0
        self.images, self.series = 0, Series()
        self._piece: Arrays = {}
        self._changed: list[int] = []
        self._repetition = Repetition(0, 0, None)
        self._inside = TestsInside(stream, run.out.resolve(), self.tester)
        self._by_head: list[dict[str, float | None] | None] = []
        self._stored_before: list[int] | None = []
        self.first_step, self.initial_state = 0, None
        if run.request.after is not None:
            self._take_over(run.request.after)

    def __len__(self) -> int:
        """Count the experiences."""
        return len(self._stream)

    def experience(self, step: int) -> int:
        """Return ``step``, since steps are experiences."""
        return step

    def prepare(self) -> None:
        """Compute frozen features that the cache lacks, if the strategy needs them.

        They are computed for the whole stream at once: all batches have the same size, and batches
        of single experiences would consist mostly of padding.
        """
        self.due.close()  # of what an interrupted process wrote
        steps = self._stream.steps
        parts = [(row_group(s, "train"), s.train) for s in steps]
        parts += [(row_group(s, s.measured_on), s.test) for s in steps]
        groups, number = distinct_groups([group for group, _ in parts])
        rows = np.concatenate([rows for _, rows in parts])
        where = np.repeat(number, [len(rows) for _, rows in parts])
        self._features.compute(groups, rows, where)

    def _take_over(self, folder: Path) -> None:
        """Take over the measurements of a checked run of the first experiences."""
        run = open_run(folder)
        earlier, predictions = run.result, run.predictions()
        count = len(earlier.accuracy_matrix)
        rest: list[float | None] = [None] * (len(self._stream) - count)
        for i in range(count):
            names = [name for name in predictions.arrays if name.startswith(f"{i}/")]
            # All arrays, since single-pass streams save more than the rows at the end.
            self._saved_arrays.append(
                {name.partition("/")[2]: predictions.arrays[name] for name in names}
            )
            row = [*earlier.accuracy_matrix[i], *rest]
            aware = earlier.task_aware_accuracy_after[i]
            self._scores.append(Scores(row, earlier.accuracy_after[i], aware))
            self._by_head.append({name: after[i] for name, after in (earlier.heads or {}).items()})
        self._stored_before = getattr(earlier, "stored_after", None)
        self.first_step, self.initial_state = count, folder.resolve() / STATE

    def start_message(self) -> Start:
        """Build the strategy for this stream."""
        run = self._run
        return start_message(
            run,
            info=self._facts(),
            sources=tuple(
                SourceFiles(
                    train=Path(s.train.path),
                    test=Path(s.test.path),
                    max_value=s.max_value,
                    fingerprint=s.fingerprint,
                )
                for s in run.sources
            ),
        )

    def _facts(self) -> StreamFacts:
        """Facts that the strategy may know in advance; totals only if it declared the need."""
        run, stream = self._run, self._stream
        mean, std = run.sources[0].statistics(stream.image_shape[0])
        known = run.needs.total_classes or stream.setting == "domain-incremental"
        experiences = len(stream) + run.later_experiences
        return StreamFacts(
            image_shape=stream.image_shape,
            setting=stream.setting,
            device=run.request.device,
            seed=run.request.seed,
            mean=mean,
            std=std,
            total_columns=run.total_columns if known else None,
            single_pass=stream.single_pass,
            total_experiences=experiences if run.needs.total_experiences else None,
        )

    def test(self, step: int, state: Path) -> TestEnded | None:
        """Request predictions for all rows seen, and score them, if a test is due."""
        ended = self._test(step, state) if self._is_tested(step) else self._leave_out()
        scores = self._scores[step]
        self._emit(
            Scored(
                experience=step,
                experiences=len(self._stream),
                row=scores.row,
                accuracy=scores.accuracy,
                images=self._train_images_of_step,
            )
        )
        return ended

    def _is_tested(self, step: int) -> bool:
        return self._run.numeric_facts.is_tested(step, len(self))

    def _leave_out(self) -> None:
        """Keep the costs of an experience that is not tested."""
        self._predict_seconds.append(0.0)
        self._piece = self._costs()
        self._take_in_nothing()

    def _test(self, step: int, state: Path) -> TestEnded:
        pool = pool_after(self._stream, self._run.sources, step)
        tested = self.tester.test(step, pool, state, repeat=step + 1 == len(self))
        self._repetition = tested.repetition or self._repetition
        self._changed += [step] if tested.ended.changed else []
        self._predict_seconds.append(tested.seconds)
        answers = predictions_of(self._stream, pool, tested.logits)
        sent = self.tester.sent_order(step, pool)
        self._piece = {
            # In the order of sending, so that the file contains no more than the learner knows.
            "predicted": answers.predicted[sent].astype(np.int32),
            "task_aware": answers.task_aware[sent].astype(np.int32),
            **self._costs(),
            **by_head_arrays(self._stream, pool, tested.by_head, sent),
            **self._inside.end(step, state),
        }
        self._take_in(step, pool, answers)
        return tested.ended

    def _costs(self) -> Arrays:
        """Costs of the last experience, for its piece."""
        flops = self._train_flops[-1]
        return {
            "seconds": np.array([self._train_seconds[-1], self._predict_seconds[-1]]),
            "flops": np.array([np.nan if flops is None else flops]),
            "images": np.array([self._train_images_of_step]),
        }

    def _take_in_nothing(self) -> None:
        self._scores.append(Scores([None] * len(self), None, None))
        self._by_head.append(None)
        self._saved_arrays.append({})

    def _take_in(self, index: int, pool: TestPool, answers: Predictions) -> None:
        self._scores.append(score(self._stream, index, pool, answers))
        by_head = received(self._piece, self.tester.sent_order(index, pool))
        self._by_head.append(accuracies(self._stream, index, pool, by_head))
        self._saved_arrays.append(
            {
                "experience": pool.step.astype(np.int32),
                "row": pool.row.astype(np.int64),
                "label": pool.label.astype(np.int32),
                "predicted": answers.predicted.astype(np.int32),
                **by_head,
                **self._inside.saved_arrays(index, self._piece),
            }
        )

    def carry_out(self, step: int) -> None:
        """Train on an experience, from its beginning or from a save inside it."""
        index, stream = step, self._stream
        first = 0 if self._run.needs.past_data else index
        steps = stream.steps[first : index + 1]
        labels = [stream.training_labels(s, self._run.sources[s.source]) for s in steps]
        groups = tuple(row_group(s, "train") for s in steps)
        rows, counts = np.concatenate([s.train for s in steps]), tuple(len(s.train) for s in steps)
        inside, given = self._checkpoint(index), stream.gives_task_ids
        # A damaged save is ignored: the experience is trained again from its beginning.
        resume = is_undamaged(inside, required=True) and self._inside.can_resume(index)
        probe = self._inside.begin(index, resume)
        tasks = stream.steps[: index + 1] if given else ()
        with closing(self.due) as due:
            message = Train(
                index=index,
                due=due.add(groups, rows, counts),
                labels=np.concatenate(labels),
                groups=groups,
                counts=counts,
                classes=tuple(sorted({c for s in steps for c in s.classes})),
                num_seen_classes=stream.columns_after(index),
                task=index if given else None,
                class_names=self._class_names(index),
                task_columns=tuple(s.classes for s in tasks),
                checkpoint=inside,
                checkpoint_seconds=60 * self._run.request.checkpoint_minutes,
                resume=inside if resume else None,
                probe=probe,
            )
            reply = self._conversation.train(
                self._as_sent(message), on_test=lambda found: self._inside.test(index, found)
            )
        if reply.logged is not None:
            add_numbers(self.series, reply.logged, index, self.images)
        self._train_seconds.append(reply.seconds)
        self._train_flops.append(reply.flops)
        self._train_images_of_step = reply.images
        self.images += reply.images

    def _as_sent(self, message: Train) -> Train:
        """Remove from a message what this kind of stream withholds."""
        return message

    def _class_names(self, index: int) -> tuple[str, ...]:
        """Names of the classes seen, if the strategy declared the need."""
        names = class_words(self._stream.class_order) if self._run.needs.class_names else None
        return () if names is None else names[: self._stream.columns_after(index)]

    def _checkpoint(self, index: int) -> Path:
        """Path at which the learner saves inside an experience."""
        return self._run.out.resolve() / LEARNER / f"inside-{index}.safetensors"

    def is_boundary(self, step: int) -> bool:
        """Every experience ends with a save."""
        return True

    def saved(self, step: int) -> None:
        """Delete the state that was saved inside the experience."""
        self._checkpoint(step).unlink(missing_ok=True)
        self._inside.clear()

    def take_piece(self) -> Arrays:
        """Predictions and cost of the last experience, and whether predicting changed the state."""
        changed, again = len(self._scores) - 1 in self._changed, self._repetition
        cause = 0 if again.cause is None else _CAUSES.index(again.cause)
        seen = [changed, again.images, again.differing, cause]
        return {**self._piece, "seen": np.array(seen, dtype=np.int64)}

    def restore(self, piece: Arrays) -> None:
        """Score the predictions of an earlier session again, since scores are not kept on disk."""
        index = len(self._scores)
        self._piece = piece
        if self._is_tested(index):
            pool = pool_after(self._stream, self._run.sources, index)
            sent = self.tester.sent_order(index, pool)
            answers = Predictions(np.empty(len(sent), np.int64), np.empty(len(sent), np.int64))
            answers.predicted[sent] = piece["predicted"]
            answers.task_aware[sent] = piece["task_aware"]
            self._take_in(index, pool, answers)
        else:
            self._take_in_nothing()
        self._train_seconds.append(float(piece["seconds"][0]))
        flops = float(piece["flops"][0]) if "flops" in piece else np.nan
        self._train_flops.append(None if np.isnan(flops) else flops)
        self._predict_seconds.append(float(piece["seconds"][1]))
        self.images += int(piece["images"][0])
        changed, images, differing, cause = map(int, piece["seen"])
        self._changed += [index] if changed else []
        self._repetition = Repetition(images, differing, _CAUSES[cause] if differing else None)

    def predictions(self) -> Arrays:
        """Predictions, labels and rows of every evaluation."""
        return {f"{i}/{key}": a[key] for i, a in enumerate(self._saved_arrays) for key in a}

    def measures(self, classifier: ClassifierIdentity | None) -> dict[str, object]:
        """The accuracies of the record."""
        matrix, after = [s.row for s in self._scores], [s.accuracy for s in self._scores]
        chance = chance_levels(self._stream)
        return {
            "scored_on": self._run.request.score_on,
            "part": self._run.request.part,
            "accuracy_matrix": matrix,
            "test_counts": [len(s.test) for s in self._stream.steps],
            "accuracy_after": after,
            "task_aware_accuracy_after": [s.task_aware for s in self._scores],
            **matrix_summary(matrix, after, chance),
            "chance": chance,
            "anytime": anytime_facts(self._stream, self._saved_arrays),
            "heads": series(self._by_head),
            "stored_after": self._stored_before,
        }

    def conduct(self) -> dict[str, object]:
        """Observations: whether testing changed the learner, and what its predictions depend on."""
        again = self._repetition
        return {
            "tested_apart": self._run.request.engine == "process",
            "learned_apart": learned_apart(self._run),
            "changed_by_testing": self._changed,
            "answered_twice": again.images,
            "answered_differently": again.differing,
            "depends_on": again.cause,
        }

    def cost(self) -> PhaseCost:
        """Seconds of each experience; unknown for experiences of the run that was continued."""
        return PhaseCost(
            train_seconds=self._train_seconds,
            predict_seconds=self._predict_seconds,
            train_images=self.images,
            images_per_second=self.images / max(sum(self._train_seconds), 1e-9),
            train_flops=self._train_flops,
        )
