"""Logits and features of rows, computed by batch and checked; random generators are unchanged."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from clgym.data.generators import untouched_generators
from clgym.learner.numerics import NumericMode
from clgym.learner.oversight import Oversight
from clgym.learner.replies import checked_heads, checked_logits
from clgym.learner.reporting import EVENT_SECONDS, Clock
from clgym.learner.representing import features_in_batches
from clgym.learner.rows import RowImages
from clgym.messages import Event, Predict, Predicted, PredictionProgress, Represent, Represented
from clgym.models.features import FrozenFeatures
from clgym.strategy import Batch, Strategy

__all__ = ["Answers"]


@dataclass(frozen=True)
class Answers:
    """Computes predictions for test rows."""

    strategy: Strategy
    oversight: Oversight
    rows: RowImages
    features: FrozenFeatures | None
    numerics: NumericMode
    device: torch.device

    def predict(self, request: Predict, emit: Callable[[Event], None]) -> Predicted:
        """Logits of some test rows, float32 [n, classes], in the given order.

        If requested, the logits of the strategy's heads are returned, too.
        """
        started = time.perf_counter()
        size, rows = request.batch_size, request.rows
        logits = np.empty((len(rows), request.num_seen_classes), dtype=np.float32)
        by_head: dict[str, np.ndarray] = {}
        # For all rows at once, since single batches would consist mostly of padding.
        features = None
        if self.features is not None:
            features = self.features.of(request.groups, request.rows, request.where)
        clock = Clock(EVENT_SECONDS)
        with torch.no_grad(), untouched_generators(self.device), self.numerics.active():
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                known = None if features is None else features[part]
                batch = Batch(self.rows.of_test(request, part), task=request.task, features=known)
                answer = self.oversight.predict(batch)
                logits[part] = checked_logits(answer, "predict", len(batch), logits.shape[1])
                if request.by_head:
                    told = self.strategy.predict_by_head(batch)
                    for name, found in checked_heads(told, logits[part]):
                        by_head.setdefault(name, np.empty_like(logits))[part] = found
                if clock.due():
                    emit(PredictionProgress(images=start, total=len(rows)))
        return Predicted(logits=logits, seconds=time.perf_counter() - started, by_head=by_head)

    def represent(self, request: Represent, emit: Callable[[Event], None]) -> Represented:
        """Features of some rows of both splits, float32 [n, width], in the order given."""
        started, clock = time.perf_counter(), Clock(EVENT_SECONDS)
        count = len(request.rows)

        def ask(rows: slice) -> torch.Tensor:
            return self.oversight.represent(Batch(self.rows.of_test(request, rows)))

        def report(done: int) -> None:
            if clock.due():
                emit(PredictionProgress(images=done, total=count))

        with torch.no_grad(), untouched_generators(self.device), self.numerics.active():
            features = features_in_batches(count, request.batch_size, ask, report)
        return Represented(features=features, seconds=time.perf_counter() - started)
