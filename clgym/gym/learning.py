"""The learning phase of a run: train on each experience, then score.

It owns the labels of the test rows. The learner receives the rows of one experience at a time, and
the test rows in an order that it cannot know.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from clgym.checksums import is_undamaged
from clgym.gym.anytime import anytime_facts, exposed_pool, moments
from clgym.gym.conduct import REPEAT_BATCH, Repetition, compared, repeated_places
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.folder import LEARNER
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
from clgym.gym.session import Arrays, Kind, PhaseCost, add_numbers
from clgym.gym.withheld_order import permutation
from clgym.messages import (
    AnytimeAnswers,
    AnytimeTest,
    ClassifierIdentity,
    Predict,
    Predicted,
    RowGroup,
    Saved,
    Scored,
    SourceFiles,
    Start,
    StreamFacts,
    Train,
)
from clgym.registry import with_registered
from clgym.results.conduct import Cause
from clgym.results.layout import STATE
from clgym.results.metrics import matrix_summary
from clgym.results.series import Series
from clgym.results.stored import open_run
from clgym.scenario import Step, Stream

__all__ = ["LearningPhase"]

PREDICT_BATCH = 256
_CAUSES: tuple[Cause, ...] = get_args(Cause)


class LearningPhase:
    """Trains on each experience of a learning stream and scores all test rows seen."""

    kind: Kind = "learning"

    def __init__(
        self,
        run: ResolvedRun,
        stream: Stream,
        conversation: Conversation,
        on_event: OnEvent,
        order_key: str,
    ) -> None:
        """Ask nothing yet.

        Args:
            run: What is carried out.
            stream: The learning stream, or that part of the run's.
            conversation: Conversation with the learner.
            on_event: Called with scores.
            order_key: See `clgym.gym.withheld_order`.
        """
        self._run, self._stream, self._order_key = run, stream, order_key
        self._conversation, self._emit = conversation, on_event
        self._columns = [np.array(c) for c in stream.columns]
        self._scores: list[Scores] = []
        self._saved_arrays: list[Arrays] = []
        self._train_seconds: list[float] = []
        self._predict_seconds: list[float] = []
        self.images, self.series = 0, Series()
        self._piece: Arrays = {}
        self._trained_state: str | None = None
        self._changed: list[int] = []
        self._repetition = Repetition(0, 0, None)
        self._probed: AnytimeAnswers | None = None
        self.first_step, self.initial_state = 0, None
        if run.request.after is not None:
            self._take_over(run.request.after)

    def __len__(self) -> int:
        """Count the experiences."""
        return len(self._stream)

    def experience(self, step: int) -> int:
        """Steps are experiences."""
        return step

    def prepare(self) -> None:
        """The images are mapped by the learner."""

    def _take_over(self, folder: Path) -> None:
        """Begin with what a finished run of the first experiences measured; `run` looked at it."""
        run = open_run(folder)
        earlier, predictions = run.result, run.predictions()
        count = len(earlier.accuracy_matrix)
        rest: list[float | None] = [None] * (len(self._stream) - count)
        for i in range(count):
            names = [name for name in predictions.arrays if name.startswith(f"{i}/")]
            # All of them: single-pass streams save more than the rows at the end.
            self._saved_arrays.append(
                {name.partition("/")[2]: predictions.arrays[name] for name in names}
            )
            row = [*earlier.accuracy_matrix[i], *rest]
            aware = earlier.task_aware_accuracy_after[i]
            self._scores.append(Scores(row, earlier.accuracy_after[i], aware))
        self.first_step, self.initial_state = count, folder.resolve() / STATE

    def start_message(self) -> Start:
        """Build the strategy for this stream."""
        run = self._run
        return Start(
            strategy=run.strategy.name,
            plugins=tuple(with_registered(run.request.plugins)),
            config=run.strategy_config,
            threads=run.threads,
            resize=run.resize,
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
        """What the strategy may know beforehand; the total of classes only where it declared it."""
        run, stream, source = self._run, self._stream, self._run.sources[0]
        channels = stream.image_shape[0]
        # A stream of grey and colour sources is in colour.
        repeat = channels // len(source.mean or (0.0,) * channels)
        known = run.needs.total_classes or stream.setting == "domain-incremental"
        return StreamFacts(
            image_shape=stream.image_shape,
            setting=stream.setting,
            device=run.request.device,
            seed=run.request.seed,
            mean=tuple(source.mean or (0.0,) * channels) * repeat,
            std=tuple(source.std or (1.0,) * channels) * repeat,
            total_columns=run.total_columns if known else None,
            single_pass=stream.single_pass,
        )

    def carry_out(self, step: int) -> None:
        """Train on an experience, then predict and score."""
        self.evaluate(step, self.train(step))
        scores = self._scores[step]
        self._emit(
            Scored(
                experience=step,
                experiences=len(self._stream),
                row=scores.row,
                accuracy=scores.accuracy,
                images=int(self._piece["images"][0]),
            )
        )

    def evaluate(self, step: int, images: int) -> None:
        """Predict and score all rows seen, after training that read ``images`` images."""
        pool = pool_after(self._stream, self._run.sources, step)
        logits = self.predict(step, pool)
        if step + 1 == len(self):
            self._repetition = self._repeated(step, pool, logits)
        answers = predictions_of(self._stream, pool, logits)
        sent = self._sent_order(step, pool)
        self._piece = {
            # As the rows went out, so that the file tells no more than the learner knows.
            "predicted": answers.predicted[sent].astype(np.int32),
            "task_aware": answers.task_aware[sent].astype(np.int32),
            "seconds": np.array([self._train_seconds[-1], self._predict_seconds[-1]]),
            "images": np.array([images]),
        }
        if self._probed is not None:
            self._piece["anytime_images"] = self._probed.images
            self._piece["anytime_predicted"] = self._probed.predicted.ravel()
        self._take_in(step, pool, answers)

    def _take_in(self, index: int, pool: TestPool, answers: Predictions) -> None:
        self._scores.append(score(self._stream, index, pool, answers))
        self._saved_arrays.append(
            {
                "experience": pool.step.astype(np.int32),
                "row": pool.row.astype(np.int64),
                "label": pool.label.astype(np.int32),
                "predicted": answers.predicted.astype(np.int32),
                **self._anytime_arrays(index),
            }
        )

    def _anytime_arrays(self, index: int) -> Arrays:
        """What was answered inside the experience, and to which rows."""
        if "anytime_images" not in self._piece:
            return {}
        pool, order = self._exposed(index)
        return {
            "anytime_images": self._piece["anytime_images"],
            "anytime_predicted": self._piece["anytime_predicted"],
            "anytime_row": pool.row[order].astype(np.int64),
            "anytime_label": pool.label[order].astype(np.int32),
        }

    def _exposed(self, index: int) -> tuple[TestPool, np.ndarray]:
        """The rows that are answered inside an experience, and the order in which they go out."""
        pool = exposed_pool(self._stream, self._run.sources, index)
        return pool, permutation(self._order_key, len(pool.row), index, -1)

    def _probe(self, index: int) -> AnytimeTest | None:
        """What is asked inside an experience of a single-pass stream."""
        if not self._stream.anytime:
            return None
        pool, order = self._exposed(index)
        groups, where = self._groups(pool.step[order])
        question = Predict(
            rows=pool.row[order],
            where=where,
            groups=groups,
            task=None,
            num_seen_classes=self._stream.columns_after(index),
            batch_size=PREDICT_BATCH,
        )
        return AnytimeTest(at=moments(self._stream, index), question=question)

    def train(self, index: int) -> int:
        """Train on one experience; how many images it read, over all epochs."""
        stream, first = self._stream, 0 if self._run.needs.past_data else index
        steps = stream.steps[first : index + 1]
        labels = [
            self._columns[s.source][self._run.sources[s.source].train.labels[s.train]]
            for s in steps
        ]
        inside = self._inside(index)
        given = stream.gives_task_ids
        reply = self._conversation.train(
            Train(
                index=index,
                rows=np.concatenate([s.train for s in steps]),
                labels=np.concatenate(labels),
                groups=tuple(_group(s, "train") for s in steps),
                counts=tuple(len(s.train) for s in steps),
                classes=tuple(sorted({c for s in steps for c in s.classes})),
                num_seen_classes=stream.columns_after(index),
                task=index if given else None,
                task_columns=tuple(s.classes for s in stream.steps[: index + 1]) if given else (),
                checkpoint=inside,
                checkpoint_seconds=60 * self._run.request.checkpoint_minutes,
                # A damaged one is left out: the experience is trained again from its beginning.
                resume=inside if is_undamaged(inside, required=True) else None,
                probe=self._probe(index),
            )
        )
        self._probed = reply.probed
        if reply.logged is not None:
            add_numbers(self.series, reply.logged, index, self.images, sum(self._train_seconds))
        self._train_seconds.append(reply.seconds)
        self.images += reply.images
        self._trained_state = reply.state
        return reply.images

    def _inside(self, index: int) -> Path:
        """Where the learner saves in the middle of an experience."""
        return self._run.out.resolve() / LEARNER / f"inside-{index}.safetensors"

    def _parts(self, index: int, pool: TestPool) -> list[tuple[int | None, np.ndarray]]:
        """Places in the pool as they go out: task by task where task ids are given, else all.

        One shuffled pool tells nothing of a row's experience, neither by its order nor by what
        shares a batch.
        """
        whole = np.arange(len(pool.row))
        tasks: list[tuple[int | None, np.ndarray]] = [(None, whole)]
        if self._stream.gives_task_ids:
            tasks = [(int(j), whole[pool.step == j]) for j in np.unique(pool.step)]
        return [
            (task, places[permutation(self._order_key, len(places), index, task)])
            for task, places in tasks
        ]

    def _sent_order(self, index: int, pool: TestPool) -> np.ndarray:
        """Places in the pool, int64 [n], in the order in which the rows go out."""
        return np.concatenate([places for _, places in self._parts(index, pool)])

    def predict(self, index: int, pool: TestPool) -> np.ndarray:
        """Logits in the pool's order, float32 [n, classes seen]."""
        logits = np.empty((len(pool.row), self._stream.columns_after(index)), dtype=np.float32)
        seconds = 0.0
        for task, places in self._parts(index, pool):
            reply = self._ask(index, pool, task, places, PREDICT_BATCH)
            logits[places] = reply.logits
            seconds += reply.seconds
        self._predict_seconds.append(seconds)
        return logits

    def _ask(
        self, index: int, pool: TestPool, task: int | None, places: np.ndarray, size: int
    ) -> Predicted:
        """Have some rows of the pool predicted, in batches of ``size``."""
        groups, where = self._groups(pool.step[places])
        return self._conversation.predict(
            Predict(
                rows=pool.row[places],
                where=where,
                groups=groups,
                task=task,
                num_seen_classes=self._stream.columns_after(index),
                batch_size=size,
            )
        )

    def _repeated(self, index: int, pool: TestPool, logits: np.ndarray) -> Repetition:
        """Have some of the rows answered a second time; see `clgym.gym.conduct`."""
        chosen = repeated_places(self._order_key, len(pool.row), index)
        tasks: list[tuple[int | None, np.ndarray]] = [(None, chosen)]
        if self._stream.gives_task_ids:
            own = pool.step[chosen]
            tasks = [(int(j), chosen[own == j]) for j in np.unique(own)]

        def ask() -> np.ndarray:
            replies = [self._ask(index, pool, *part, REPEAT_BATCH) for part in tasks]
            return np.concatenate([reply.logits for reply in replies])

        first = logits[np.concatenate([places for _, places in tasks])]
        return compared(first, ask, self._run.request.device)

    def _groups(self, steps: np.ndarray) -> tuple[tuple[RowGroup, ...], np.ndarray]:
        """The distinct (source, split, transform) triples, and which of them each row needs.

        Rows with the same triple are indistinguishable: in a class-incremental stream of one
        source the learner's process gets no hint of a row's experience.
        """
        keys: dict[tuple[Any, ...], RowGroup] = {}
        number = np.zeros(len(self._stream), dtype=np.int64)
        for j, step in enumerate(self._stream.steps):
            group = _group(step, step.measured_on)
            key = (group.source, group.split, group.transform)
            keys.setdefault(key, group)
            number[j] = list(keys).index(key)
        return tuple(keys.values()), number[steps]

    def is_boundary(self, step: int) -> bool:
        """Every experience ends with a save."""
        return True

    def saved(self, step: int) -> None:
        """Drop what was saved inside the experience."""
        self._inside(step).unlink(missing_ok=True)

    def take_piece(self, saved: Saved) -> Arrays:
        """The last experience's predictions and cost, and whether they changed the learner."""
        changed = self._trained_state not in (None, saved.state)
        self._changed += [len(self._scores) - 1] if changed else []
        again = self._repetition
        cause = 0 if again.cause is None else _CAUSES.index(again.cause)
        seen = [changed, again.images, again.differing, cause]
        return {**self._piece, "seen": np.array(seen, dtype=np.int64)}

    def restore(self, piece: Arrays) -> None:
        """Score what an earlier session predicted: its scores were nowhere on disk."""
        index = len(self._scores)
        pool = pool_after(self._stream, self._run.sources, index)
        sent = self._sent_order(index, pool)
        answers = Predictions(np.empty(len(sent), np.int64), np.empty(len(sent), np.int64))
        answers.predicted[sent], answers.task_aware[sent] = piece["predicted"], piece["task_aware"]
        self._piece = piece
        self._take_in(index, pool, answers)
        self._train_seconds.append(float(piece["seconds"][0]))
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
        }

    def conduct(self) -> dict[str, object]:
        """Whether testing changed the learner, or what it answers."""
        again = self._repetition
        return {
            "changed_by_testing": self._changed,
            "answered_twice": again.images,
            "answered_differently": again.differing,
            "depends_on": again.cause,
        }

    def cost(self) -> PhaseCost:
        """Seconds of each experience; unknown for those that another run learned."""
        return PhaseCost(
            train_seconds=self._train_seconds,
            predict_seconds=self._predict_seconds,
            train_images=self.images,
            images_per_second=self.images / max(sum(self._train_seconds), 1e-9),
        )


def _group(step: Step, split: Literal["train", "test"]) -> RowGroup:
    change = step.transform and (step.transform.kind, step.transform.amount)
    return RowGroup(source=step.source, split=split, transform=change)
