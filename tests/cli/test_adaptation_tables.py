"""What the terminal shows of an adaptation stream: errors by segment, no matrix of one cell."""

import io

import pytest
from rich.console import Console

from clgym.cli._tables import show_plan, show_record, show_seeds
from clgym.messages import ChosenPlugin, ChosenScenario, RunOutline, SegmentOutline
from clgym.results.record import Record

HASH = "0" * 64


def segment(number: int) -> dict:
    """Errors that are told apart by their digits."""
    return {
        "name": f"fog-{number}",
        "images": 1000,
        "error": 0.1 + number / 1000,
        "calibration_error": 0.0321,
        "largest_class": 0.75 if number == 2 else 0.0,
        "recovery": 0.015,
    }


def record_of(count: int, setting: str = "adaptation", seed: int = 0) -> Record:
    learned = {
        "accuracy_matrix": [[0.9, None], [0.4321, 0.8]],
        "test_counts": [1, 1],
        "accuracy_after": [0.8, 0.8],
        "task_aware_accuracy_after": [0.8, 0.8],
        "last_accuracy": 0.8,
        "average_incremental_accuracy": 0.8,
        "forgetting": None,
        "backward_transfer": None,
        "forward_transfer": None,
        "chance": [0.1, 0.1],
    }
    segments = [segment(i) for i in range(count)]
    result = {
        "strategy": {"name": "tent", "source_hash": HASH, "config": {}},
        "scenario": {"name": "c", "setting": setting, "config": {}, "digest": HASH},
        "sources": [],
        "seed": seed,
        "order_seed": None,
        "class_order": ["a", "b"],
        "kind": "adaptation" if setting == "adaptation" else "two-phases",
        "parameters": 1,
        "stored_samples": 0,
        "predictions": {"file": "predictions.safetensors", "sha256": HASH},
        "adaptation": {
            "model": {"name": "auto", "sha256": HASH},
            "predict": "before",
            "batch_size": 200,
            "reset_each_segment": False,
            "segments": segments,
            "domains": {s["name"]: s["error"] for s in segments},
            "mean_error": 0.2345 + seed / 100,
            "pooled_error": 0.2222,
            "per_class": {},
            "forward_per_image": 1.0 if setting == "adaptation" else None,
            "backward_per_image": 1.0 if setting == "adaptation" else None,
        },
    }
    if setting != "adaptation":
        result |= learned
    cost = {
        "wall_seconds": 5.0,
        "train_seconds": [],
        "predict_seconds": [2.0],
        "images_per_second": 500.0,
        "peak_memory_bytes": 2**20,
        "state_bytes": 1,
        "resumed": 0,
    }
    where = {
        "clgym": "0",
        "python": "3",
        "packages": {},
        "platform": "p",
        "machine": "m",
        "device": "cpu",
        "threads": 1,
        "engine": "process",
    }
    return Record.model_validate({"result": result, "cost": cost, "environment": where})


def shown(show, *args) -> str:
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    show(console, *args)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_every_segment_has_its_online_error():
    text = shown(show_record, record_of(4), "out")
    for number in range(4):
        assert f"{10 + number / 10:.2f}" in text
    assert "mean" in text and "23.45" in text and "pooled 22.22 %" in text
    assert "accuracy in %" not in text and "forgetting" not in text
    assert "1.00 forward, 1.00 backward per image" in text
    assert "2.0 s at 500 images/s" in text and "training" not in text


def test_a_collapsed_segment_is_named():
    lines = shown(show_record, record_of(4), "out").splitlines()
    assert [line.split()[0] for line in lines if "(collapsed)" in line] == ["fog-2"]


def test_of_many_segments_the_worst_are_shown_in_their_order():
    text = shown(show_record, record_of(135), "out")
    names = [line.split()[0] for line in text.splitlines() if line.strip().startswith("fog-")]
    assert names == [f"fog-{number}" for number in range(125, 135)]
    assert "10 worst of 135" in text


def test_two_phases_show_matrix_and_segments():
    text = shown(show_record, record_of(2, "learn-then-shift"), "out")
    assert "43.21" in text and "10.10" in text
    assert "not counted" in text


@pytest.mark.parametrize("setting", ["adaptation", "learn-then-shift"])
def test_seeds_show_the_mean_error(setting):
    records = [record_of(2, setting, seed) for seed in (0, 1)]
    text = shown(show_seeds, records, ["a", "b"])
    assert "23.45" in text and "24.45" in text and "23.95" in text and "0.71" in text
    assert ("last accuracy" in text) == (setting != "adaptation")


def test_a_plan_names_the_segments_and_no_training_images():
    plan = RunOutline(
        strategy=ChosenPlugin("tent", {}),
        scenario=ChosenScenario("digits-c", {}, "adaptation", HASH),
        sources=(),
        backbone=None,
        image_shape=(1, 8, 8),
        experiences=(SegmentOutline(classes=10, train=360, test=360, name="fog-5"),),
        seed=0,
        device="cpu",
        threads=1,
        numerics="",
        out="out",
    )
    text = shown(show_plan, plan)
    assert "fog-5 (360)" in text and "training images" not in text
