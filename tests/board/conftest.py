"""Leaderboards folders made by hand: records from counts of right answers, and one real study."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from clgym.files import sha256

Hits = Sequence[Sequence[int | None]]
STRATEGY = b'"""A toy."""\n'


def record_of(hits: Hits, counts: Sequence[int], **facts: Any) -> dict[str, Any]:
    """A class-incremental record; every number from its formula, none from the package."""
    matrix = [
        [None if h is None else h / n for h, n in zip(row, counts, strict=True)] for row in hits
    ]
    after = [
        sum(row[j] or 0 for j in range(i + 1)) / sum(counts[: i + 1]) for i, row in enumerate(hits)
    ]
    last = len(matrix) - 1
    best = [max(matrix[i][j] or 0.0 for i in range(j, last)) for j in range(last)]
    drops = [best[j] - (matrix[last][j] or 0.0) for j in range(last)]
    backward = [(matrix[last][j] or 0.0) - (matrix[j][j] or 0.0) for j in range(last)]
    result = {
        "strategy": {
            "name": facts.get("strategy", "toy"),
            "source_hash": facts.get("source_hash", sha256(STRATEGY)),
            "config": facts.get("config", {"lr": 0.1}),
            "known_failures": facts.get("known_failures", {}),
        },
        "scenario": {
            "name": facts.get("scenario", "split-toy"),
            "setting": "class-incremental",
            "config": {"source": "toys", "order_seed": None},
            "digest": sha256(str(facts.get("order_seed")).encode()),
        },
        "sources": [
            {
                "name": facts.get("source", "toys"),
                "fingerprint": "f" * 64,
                "flags": facts.get("source_flags", []),
            }
        ],
        "seed": facts.get("seed", 0),
        "order_seed": facts.get("order_seed"),
        "class_order": [f"toys/{c}" for c in range(2 * len(counts))],
        "accuracy_matrix": matrix,
        "test_counts": list(counts),
        "accuracy_after": after,
        "task_aware_accuracy_after": after,
        "last_accuracy": after[-1],
        "average_incremental_accuracy": sum(after) / len(after),
        "forgetting": sum(drops) / last if last else None,
        "backward_transfer": sum(backward) / last if last else None,
        "forward_transfer": None,
        "chance": [0.25] * len(counts),
        "parameters": facts.get("parameters", 1234),
        "stored_samples": 0,
        "predictions": {"file": "predictions.safetensors", "sha256": "0" * 64},
        "backbone": facts.get("backbone"),
    }
    cost = {
        "wall_seconds": facts.get("seconds", 2.0),
        "train_seconds": [1.0] * len(counts),
        "predict_seconds": [0.1] * len(counts),
        "images_per_second": 100.0,
        "peak_memory_bytes": 2**20,
        "train_images": 200,
        "state_bytes": 10,
        "resumed": 0,
    }
    environment = {
        "clgym": "0.1.0",
        "python": "3.11",
        "packages": {},
        "platform": "Linux",
        "machine": "x86_64",
        "device": "cpu",
        "threads": 1,
        "engine": facts.get("engine", "process"),
    }
    return {"result": result, "cost": cost, "environment": environment}


def answers_of(hits: Hits, counts: Sequence[int], seed: int) -> bytes:
    """Predictions with that many right answers, no two seeds on the same rows."""
    found: dict[str, np.ndarray] = {}
    for i, row in enumerate(hits):
        measured = [(j, h) for j, h in enumerate(row) if h is not None]
        step = np.concatenate([np.full(counts[j], j) for j, _ in measured]).astype(np.int32)
        wrong = np.concatenate([np.arange(counts[j]) >= h for j, h in measured])
        found |= {
            f"{i}/experience": step,
            f"{i}/row": seed + np.arange(len(step)),
            f"{i}/label": step,
            f"{i}/predicted": (step + wrong).astype(np.int32),
        }
    return save(found)


def _write_run(
    folder: Path,
    hits: Hits = ((9, None), (7, 8)),
    counts: Sequence[int] = (10, 10),
    predictions: bool = True,
    **facts: Any,
) -> Path:
    """Write a run's folder as `clgym run` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    record = record_of(hits, counts, **facts)
    answers = answers_of(hits, counts, facts.get("seed", 0))
    record["result"]["predictions"]["sha256"] = sha256(answers)
    if predictions:
        (folder / "predictions.safetensors").write_bytes(answers)
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "toy.py").write_bytes(STRATEGY)
    return folder


def _edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


@pytest.fixture
def board_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "leaderboards"
    (folder / "records").mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    return _write_run


@pytest.fixture(scope="session")
def edit() -> Callable[..., None]:
    return _edit
