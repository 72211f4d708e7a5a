"""One run on a learning stream, on the gym's side: it owns labels, scoring, progress and record.

It never imports a strategy and never imports torch; the learner's side is a worker that it asks.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from clgym.engines import Channel, OnEvent
from clgym.files import canonical_json, sha256, write_atomic
from clgym.gym import environment
from clgym.gym.folder import PREDICTIONS, PROGRESS, STATE, keep, ran
from clgym.gym.plan import Plan
from clgym.gym.scoring import Pool, chance_levels, pool_after, score, summary
from clgym.registry import with_registered
from clgym.results.record import Record, read_record

__all__ = ["LearningRun"]

PREDICT_BATCH = 256


class LearningRun:
    """One run between its first and its last experience; continues from `progress.json`."""

    def __init__(self, plan: Plan, channel: Channel, emit: OnEvent) -> None:
        """Begin at the first experience; `play` looks for what an earlier process left."""
        self._plan, self._stream = plan, plan.stream
        self._out = plan.out.resolve()  # a warm worker may stand in another folder
        self._channel, self._emit = channel, emit
        self._columns = [np.array(c) for c in plan.stream.columns]
        self._progress: dict[str, Any] = {
            "next": 0,
            "state": None,
            "sessions": 0,
            "wall_seconds": 0.0,
            "images": 0,
            "peak_memory_bytes": 0,
            "train_seconds": [],
            "predict_seconds": [],
            "accuracy_matrix": [],
            "accuracy_after": [],
            "task_aware_accuracy_after": [],
        }

    def play(self) -> Record:
        """Train, score and save, experience by experience."""
        self._start()
        for index in range(self._progress["next"], len(self._stream)):
            started = time.perf_counter()
            self._train(index)
            self._score(index)
            self._save(index, started)
        return self._finish()

    def _ask(self, do: str, **message: Any) -> dict[str, Any]:
        return self._channel.ask({"do": do, **message}, self._emit)

    def _start(self) -> None:
        plan, request = self._plan, self._plan.request
        started = self._ask(
            "start",
            strategy=plan.strategy.name,
            plugins=with_registered(request.plugins),
            config=plan.strategy_config,
            threads=plan.threads,
            info=self._info(),
            resize=self._resize(),
            sources=[
                {
                    "train": str(s.train.path),
                    "test": str(s.test.path),
                    "max_value": s.max_value,
                    "fingerprint": s.fingerprint,
                }
                for s in plan.sources
            ],
        )
        note = self._out / PROGRESS
        if note.is_file():
            self._progress = json.loads(note.read_text())
            self._emit({"kind": "resumed", "experience": self._progress["next"]})
        elif request.after is not None:
            self._take_over(request.after)
            self._ask("load", path=str(request.after.resolve() / STATE))
        if self._progress["state"]:
            self._ask("load", path=str(self._out / self._progress["state"]))
        self._progress["sessions"] += 1
        self._device_name = started["device_name"]

    def _take_over(self, folder: Path) -> None:
        """Begin with what a finished run of the first experiences measured; `run` looked at it."""
        earlier = read_record(folder).result
        count = len(earlier.accuracy_matrix)
        answers = load_file(folder / PREDICTIONS)
        for i in range(count):
            kept = {k.partition("/")[2]: v for k, v in answers.items() if k.startswith(f"{i}/")}
            write_atomic(self._answers(i), save(kept))
        rest = [None] * (len(self._stream) - count)
        self._progress.update(
            next=count,
            accuracy_matrix=[[*row, *rest] for row in earlier.accuracy_matrix],
            accuracy_after=earlier.accuracy_after,
            task_aware_accuracy_after=earlier.task_aware_accuracy_after,
        )

    def _resize(self) -> int | None:
        return self._plan.scenario["config"].get("resize")

    def _info(self) -> dict[str, Any]:
        """What the strategy may know beforehand; the total of classes only where it declared it."""
        stream, source = self._stream, self._plan.sources[0]
        channels = stream.image_shape[0]
        # A stream of grey and colour sources is in colour.
        repeat = channels // len(source.mean or (0.0,) * channels)
        known = self._plan.needs["total_classes"] or stream.setting == "domain-incremental"
        return {
            "image_shape": list(stream.image_shape),
            "setting": stream.setting,
            "device": self._plan.request.device,
            "seed": self._plan.request.seed,
            "mean": list(source.mean or (0.0,) * channels) * repeat,
            "std": list(source.std or (1.0,) * channels) * repeat,
            "total_columns": self._plan.total_columns if known else None,
            "single_pass": stream.single_pass,
        }

    def _inside(self, index: int) -> Path:
        """Where the learner saves in the middle of an experience."""
        return self._out / f"inside-{index}.safetensors"

    def _train(self, index: int) -> None:
        stream, first = self._stream, 0 if self._plan.needs["past_data"] else index
        steps = stream.steps[first : index + 1]
        inside = self._inside(index)
        rows = np.concatenate([s.train for s in steps])
        labels = np.concatenate(
            [
                self._columns[s.source][self._plan.sources[s.source].train.labels[s.train]]
                for s in steps
            ]
        )
        reply = self._ask(
            "train",
            index=index,
            rows=rows,
            labels=labels,
            groups=[{**self._group(s), "count": len(s.train)} for s in steps],
            classes=sorted({c for s in steps for c in s.classes}),
            columns=stream.columns_after(index),
            task=index if stream.gives_task_ids else None,
            task_columns=[s.classes for s in stream.steps[: index + 1]]
            if stream.gives_task_ids
            else [],
            checkpoint=str(inside),
            checkpoint_seconds=60 * self._plan.request.checkpoint_minutes,
            resume=str(inside) if inside.is_file() else None,
        )
        self._progress["train_seconds"].append(reply["seconds"])
        self._progress["images"] += reply["images"]

    @staticmethod
    def _group(step: Any) -> dict[str, Any]:
        transform = step.transform and [step.transform.kind, step.transform.amount]
        return {"source": step.source, "split": step.measured_on, "transform": transform}

    def _score(self, index: int) -> None:
        pool = pool_after(self._stream, self._plan.sources, index)
        logits, seconds = self._predict(index, pool)
        scores = score(self._stream, index, pool, logits)
        self._progress["predict_seconds"].append(seconds)
        self._progress["accuracy_matrix"].append(scores.row)
        self._progress["accuracy_after"].append(scores.accuracy)
        self._progress["task_aware_accuracy_after"].append(scores.task_aware)
        kept = {
            "experience": pool.step.astype(np.int32),
            "row": pool.row.astype(np.int64),
            "label": pool.label.astype(np.int32),
            "predicted": scores.predicted.astype(np.int32),
        }
        write_atomic(self._answers(index), save(kept))
        self._emit(
            {
                "kind": "score",
                "experience": index,
                "experiences": len(self._stream),
                "row": scores.row,
                "accuracy": scores.accuracy,
            }
        )

    def _answers(self, index: int) -> Path:
        return self._out / f"answers-{index}.safetensors"

    def _predict(self, index: int, pool: Pool) -> tuple[np.ndarray, float]:
        """Logits in the pool's order.

        The rows go out in one shuffled pool, so that a batch does not tell its task; only where
        task ids are given they go out task by task.
        """
        logits = np.empty((len(pool.row), self._stream.columns_after(index)), dtype=np.float32)
        seconds = 0.0
        whole = np.arange(len(pool.row))
        given = self._stream.gives_task_ids
        parts = [(int(j), whole[pool.step == j]) for j in np.unique(pool.step)]
        for task, places in parts if given else [(None, whole)]:
            generator = np.random.default_rng([self._plan.request.seed, index, task or 0])
            places = generator.permutation(places)
            groups, where = self._where(pool.step[places])
            reply = self._ask(
                "predict",
                rows=pool.row[places],
                where=where,
                groups=groups,
                task=task,
                columns=logits.shape[1],
                batch_size=PREDICT_BATCH,
            )
            logits[places] = reply["logits"]
            seconds += reply["seconds"]
        return logits, seconds

    def _where(self, steps: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray]:
        """The distinct (source, split, transform) triples, and which of them each row needs.

        Rows that need the same are told apart by nothing: in a class-incremental stream of one
        source the learner's process gets no hint of a row's experience.
        """
        groups: list[dict[str, Any]] = []
        number = np.zeros(len(self._stream), dtype=np.int64)
        for j, step in enumerate(self._stream.steps):
            group = self._group(step)
            if group not in groups:
                groups.append(group)
            number[j] = groups.index(group)
        return groups, number[steps]

    def _save(self, index: int, started: float) -> None:
        """Write the boundary: the learner's state first, then the note that refers to it."""
        last = index == len(self._stream) - 1
        name, previous = STATE if last else f"state-{index}.safetensors", self._progress["state"]
        saved = self._ask("save", path=str(self._out / name))
        peak = max(self._progress["peak_memory_bytes"], saved["peak_memory_bytes"])
        self._progress.update(
            next=index + 1,
            state=name,
            state_bytes=saved["bytes"],
            parameters=saved["parameters"],
            stored_samples=saved["stored_samples"],
            own_costs=saved["own_costs"],
            peak_memory_bytes=peak,
            wall_seconds=self._progress["wall_seconds"] + time.perf_counter() - started,
        )
        write_atomic(self._out / PROGRESS, canonical_json(self._progress))
        self._inside(index).unlink(missing_ok=True)
        if previous:
            (self._out / previous).unlink(missing_ok=True)

    def _finish(self) -> Record:
        """Join the answers, write the record, clear what only a resumption needs."""
        answers = [load_file(self._answers(i)) for i in range(len(self._stream))]
        joined = {f"{i}/{key}": a[key] for i, a in enumerate(answers) for key in a}
        data = save(joined)
        write_atomic(self._out / PREDICTIONS, data)
        record = self._record(sha256(data))
        keep(self._out, record)
        for index in range(len(self._stream)):
            self._answers(index).unlink(missing_ok=True)
        (self._out / PROGRESS).unlink(missing_ok=True)
        return record

    def _record(self, predictions: str) -> Record:
        plan, progress, stream = self._plan, self._progress, self._stream
        matrix, after = progress["accuracy_matrix"], progress["accuracy_after"]
        chance = chance_levels(stream)
        return Record.model_validate(
            {
                "result": {
                    **ran(plan),
                    "scored_on": plan.request.score_on,
                    "part": plan.request.part,
                    "class_order": list(stream.class_order),
                    "accuracy_matrix": matrix,
                    "test_counts": [len(s.test) for s in stream.steps],
                    "accuracy_after": after,
                    "task_aware_accuracy_after": progress["task_aware_accuracy_after"],
                    **summary(matrix, after, chance),
                    "chance": chance,
                    "parameters": progress["parameters"],
                    "stored_samples": progress["stored_samples"],
                    "predictions": {"file": PREDICTIONS, "sha256": predictions},
                    "backbone": plan.backbone,
                },
                "cost": {
                    "wall_seconds": progress["wall_seconds"],
                    "train_seconds": progress["train_seconds"],
                    "predict_seconds": progress["predict_seconds"],
                    "images_per_second": progress["images"]
                    / max(sum(progress["train_seconds"]), 1e-9),
                    "peak_memory_bytes": progress["peak_memory_bytes"],
                    "train_images": progress["images"],
                    "state_bytes": progress["state_bytes"],
                    "own": progress["own_costs"],
                    "resumed": progress["sessions"] - 1,
                },
                "environment": environment.describe(
                    plan.request.device, self._device_name, plan.threads, plan.request.engine
                ),
            }
        )
