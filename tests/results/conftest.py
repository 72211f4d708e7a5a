"""Stored runs of every kind, every number from its formula in NumPy, none from the package."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

Arrays = dict[str, np.ndarray]
CLASSES, STEPS, PER_STEP = 6, 3, 20
SEGMENTS = (("fog-5", 0, 30), ("snow-5", 1, 50))
"""Name, domain and number of images."""


def _learned(draw: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
    """Class-incremental: two classes an experience; the first future experience is measured too."""
    arrays: Arrays = {}
    matrix: list[list[float | None]] = []
    after = []
    for i in range(STEPS):
        measured = range(min(i + 2, STEPS))
        step = np.repeat(measured, PER_STEP)
        row = np.concatenate([draw.permutation(100)[:PER_STEP] for _ in measured])
        label = 2 * step + draw.integers(0, 2, len(step))
        wrong = draw.random(len(step)) < 0.3
        predicted = np.where(wrong, (label + 1) % CLASSES, label)
        arrays |= {
            f"{i}/experience": step.astype(np.int32),
            f"{i}/row": row.astype(np.int64),
            f"{i}/label": label.astype(np.int32),
            f"{i}/predicted": predicted.astype(np.int32),
        }
        matrix.append(
            [1 - wrong[step == j].mean() if j in measured else None for j in range(STEPS)]
        )
        after.append(1 - wrong[step <= i].mean())
    full = np.array(matrix, dtype=float)
    last = STEPS - 1
    drops = [np.nanmax(full[j:last, j]) - full[last, j] for j in range(last)]
    gains = [full[last, j] - full[j, j] for j in range(last)]
    ahead = [full[j - 1, j] - 1 / CLASSES for j in range(1, STEPS)]
    return arrays, {
        "accuracy_matrix": matrix,
        "test_counts": [PER_STEP] * STEPS,
        "accuracy_after": after,
        "task_aware_accuracy_after": after,
        "last_accuracy": after[-1],
        "average_incremental_accuracy": sum(after) / STEPS,
        "forgetting": sum(drops) / last,
        "backward_transfer": sum(gains) / last,
        "forward_transfer": sum(ahead) / last,
        "chance": [1 / CLASSES] * STEPS,
    }


def _calibration_error(sure: np.ndarray, hits: np.ndarray) -> float:
    total = 0.0
    for k in range(15):
        here = (np.ceil(sure * 15) == k + 1) if k else (np.ceil(sure * 15) <= 1)
        if here.any():
            total += here.mean() * abs(hits[here].mean() - sure[here].astype(float).mean())
    return total


def _adapted(draw: np.random.Generator, prefix: str) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {}
    segments, every, domains = [], [], {}
    for number, (name, domain, n) in enumerate(SEGMENTS):
        label = draw.integers(0, CLASSES, n)
        wrong = draw.random(n) < 0.4
        predicted = np.where(wrong, (label + 1) % CLASSES, label)
        sure = draw.random(n).astype(np.float32)
        arrays |= {
            f"{prefix}{number}/domain": np.full(n, domain),
            f"{prefix}{number}/row": draw.permutation(n),
            f"{prefix}{number}/label": label.astype(np.int32),
            f"{prefix}{number}/predicted": predicted.astype(np.int32),
            f"{prefix}{number}/confidence": sure,
        }
        shares = [np.bincount(v, minlength=CLASSES).max() / n for v in (predicted, label)]
        segments.append(
            {
                "name": name,
                "images": n,
                "error": wrong.mean(),
                "calibration_error": _calibration_error(sure, ~wrong),
                "largest_class": shares[0] - shares[1],
                "recovery": wrong[: n // 5].mean() - wrong[n // 2 :].mean(),
            }
        )
        domains[name.partition("-")[0]] = wrong.mean()
        every.append((label, wrong))
    label, wrong = (np.concatenate(parts) for parts in zip(*every, strict=True))
    return arrays, {
        "model": {"name": "tiny", "sha256": "a" * 64},
        "predict": "before",
        "batch_size": 10,
        "reset_each_segment": False,
        "segments": segments,
        "domains": domains,
        "mean_error": sum(domains.values()) / len(domains),
        "pooled_error": wrong.mean(),
        "per_class": {
            f"toys/{c}": wrong[label == c].mean() if (label == c).any() else None
            for c in range(CLASSES)
        },
        "forward_per_image": 1.0,
        "backward_per_image": 0.0,
    }


SETTINGS = {
    "learning": "class-incremental",
    "adaptation": "adaptation",
    "two-phases": "learn-then-shift",
}


def _write_stored(folder: Path, kind: str = "learning", draw: int = 0, **facts: Any) -> Path:
    """Write a run of schema 2 with random predictions; ``facts`` replace fields of its result."""
    generator = np.random.default_rng(draw)
    arrays, measured = _learned(generator) if kind != "adaptation" else ({}, {})
    if kind != "learning":
        more, block = _adapted(generator, "shift/" if kind == "two-phases" else "")
        arrays, measured = arrays | more, {**measured, "adaptation": block}
    data = save(arrays)
    result = {
        "kind": kind,
        "strategy": {"name": "toy", "source_hash": "b" * 64, "config": {"lr": 0.1}},
        "scenario": {
            "name": "toys",
            "setting": SETTINGS[kind],
            "config": {"order_seed": None},
            "digest": "c" * 64,
        },
        "sources": [{"name": "toys", "fingerprint": "d" * 64, "flags": []}],
        "seed": 0,
        "order_seed": None,
        "class_order": [f"toys/{c}" for c in range(CLASSES)],
        **measured,
        "parameters": 10,
        "stored_samples": 0,
        "predictions": {
            "file": "predictions.safetensors",
            "sha256": hashlib.sha256(data).hexdigest(),
        },
        **facts,
    }
    cost = {
        "wall_seconds": 1.0,
        "train_seconds": [1.0],
        "predict_seconds": [0.5],
        "images_per_second": 10.0,
        "peak_memory_bytes": 1,
        "state_bytes": 1,
        "resumed": 0,
    }
    environment = {
        "clgym": "0",
        "python": "3",
        "packages": {},
        "platform": "p",
        "machine": "m",
        "device": "cpu",
        "threads": 1,
        "engine": "process",
    }
    record = {"schema_version": 2, "result": result, "cost": cost, "environment": environment}
    folder.mkdir(parents=True)
    (folder / "predictions.safetensors").write_bytes(data)
    (folder / "record.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="session")
def write_stored() -> Callable[..., Path]:
    return _write_stored
