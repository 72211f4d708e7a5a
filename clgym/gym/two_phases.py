"""The gym's side of a stream of two phases: a learning run, whose learner goes on to the shift.

The learning phase is an ordinary run in a folder of its own inside the output folder, so that it is
interrupted and continued like any other; its measurements move into the joint record at the end.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from clgym.engines import Channel, OnEvent
from clgym.files import sha256, writing
from clgym.gym.adaptation import AdaptationRun
from clgym.gym.folder import PREDICTIONS, RECORD, STATE, ran
from clgym.gym.learning import LearningRun
from clgym.gym.plan import Plan
from clgym.results.record import Record, read_record
from clgym.streams.two_phases import TwoPhases

__all__ = ["TwoPhaseRun"]

_MEASURED = (
    "accuracy_matrix",
    "test_counts",
    "accuracy_after",
    "task_aware_accuracy_after",
    "last_accuracy",
    "average_incremental_accuracy",
    "forgetting",
    "backward_transfer",
    "forward_transfer",
    "chance",
    "stored_samples",
)
"""What the joint record takes from the learning phase."""


class TwoPhaseRun(AdaptationRun):
    """Learns, then adapts; continues in whichever phase was interrupted."""

    def __init__(self, plan: Plan, channel: Channel, emit: OnEvent) -> None:
        """Cut the plan in two: each phase is a run that knows nothing of the other."""
        stream: Any = plan.stream
        assert isinstance(stream, TwoPhases)
        self._whole, self._phases = plan, stream
        self._folder = plan.out.resolve() / "learning"
        request = replace(plan.request, out=self._folder)
        learning = replace(plan, stream=stream.learning, request=request)
        self._learning = LearningRun(learning, channel, self._counted(emit, 0))
        shift: Any = stream.shift
        request = replace(plan.request, out=plan.out)
        shifting = replace(plan, stream=shift, request=request)
        super().__init__(shifting, channel, self._counted(emit, len(stream.learning)))

    def _counted(self, emit: OnEvent, first: int) -> OnEvent:
        """Number a phase's experiences from ``first``, among all."""
        total = len(self._phases)

        def counted(event: dict[str, Any]) -> None:
            if "experience" in event:
                event = {**event, "experience": event["experience"] + first}
            if "experiences" in event:
                event = {**event, "experiences": total}
            emit(event)

        return counted

    def play(self) -> Record:
        """Learn, unless an earlier session did; then send the batches of the shift."""
        if not (self._folder / RECORD).is_file():
            with writing(self._folder):
                self._folder.mkdir(exist_ok=True)
            self._learning.play()
        self._learned = read_record(self._folder)
        record = super().play()
        shutil.rmtree(self._folder)
        return record

    def _model(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": "learned", "sha256": sha256((self._folder / STATE).read_bytes())}

    def _begin(self) -> None:
        self._ask("load", path=str(self._folder / STATE))

    def _labels(self) -> list[np.ndarray]:
        """Labels as columns, which are numbered by the classes' arrival."""
        columns = np.array(self._phases.columns[0])
        return [columns[labels] for labels in super()._labels()]

    def _kept(self, labels: list[np.ndarray]) -> dict[str, np.ndarray]:
        """The answers of both phases."""
        shifted = super()._kept(labels)
        learned = load_file(self._folder / PREDICTIONS)
        return learned | {f"shift/{name}": values for name, values in shifted.items()}

    def _result(self, labels: list[np.ndarray], predictions: str) -> dict[str, Any]:
        facts, learned = ran(self._whole), self._learned.result.model_dump()
        shifted = super()._result(labels, predictions)
        # The gym counts the passes of a classifier that it gave; this one was learned.
        uncounted = {"forward_per_image": None, "backward_per_image": None}
        return {
            **shifted,
            **facts,
            **{name: learned[name] for name in _MEASURED},
            "backbone": self._whole.backbone,
            "adaptation": {**shifted["adaptation"], **uncounted},
        }

    def _cost(self) -> dict[str, Any]:
        learned, shifted = self._learned.cost, super()._cost()
        return {
            **shifted,
            "wall_seconds": learned.wall_seconds + shifted["wall_seconds"],
            "train_seconds": learned.train_seconds,
            "predict_seconds": learned.predict_seconds + shifted["predict_seconds"],
            "images_per_second": learned.images_per_second,
            "train_images": learned.train_images,
            "peak_memory_bytes": max(learned.peak_memory_bytes, shifted["peak_memory_bytes"]),
            "resumed": learned.resumed + shifted["resumed"],
        }
