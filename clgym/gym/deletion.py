"""The phase of a run in which classes or experiences are forgotten on request.

Its first step is the audit before any request. Each further step is one request. The learner's
process receives the rows to forget with their labels and, if the strategy declared the need, those
that remain; the audits, which also use training rows, run in separate processes that hold no label.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from clgym.gym.audited import audited_rows, train_labels
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.learning import LearningPhase
from clgym.gym.phase import Arrays, Kind, PhaseCost, add_numbers
from clgym.gym.plan import ResolvedRun
from clgym.gym.testing import distinct_groups, row_group
from clgym.gym.withheld_order import permutation
from clgym.messages import (
    ClassifierIdentity,
    ExperienceRows,
    Forget,
    RequestScored,
    RowGroup,
    Start,
    TestEnded,
)
from clgym.results.forgetting import measures_of
from clgym.results.series import Series
from clgym.results.stored import StoredRun, open_run
from clgym.streams.deletion import DeletionStream

__all__ = ["DeletionPhase"]

_PLACE = -2
"""Number of the audits' order among the orders of a run, where experiences count from 0."""


class DeletionPhase:
    """Sends one request after another, and audits the learner before the first and after each."""

    kind: Kind = "deletion"

    def __init__(
        self,
        run: ResolvedRun,
        stream: DeletionStream,
        learning: LearningPhase,
        conversation: Conversation,
        on_event: OnEvent,
        order_key: str,
    ) -> None:
        """Prepare the phase, without a request to the learner.

        Args:
            run: The run that is carried out.
            stream: Stream of the run.
            learning: The phase before this one, whose tester also carries out the audits.
            conversation: Conversation with the learner that forgets.
            on_event: Called with scores.
            order_key: See `clgym.gym.withheld_order`.
        """
        self._run, self._stream, self._learning = run, stream, learning
        self._conversation, self._emit, self._order_key = conversation, on_event, order_key
        self._labels = train_labels(run.sources)
        self._rows = audited_rows(stream, run.sources)
        self._audits: list[np.ndarray] = []
        self._seconds: list[float] = []
        self._removed: list[int] = []
        self._predict_seconds: list[float] = []
        self.images, self.series = 0, Series()
        self._piece: Arrays = {}
        self.first_step = 0
        self.initial_state: Path | None = None

    def __len__(self) -> int:
        """Count the requests, and the audit before them."""
        return 1 + len(self._stream.deletions)

    def experience(self, step: int) -> int:
        """Number of the request, counted on from the experiences."""
        return len(self._stream.learning) + max(step - 1, 0)

    def start_message(self) -> Start:
        """Message that builds the strategy in the same way as the learning phase."""
        return self._learning.start_message()

    def prepare(self) -> None:
        """Compute frozen features that are no longer in the cache if a run continues here."""
        self._learning.prepare()

    def carry_out(self, step: int) -> None:
        """Send a request, except in the first step, which is only an audit."""
        seconds, removed, images = 0.0, 0, 0
        if step:
            number = step - 1
            wanted = self._stream.deletions[number]
            with closing(self._learning.due):
                reply = self._conversation.forget(
                    Forget(
                        number=number,
                        place=self.experience(step),
                        kind=wanted.kind,
                        classes=wanted.classes,
                        num_seen_classes=self._stream.columns_after(len(self._stream)),
                        forgotten=self._forgotten(number),
                        retained=self._retained(number),
                    )
                )
            seconds, removed, images = reply.seconds, reply.removed, reply.images
            if reply.logged is not None:
                add_numbers(self.series, reply.logged, self.experience(step), self.images)
        self._piece = {
            "seconds": np.array([seconds]),
            "counts": np.array([step, removed, images], dtype=np.int64),
        }

    def _forgotten(self, number: int) -> tuple[ExperienceRows, ...]:
        """Rows of a request, by experience."""
        rows = self._stream.rows(self._labels, self._stream.deletions[number].classes)
        return tuple(self._experience([j], rows) for j in range(len(rows)) if len(rows[j]))

    def _retained(self, number: int) -> tuple[ExperienceRows, ...] | None:
        """Rows that remain after a request, by experience; None if the strategy does not need them.

        If it declared past data, too, each experience contains the rows of all earlier ones.
        """
        needs, stream = self._run.needs, self._stream
        if not needs.retained_data:
            return None
        gone = stream.forgotten(number + 1)
        kept = [c for c in range(stream.columns_after(len(stream))) if c not in gone]
        rows = stream.rows(self._labels, kept)
        left = [j for j in range(len(rows)) if len(rows[j])]
        wholes = [left[: i + 1] if needs.past_data else [j] for i, j in enumerate(left)]
        found = [self._experience(whole, rows) for whole in wholes]
        # Learning them in order ends with logits for all classes, as before.
        found[-1] = replace(found[-1], num_seen_classes=stream.columns_after(len(stream)))
        return tuple(found)

    def _experience(self, numbers: list[int], rows: list[np.ndarray]) -> ExperienceRows:
        """Join the rows of experiences to one, which has the number of the last."""
        stream, steps = self._stream, [self._stream.steps[j] for j in numbers]
        labels = [
            np.array(stream.columns[step.source])[self._labels[step.source][rows[j]]]
            for j, step in zip(numbers, steps, strict=True)
        ]
        joined = np.concatenate(labels)
        groups = tuple(row_group(step, "train") for step in steps)
        counts = tuple(len(rows[j]) for j in numbers)
        return ExperienceRows(
            index=numbers[-1],
            due=self._learning.due.add(groups, np.concatenate([rows[j] for j in numbers]), counts),
            labels=joined,
            groups=groups,
            counts=counts,
            classes=tuple(np.unique(joined).tolist()),
            num_seen_classes=stream.columns_after(numbers[-1]),
        )

    def is_boundary(self, step: int) -> bool:
        """Every request ends with a save, so that only an interrupted request is sent again."""
        return True

    def test(self, step: int, state: Path) -> TestEnded:
        """Audit: predict all rows, of both splits mixed, in an order unknown to the learner."""
        order = permutation(self._order_key, len(self._rows.row), _PLACE, step)
        groups, where = self._groups()
        rows, where = self._rows.row[order].astype(np.int64), where[order]
        reply, ended = self._learning.tester.audit(state, rows, groups, where)
        self._piece |= {
            "logits": reply.logits,
            "predict_seconds": np.array([reply.seconds]),
        }
        self._take_in(step, order)
        if step:
            self._emit_score(step)
        return ended

    def _groups(self) -> tuple[tuple[RowGroup, ...], np.ndarray]:
        """The distinct groups, and which of them each row needs."""
        steps = self._stream.steps
        tested = [row_group(step, step.measured_on) for step in steps]
        groups, number = distinct_groups([*tested, *(row_group(step, "train") for step in steps)])
        return groups, number[self._rows.train * len(steps) + self._rows.experience]

    def _take_in(self, step: int, order: np.ndarray) -> None:
        logits = np.empty_like(self._piece["logits"])
        logits[order] = self._piece["logits"]
        self._audits.append(logits)
        self._predict_seconds.append(float(self._piece["predict_seconds"][0]))
        _, removed, images = map(int, self._piece["counts"])
        self.images += images
        if step:
            self._seconds.append(float(self._piece["seconds"][0]))
            self._removed.append(removed)

    def _emit_score(self, step: int) -> None:
        requests = [deletion.classes for deletion in self._stream.deletions]
        number, tested = step - 1, ~self._rows.train.astype(bool)
        hits = self._audits[step].argmax(1) == self._rows.label
        own = tested & np.isin(self._rows.label, requests[number])
        kept = tested & ~np.isin(self._rows.label, self._stream.forgotten(step))
        self._emit(
            RequestScored(
                name=self._stream.deletions[number].name,
                number=number,
                requests=len(requests),
                forgotten_accuracy=float(hits[own].mean()) if own.any() else None,
                retained_accuracy=float(hits[kept].mean()) if kept.any() else None,
                experience=self.experience(step),
                images=int(self._piece["counts"][2]),
            )
        )

    def saved(self, step: int) -> None:
        """Do nothing: no files are kept during a request."""

    def take_piece(self) -> Arrays:
        """Logits of the audit in the order of sending, and the cost of the request."""
        return self._piece

    def restore(self, piece: Arrays) -> None:
        """Restore the audit of an earlier session."""
        self._piece, step = piece, len(self._audits)
        self._take_in(step, permutation(self._order_key, len(self._rows.row), _PLACE, step))

    def predictions(self) -> Arrays:
        """Rows and labels of the audits, and the logits of each."""
        rows = self._rows
        return {
            "audit/experience": rows.experience.astype(np.int32),
            "audit/row": rows.row.astype(np.int64),
            "audit/train": rows.train.astype(np.uint8),
            "audit/label": rows.label.astype(np.int32),
            **{f"audit/logits/{i}": logits for i, logits in enumerate(self._audits)},
        }

    def measures(self, classifier: ClassifierIdentity | None) -> dict[str, object]:
        """The deletion block of the record."""
        reference = self._reference()
        theirs = None
        if reference is not None:
            _, theirs = reference.predictions().audits(len(self._audits))
        measured = measures_of(
            self._rows, [d.classes for d in self._stream.deletions], self._audits, theirs
        )
        names = [deletion.name for deletion in self._stream.deletions]
        return {
            "deletion": {
                "retained_data": self._run.needs.retained_data,
                "requests": [
                    {"name": name, "memory_removed": removed, **facts}
                    for name, removed, facts in zip(names, self._removed, measured, strict=True)
                ],
                "reference": reference
                and {
                    "strategy": reference.result.strategy.label,
                    "seed": reference.result.seed,
                    "sha256": reference.sha256,
                },
            }
        }

    def _reference(self) -> StoredRun | None:
        """Finished run whose model was never trained on the rows; `clgym.gym.folder` checked it."""
        folder = self._run.request.reference
        return None if folder is None else open_run(folder)

    def conduct(self) -> dict[str, object]:
        """Nothing: the observations are those of the learning phase."""
        return {}

    def cost(self) -> PhaseCost:
        """Seconds of each request, and of the reference's."""
        reference = self._reference()
        theirs = [] if reference is None else reference.record.cost.forget_seconds
        return PhaseCost(
            train_seconds=[],
            predict_seconds=self._predict_seconds,
            train_images=self.images,
            images_per_second=0.0,
            forget_seconds=self._seconds,
            reference_seconds=theirs,
        )
