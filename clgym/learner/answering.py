"""Logits and features of rows, computed by batch and checked; random generators are unchanged."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch

from clgym.data.generators import untouched_generators
from clgym.learner.late_answers import LateAnswers
from clgym.learner.numerics import NumericMode
from clgym.learner.oversight import Oversight
from clgym.learner.replies import check_order, checked_heads, hook_of_head, shaped_logits
from clgym.learner.reporting import EVENT_SECONDS, Clock
from clgym.learner.representing import batches_of, features_in_batches
from clgym.learner.rows import RowImages, stored_features
from clgym.messages import Event, Predict, Predicted, PredictionProgress, Represent, Represented
from clgym.strategy import Batch, Strategy

__all__ = ["Answers"]


@dataclass(frozen=True)
class Answers:
    """Computes predictions for test rows."""

    strategy: Strategy
    oversight: Oversight
    rows: RowImages
    numerics: NumericMode
    device: torch.device

    def predict(self, request: Predict, emit: Callable[[Event], None]) -> Predicted:
        """Logits of some test rows, float32 [n, classes], in the given order.

        If requested, the logits of the strategy's heads are returned, too.
        """
        started = time.perf_counter()
        rows = request.rows
        logits = LateAnswers(len(rows), request.num_seen_classes, partial(check_order, "predict"))
        by_head: dict[str, LateAnswers] = {}
        features = stored_features(request.features, self.device)
        clock = Clock(EVENT_SECONDS)
        parts = batches_of(len(rows), request.batch_size)
        with (
            torch.no_grad(),
            untouched_generators(self.device),
            self.numerics.active(),
            closing(self.rows.of_test(request, parts)) as gathered,
        ):
            for part, images in zip(parts, gathered, strict=True):
                known = None if features is None else features[part]
                batch = Batch(images, request.task, known, finite=True)
                shape = (len(batch), request.num_seen_classes)
                answer = self.oversight.predict(batch)
                logits.put(part, shaped_logits(answer, "predict", *shape))
                if request.by_head:
                    told = self.strategy.predict_by_head(batch)
                    for name, found in checked_heads(told, *shape):
                        if name not in by_head:
                            check = partial(check_order, hook_of_head(name))
                            by_head[name] = LateAnswers(len(rows), shape[1], check)
                        by_head[name].put(part, found)
                if clock.due():
                    logits.read()  # what is reported is done
                    emit(PredictionProgress(images=part.start, total=len(rows)))
        return Predicted(
            logits=logits.read(),
            seconds=time.perf_counter() - started,
            by_head={name: answers.read() for name, answers in by_head.items()},
        )

    def represent(self, request: Represent, emit: Callable[[Event], None]) -> Represented:
        """Features of some rows of both splits, float32 [n, width], in the order given."""
        started, clock = time.perf_counter(), Clock(EVENT_SECONDS)
        count = len(request.rows)
        parts = batches_of(count, request.batch_size)

        def report(done: int) -> None:
            if clock.due():
                emit(PredictionProgress(images=done, total=count))

        with (
            torch.no_grad(),
            untouched_generators(self.device),
            self.numerics.active(),
            closing(self.rows.of_test(request, parts)) as images,
        ):
            asked = (self.oversight.represent(Batch(some, finite=True)) for some in images)
            features = features_in_batches(parts, asked, report)
        return Represented(features=features, seconds=time.perf_counter() - started)
