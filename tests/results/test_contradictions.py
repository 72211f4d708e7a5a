"""What a record says against itself, against its predictions, or against the other side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from clgym.errors import BadRecord
from clgym.results.compare import compare
from clgym.results.conduct import Conduct
from clgym.results.consistency import impossible_numbers, own_problems
from clgym.results.holdings import HoldingFacts
from clgym.results.record import Record
from clgym.results.series import Series
from clgym.results.stored import open_run

Stored = Callable[..., Path]


@pytest.fixture
def record(write_stored: Stored, tmp_path: Path) -> Record:
    return open_run(write_stored(tmp_path / "run")).record


def held() -> Conduct:
    return Conduct(memory_capacity=10, memory_bytes=0, image_numbers=4)


@pytest.mark.parametrize(
    ("of_result", "of_record", "words"),
    [
        ({"stored_samples": 11}, {"conduct": held()}, "stored_samples is above"),
        ({}, {"holdings": HoldingFacts(total=11)}, "parameters is not holdings.total"),
        ({"stored_after": [0, 5, 4], "stored_samples": 5}, {}, "not the last of"),
        ({"stored_after": [0, 11, 4], "stored_samples": 4}, {"conduct": held()}, "stored_after is"),
    ],
)
def test_a_record_that_contradicts_itself_is_found(
    record: Record, of_result: dict[str, Any], of_record: dict[str, Any], words: str
) -> None:
    assert list(own_problems(record)) == []
    result = record.result.model_copy(update=of_result)
    (problem,) = own_problems(record.model_copy(update={"result": result, **of_record}))
    assert words in problem


@pytest.mark.parametrize(
    ("of_result", "of_cost", "words"),
    [
        ({}, {"wall_seconds": 4e8}, "wall_seconds is more than ten years"),
        ({}, {"gpu_utilisation": 1.5}, "gpu_utilisation is above 1"),
        ({"class_order": ["a", "b", "a"]}, {}, "class_order names a class twice"),
        ({"test_counts": [0, 0, 0]}, {}, "nothing was measured"),
    ],
)
def test_numbers_that_no_run_can_have_are_found(
    record: Record, of_result: dict[str, Any], of_cost: dict[str, Any], words: str
) -> None:
    assert list(impossible_numbers(record)) == []
    result = record.result.model_copy(update=of_result)
    cost = record.cost.model_copy(update=of_cost)
    (problem,) = impossible_numbers(record.model_copy(update={"result": result, "cost": cost}))
    assert words in problem


def test_segments_without_images_are_found(write_stored: Stored, tmp_path: Path) -> None:
    record = open_run(write_stored(tmp_path / "run", "adaptation")).record
    facts = record.result.adaptation
    assert facts is not None
    empty = facts.segments[0].model_copy(update={"images": 0})
    for segments in ([], [empty, facts.segments[1]]):
        changed = facts.model_copy(update={"segments": segments})
        result = record.result.model_copy(update={"adaptation": changed})
        (problem,) = own_problems(record.model_copy(update={"result": result}))
        assert "has no images, or a segment without" in problem


@pytest.mark.parametrize(
    ("arrays", "read"),
    [
        ({"0/head/nme": np.zeros(3, np.int32)}, lambda run: run.by_head(0)),
        (
            {
                "0/anytime_label": np.zeros(4, np.int32),
                "0/anytime_predicted": np.zeros(7, np.int32),
                "0/anytime_images": np.array([10, 20]),
            },
            lambda run: run.anytime(),
        ),
        (
            {
                "audit/experience": np.zeros(2, np.int32),
                "audit/row": np.arange(2),
                "audit/train": np.zeros(2, np.int32),
                "audit/label": np.zeros(2, np.int32),
                "audit/logits/0": np.zeros((2, 5), np.float32),
            },
            lambda run: run.audits(1),
        ),
        (
            {
                "probe/experience": np.zeros(2, np.int32),
                "probe/row": np.arange(3),
                "probe/label": np.zeros(2, np.int32),
            },
            lambda run: run.probed(),
        ),
    ],
    ids=["head", "anytime", "audit", "probe"],
)
def test_arrays_that_do_not_fit_one_another_are_refused(
    write_stored: Stored, tmp_path: Path, arrays: dict[str, np.ndarray], read: Callable
) -> None:
    folder = write_stored(tmp_path / "run")
    run = open_run(folder)
    kept = {**load_file(folder / "predictions.safetensors"), **arrays}
    predictions = type(run.predictions())(kept, run.result, folder / "predictions.safetensors")
    with pytest.raises(BadRecord, match=r"arrays of (different lengths|other shapes) in"):
        read(predictions)


def test_predictions_that_the_system_does_not_give_are_named(
    write_stored: Stored, tmp_path: Path
) -> None:
    folder = write_stored(tmp_path / "run")
    (folder / "predictions.safetensors").unlink()
    (folder / "predictions.safetensors").mkdir()
    with pytest.raises(BadRecord, match="directory"):
        open_run(folder).predictions()


def test_a_series_with_other_columns_or_rows_is_refused() -> None:
    whole = Series().as_csv()
    assert Series.from_csv(whole).as_csv() == whole
    with pytest.raises(ValueError, match="columns other than"):
        Series.from_csv(b"a,b\n1,2\n")
    with pytest.raises(ValueError, match="a row of another length"):
        Series.from_csv(whole + b"loss,1\n")


# --- two sides that cannot be compared -----------------------------------------------------------


def test_sides_without_a_common_seed_are_refused(write_stored: Stored, tmp_path: Path) -> None:
    sides = [write_stored(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    with pytest.raises(BadRecord, match="runs of the same seeds; found seed 0 and seed 1"):
        compare(*sides)


def test_two_runs_of_one_seed_on_one_side_are_refused(write_stored: Stored, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_stored(tmp_path / "side" / name)
    other = write_stored(tmp_path / "other")
    with pytest.raises(BadRecord, match="one run for each seed"):
        compare(tmp_path / "side", other)


def test_runs_of_other_streams_are_refused(write_stored: Stored, tmp_path: Path) -> None:
    scenario = {"name": "toys", "setting": "class-incremental", "config": {"order_seed": None}}
    sides = [
        write_stored(tmp_path / digit, scenario={**scenario, "digest": digit * 64})
        for digit in "ab"
    ]
    with pytest.raises(BadRecord, match="two runs of the same stream; found toys aaaaaaaa and"):
        compare(*sides)


def test_options_that_differ_name_two_runs_of_one_method(
    write_stored: Stored, tmp_path: Path
) -> None:
    sides = [
        write_stored(
            tmp_path / str(rate),
            strategy={"name": "toy", "source_hash": "b" * 64, "config": {"lr": rate, "width": 3}},
        )
        for rate in (0.1, 0.2)
    ]
    found = compare(*sides)
    assert (found.a, found.b) == ("toy (lr 0.1)", "toy (lr 0.2)")


def test_predictions_for_other_labels_are_not_paired(write_stored: Stored, tmp_path: Path) -> None:
    """With equal digests of the stream the rows must be the same."""
    sides = [write_stored(tmp_path / str(draw), draw=draw) for draw in (0, 1)]
    with pytest.raises(BadRecord, match="the same test rows on both sides; found another row"):
        compare(*sides)
