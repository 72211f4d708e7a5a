"""The gym's side of an adaptation stream: batches go out, answers are scored as they come back.

The learner's process gets the images of one batch at a time and nothing else.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from clgym.engines import Channel, OnEvent
from clgym.errors import BadOutput
from clgym.files import canonical_json, sha256, write_atomic
from clgym.gym import environment
from clgym.gym.folder import PREDICTIONS, PROGRESS, STATE, keep, ran
from clgym.gym.images import StreamImages
from clgym.gym.plan import Plan
from clgym.gym.scores import confidence, scores
from clgym.registry import with_registered
from clgym.results.record import Record
from clgym.streams.adaptation import AdaptationStream, segment_labels

__all__ = ["AdaptationRun"]


class AdaptationRun:
    """One run over a stream of unlabelled batches; continues from `progress.json`."""

    def __init__(self, plan: Plan, channel: Channel, emit: OnEvent) -> None:
        """Nothing is asked of the learner before `play`."""
        assert isinstance(plan.stream, AdaptationStream)
        self._plan, self._out = plan, plan.out.resolve()
        self._stream: AdaptationStream = plan.stream
        self._channel, self._emit = channel, emit
        self._predicted = [np.zeros(len(s.row), np.int32) for s in self._stream.segments]
        self._confidence = [np.zeros(len(s.row), np.float32) for s in self._stream.segments]
        self._progress: dict[str, Any] = {
            "next": 0,
            "state": None,
            "answers": None,
            "sessions": 0,
            "wall_seconds": 0.0,
            "seconds": [0.0] * len(self._stream),
            "forward": 0,
            "backward": 0,
            "peak_memory_bytes": 0,
        }

    def play(self) -> Record:
        """Send every batch, in order; save now and then and at the end."""
        started = time.perf_counter()
        data_root, workers = self._plan.request.data_root, self._plan.threads
        images = StreamImages(self._stream, self._plan.sources, data_root, workers, self._emit)
        labels = self._labels()
        self._start()
        saved = time.monotonic()
        batches = self._stream.batches()
        for number in range(self._progress["next"], len(batches)):
            segment, places = batches[number]
            self._send(number, segment, places, images)
            last = number + 1 == len(batches)
            if places.stop == len(self._predicted[segment]):
                self._tell(segment, labels[segment])
            if last or time.monotonic() - saved >= 60 * self._plan.request.checkpoint_minutes:
                self._save(number + 1, started, last)
                started, saved = time.perf_counter(), time.monotonic()
        return self._finish(labels)

    def _labels(self) -> list[np.ndarray]:
        """The labels of every segment; they stay here."""
        return segment_labels(self._stream, self._plan.sources, self._plan.request.data_root)

    def _ask(self, do: str, **message: Any) -> dict[str, Any]:
        return self._channel.ask({"do": do, **message}, self._emit)

    def _start(self) -> None:
        plan, stream = self._plan, self._stream
        channels = stream.image_shape[0]
        source = plan.sources[stream.home or 0]
        reply = self._ask(
            "start",
            strategy=plan.strategy.name,
            plugins=with_registered(plan.request.plugins),
            config=plan.strategy_config,
            threads=plan.threads,
            resize=plan.scenario["config"]["resize"],
            sources=[],
            info={
                "image_shape": list(stream.image_shape),
                "setting": stream.setting,
                "device": plan.request.device,
                "seed": plan.request.seed,
                "mean": list(source.mean or (0.0,) * channels),
                "std": list(source.std or (1.0,) * channels),
                "total_columns": len(stream.class_order),
                "single_pass": True,
            },
            batch_size=stream.batch_size,
            classes=list(stream.class_order),
            fingerprint=source.fingerprint,
            data_root=plan.request.data_root and str(plan.request.data_root.resolve()),
            **self._home(),
        )
        self._device_name, self._classifier = reply["device_name"], self._model(reply)
        note = self._out / PROGRESS
        if note.is_file():
            self._resume(json.loads(note.read_text()))
        else:
            self._begin()
        self._progress.update(classifier=self._classifier)
        self._progress["sessions"] += 1

    def _model(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """Name and hash of what answers at first."""
        return reply["classifier"]

    def _begin(self) -> None:
        """Before the first batch of all; nothing is left to do once the strategy is set up."""

    def _home(self) -> dict[str, Any]:
        """Where the source's images lie, and their labels; the training rows unless all count."""
        stream = self._stream
        if stream.home is None:
            return {"home": [], "home_labels": np.zeros(0, np.int64), "home_max": 1}
        source = self._plan.sources[stream.home]
        splits = [source.train, source.test] if stream.home_part == "all" else [source.train]
        return {
            "home": [str(split.path) for split in splits],
            "home_labels": np.concatenate([split.labels for split in splits]),
            "home_max": source.max_value,
        }

    def _resume(self, progress: dict[str, Any]) -> None:
        """Go on where a session before this one saved.

        Raises:
            BadOutput: the classifier is another one now.
        """
        if progress["classifier"] != self._classifier:
            raise BadOutput(
                expected="the classifier that this run was begun with",
                found=f"{self._classifier.get('name')} with other weights",
                fix="Put the old weights back, or give another --out",
            )
        self._progress = progress
        answers = load_file(self._out / progress["answers"])
        for i in range(len(self._stream)):
            self._predicted[i][:] = answers[f"{i}/predicted"]
            self._confidence[i][:] = answers[f"{i}/confidence"]
        self._ask("load", path=str(self._out / progress["state"]))
        done = self._stream.batches()[progress["next"] - 1][0]
        self._emit({"kind": "resumed", "experience": done})

    def _send(self, number: int, segment: int, places: slice, images: StreamImages) -> None:
        """One batch: images out, logits back."""
        fresh = segment > 0 and places.start == 0 and self._stream.reset_each_segment
        reply = self._ask(
            "adapt",
            images=images.gather(segment, places),
            number=number,
            reset=fresh,
            columns=len(self._stream.class_order),
        )
        logits, progress = reply["logits"], self._progress
        self._predicted[segment][places] = logits.argmax(1)
        self._confidence[segment][places] = confidence(logits)
        progress["seconds"][segment] += reply["seconds"]
        progress["forward"] += reply["forward"]
        progress["backward"] += reply["backward"]
        total = len(self._predicted[segment])
        self._emit(
            {
                "kind": "train",
                "experience": segment,
                "step": places.stop,
                "steps": total,
                "images": places.stop,
            }
        )

    def _tell(self, segment: int, labels: np.ndarray) -> None:
        accuracy = float((self._predicted[segment] == labels).mean())
        self._emit(
            {
                "kind": "score",
                "name": self._stream.segments[segment].name,
                "experience": segment,
                "experiences": len(self._stream),
                "row": [accuracy],
                "accuracy": accuracy,
            }
        )

    def _save(self, done: int, started: float, last: bool) -> None:
        """Write the learner's state and the answers so far, then the note that refers to them."""
        progress = self._progress
        before = [progress["state"], progress["answers"]]
        state = STATE if last else f"state-{done}.safetensors"
        saved = self._ask("save", path=str(self._out / state))
        answers = f"answers-{done}.safetensors"
        write_atomic(self._out / answers, save(self._answers()))
        progress.update(
            next=done,
            state=state,
            answers=answers,
            state_bytes=saved["bytes"],
            parameters=saved["parameters"],
            own_costs=saved["own_costs"],
            peak_memory_bytes=max(progress["peak_memory_bytes"], saved["peak_memory_bytes"]),
            wall_seconds=progress["wall_seconds"] + time.perf_counter() - started,
        )
        write_atomic(self._out / PROGRESS, canonical_json(progress))
        for name in before:
            if name and name not in (state, answers):
                (self._out / name).unlink(missing_ok=True)
        self._emit({"kind": "checkpoint", "experience": self._stream.batches()[done - 1][0]})

    def _answers(self) -> dict[str, np.ndarray]:
        kept = {f"{i}/predicted": values for i, values in enumerate(self._predicted)}
        return kept | {f"{i}/confidence": values for i, values in enumerate(self._confidence)}

    def _kept(self, labels: list[np.ndarray]) -> dict[str, np.ndarray]:
        """What goes to the predictions file."""
        joined = self._answers()
        for i, segment in enumerate(self._stream.segments):
            joined[f"{i}/label"] = labels[i].astype(np.int32)
            joined[f"{i}/domain"] = segment.domain.astype(np.int32)
            joined[f"{i}/row"] = segment.row
        return joined

    def _finish(self, labels: list[np.ndarray]) -> Record:
        """Write answers and record, clear what only a resumption needs."""
        data = save(self._kept(labels))
        write_atomic(self._out / PREDICTIONS, data)
        record = Record.model_validate(
            {
                "result": self._result(labels, sha256(data)),
                "cost": self._cost(),
                "environment": environment.describe(
                    self._plan.request.device,
                    self._device_name,
                    self._plan.threads,
                    self._plan.request.engine,
                ),
            }
        )
        keep(self._out, record)
        (self._out / self._progress["answers"]).unlink(missing_ok=True)
        (self._out / PROGRESS).unlink(missing_ok=True)
        return record

    def _result(self, labels: list[np.ndarray], predictions: str) -> dict[str, Any]:
        stream, progress = self._stream, self._progress
        measured = scores(
            [s.name for s in stream.segments],
            [s.domain for s in stream.segments],
            [d.name for d in stream.domains],
            labels,
            self._predicted,
            self._confidence,
            stream.class_order,
        )
        images, accuracy = sum(map(len, labels)), 1 - measured["mean_error"]
        facts = ran(self._plan)
        config = facts["strategy"]["config"]
        named = {key.rpartition(".")[2]: value for key, value in config.items()}  # if wrapped, too
        return {
            **facts,
            "class_order": list(stream.class_order),
            "accuracy_matrix": [[accuracy]],
            "test_counts": [images],
            "accuracy_after": [accuracy],
            "task_aware_accuracy_after": [accuracy],
            "last_accuracy": accuracy,
            "average_incremental_accuracy": accuracy,
            "forgetting": None,
            "backward_transfer": None,
            "forward_transfer": None,
            "chance": [1 / len(stream.class_order)],
            "parameters": progress["parameters"],
            "stored_samples": 0,
            "predictions": {"file": PREDICTIONS, "sha256": predictions},
            "adaptation": {
                **measured,
                "model": self._classifier,
                "predict": named.get("predict", "before"),
                "batch_size": stream.batch_size,
                "reset_each_segment": stream.reset_each_segment,
                "forward_per_image": progress["forward"] / images,
                "backward_per_image": progress["backward"] / images,
            },
        }

    def _cost(self) -> dict[str, Any]:
        progress = self._progress
        images = sum(map(len, self._predicted))
        return {
            "wall_seconds": progress["wall_seconds"],
            "train_seconds": [],
            "predict_seconds": progress["seconds"],
            "images_per_second": images / max(sum(progress["seconds"]), 1e-9),
            "peak_memory_bytes": progress["peak_memory_bytes"],
            "state_bytes": progress["state_bytes"],
            "own": progress["own_costs"],
            "resumed": progress["sessions"] - 1,
        }
